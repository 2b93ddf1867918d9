//! `POST /users`, operation `CreateUser`.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::form::Form;
use super::{Answer, claims, json_of, validate};
use crate::config::{Attribute, Settings};
use crate::instance::{Effect, Instance};
use crate::refusal::Refusal;
use crate::store::Credentials;
use crate::user::{Identifier, Metadata, User, Verification};

/// Every property of the operation's body (specification of 2026-05-12).
const FIELDS: [&str; 31] = [
    "external_id",
    "first_name",
    "last_name",
    "locale",
    "email_address",
    "email_address_identification_status",
    "phone_number",
    "phone_number_identification_status",
    "web3_wallet",
    "username",
    "password",
    "password_digest",
    "password_hasher",
    "skip_password_checks",
    "skip_password_requirement",
    "totp_secret",
    "backup_codes",
    "public_metadata",
    "private_metadata",
    "unsafe_metadata",
    "delete_self_enabled",
    "legal_accepted_at",
    "skip_legal_checks",
    "skip_user_requirement",
    "create_organization_enabled",
    "create_organizations_limit",
    "created_at",
    "bypass_client_trust",
    "banned",
    "locked",
    // Not in the specification; only with the setting of that name.
    "skip_restriction_checks",
];

/// The hashers of Clerk's reference of `createUser`.
const HASHERS: [&str; 22] = [
    "argon2i",
    "argon2id",
    "awscognito",
    "bcrypt",
    "bcrypt_peppered",
    "bcrypt_sha256_django",
    "hmac_sha256_utf16_b64",
    "ldap_ssha",
    "md5",
    "md5_phpass",
    "md5_salted",
    "pbkdf2_sha1",
    "pbkdf2_sha256",
    "pbkdf2_sha256_django",
    "pbkdf2_sha512",
    "pbkdf2_sha512_hex",
    "phpass",
    "scrypt_firebase",
    "scrypt_werkzeug",
    "sha256",
    "sha256_salted",
    "sha512_symfony",
];

/// Makes a user, or says everything that stands against it.
pub(crate) fn user(instance: &Instance, form: &Form) -> Answer {
    let settings = instance.settings();
    form.only(|name| known(&settings, name))?;
    let now = instance.now_ms();
    let created_at = form.time("created_at")?.unwrap_or(now);
    let mut user = User::empty(instance.ids.next("user_"), created_at, now);

    user.last_active_at = settings.active_at_creation.then_some(now);
    user.external_id = form.text("external_id")?;
    profile(form, &mut user)?;
    for kind in [Attribute::EmailAddress, Attribute::PhoneNumber, Attribute::Web3Wallet] {
        let list = addresses(instance, &settings, form, kind, now)?;
        let primary = list.first().map(|first| first.id.clone());
        match kind {
            Attribute::EmailAddress => {
                (user.email_addresses, user.primary_email_address_id) = (list, primary);
            }
            Attribute::PhoneNumber => {
                (user.phone_numbers, user.primary_phone_number_id) = (list, primary);
            }
            Attribute::Web3Wallet => {
                (user.web3_wallets, user.primary_web3_wallet_id) = (list, primary);
            }
            Attribute::Username => {}
        }
    }
    user.username = form.text("username")?;
    if let Some(name) = &user.username {
        validate::username(name)?;
    }
    metadata(form, &mut user)?;
    flags(form, &settings, &mut user)?;
    let credentials = credentials(form, &settings, &mut user, now)?;
    requirements(form, &settings, &user)?;
    restrictions(form, &settings, &user)?;

    let mut store = instance.store();
    claims::check(&store, &user)?;
    if let Some(cap) = settings.user_cap
        && store.len() as u64 >= cap
    {
        return Err(Refusal::quota(cap));
    }
    if settings.visibility_delay_ms > 0 {
        let until = Instant::now() + Duration::from_millis(settings.visibility_delay_ms);
        store.hide(&user.id, until);
    }
    if credentials != Credentials::default() {
        store.keep_credentials(&user.id, credentials);
    }
    let user = store.put(user);
    drop(store);
    let answer = json_of(&*user);
    instance.tell(Effect::Created { instance: instance.id().to_owned(), user });
    answer
}

fn known(settings: &Settings, name: &str) -> bool {
    let off = |kind: Attribute| !settings.has(kind);
    let disabled = match name {
        "email_address" | "email_address_identification_status" => off(Attribute::EmailAddress),
        "phone_number" | "phone_number_identification_status" => off(Attribute::PhoneNumber),
        "username" => off(Attribute::Username),
        "web3_wallet" => off(Attribute::Web3Wallet),
        "skip_restriction_checks" => !settings.skip_restriction_checks,
        _ => false,
    };
    !disabled && FIELDS.contains(&name)
}

fn profile(form: &Form, user: &mut User) -> Result<(), Refusal> {
    user.first_name = form.text("first_name")?;
    user.last_name = form.text("last_name")?;
    user.locale = form.text("locale")?;
    for (name, value) in [("first_name", &user.first_name), ("last_name", &user.last_name)] {
        if let Some(value) = value {
            validate::person(name, value)?;
        }
    }
    user.locale.as_deref().map_or(Ok(()), validate::locale)
}

fn addresses(
    instance: &Instance,
    settings: &Settings,
    form: &Form,
    kind: Attribute,
    now: i64,
) -> Result<Vec<Identifier>, Refusal> {
    let name = kind.param();
    let status_name = format!("{name}_identification_status");
    let mut values = form.texts(name)?;
    let statuses = match kind {
        Attribute::EmailAddress | Attribute::PhoneNumber => form.texts(&status_name)?,
        Attribute::Username | Attribute::Web3Wallet => Vec::new(),
    };
    if !statuses.is_empty() && statuses.len() != values.len() {
        return Err(Refusal::length_mismatch(&status_name, name));
    }
    for value in &mut values {
        match kind {
            Attribute::EmailAddress => validate::email(name, value)?,
            Attribute::PhoneNumber => validate::phone(name, value)?,
            Attribute::Web3Wallet => validate::wallet(name, value)?,
            Attribute::Username => {}
        }
        if kind == Attribute::EmailAddress && settings.lower_case_emails {
            *value = value.to_lowercase();
        }
    }
    let distinct: HashSet<String> = values.iter().map(|v| crate::store::fold(v)).collect();
    if distinct.len() != values.len() {
        return Err(Refusal::duplicate_values(name));
    }
    let mut list = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let reserved = match statuses.get(index).map(String::as_str) {
            None | Some("verified") => false,
            Some("reserved") => true,
            Some(other) => return Err(Refusal::bad_value(&status_name, other)),
        };
        list.push(Identifier {
            id: instance.ids.next("idn_"),
            value,
            reserved,
            verification: (!reserved).then(Verification::admin),
            linked_to: Vec::new(),
            reserved_for_second_factor: false,
            created_at: now,
            updated_at: now,
        });
    }
    Ok(list)
}

fn metadata(form: &Form, user: &mut User) -> Result<(), Refusal> {
    let read = |name| -> Result<Metadata, Refusal> { Ok(form.object(name)?.unwrap_or_default()) };
    user.public_metadata = read("public_metadata")?;
    user.private_metadata = read("private_metadata")?;
    user.unsafe_metadata = read("unsafe_metadata")?;
    let name = ["public_metadata", "private_metadata", "unsafe_metadata"]
        .into_iter()
        .find(|name| form.has(name))
        .unwrap_or("public_metadata");
    validate::metadata_size(
        name,
        [&user.public_metadata, &user.private_metadata, &user.unsafe_metadata],
    )
}

fn flags(form: &Form, settings: &Settings, user: &mut User) -> Result<(), Refusal> {
    user.delete_self_enabled = form.flag("delete_self_enabled")?.unwrap_or(true);
    user.create_organization_enabled = form.flag("create_organization_enabled")?.unwrap_or(true);
    user.create_organizations_limit = form.maybe_integer("create_organizations_limit")?.flatten();
    user.legal_accepted_at = form.time("legal_accepted_at")?;
    user.bypass_client_trust = form.flag("bypass_client_trust")?.unwrap_or(false);
    user.banned = form.flag("banned")?.unwrap_or(false);
    user.locked = form.flag("locked")?.unwrap_or(false);
    if user.banned && !settings.ban_plan {
        return Err(Refusal::plan_lacks_ban());
    }
    if user.locked && !settings.lockout {
        return Err(Refusal::feature_off(Some("locked")));
    }
    if settings.lockout {
        user.verification_attempts_remaining = Some(if user.locked { 0 } else { 100 });
    }
    Ok(())
}

/// Passwords and second factors; shared with `PATCH /users/{id}`.
pub(crate) fn credentials(
    form: &Form,
    settings: &Settings,
    user: &mut User,
    now: i64,
) -> Result<Credentials, Refusal> {
    let password = form.text("password")?;
    let digest = form.text("password_digest")?;
    let hasher = form.text("password_hasher")?;
    let unchecked = form.flag("skip_password_checks")?.unwrap_or(false);
    if password.is_some() && digest.is_some() {
        return Err(Refusal::not_with("password_digest", "password"));
    }
    if password.as_ref().is_some_and(|text| !unchecked && text.chars().count() < 8) {
        return Err(Refusal::password_too_short());
    }
    match (&digest, &hasher) {
        (Some(_), None) => return Err(Refusal::missing_with("password_hasher", "password_digest")),
        (None, Some(_)) => return Err(Refusal::missing_with("password_digest", "password_hasher")),
        (Some(digest), Some(hasher)) => {
            if !HASHERS.contains(&hasher.as_str()) {
                return Err(Refusal::bad_value("password_hasher", hasher));
            }
            if hasher == "bcrypt" && !is_bcrypt(digest) {
                return Err(Refusal::digest_invalid());
            }
        }
        (None, None) => {}
    }
    if password.is_some() || digest.is_some() {
        user.password_enabled = true;
        user.password_last_updated_at = Some(now);
    }
    let totp_secret = form.text("totp_secret")?;
    let backup_codes = form.texts("backup_codes")?;
    if totp_secret.is_some() || !backup_codes.is_empty() {
        if !settings.second_factors {
            let name = if totp_secret.is_some() { "totp_secret" } else { "backup_codes" };
            return Err(Refusal::feature_off(Some(name)));
        }
        if totp_secret.as_deref().is_some_and(|secret| !is_base32(secret)) {
            return Err(Refusal::totp_secret_invalid());
        }
        user.totp_enabled |= totp_secret.is_some();
        user.backup_code_enabled |= !backup_codes.is_empty();
        user.two_factor_enabled = user.totp_enabled;
        user.mfa_enabled_at = user.totp_enabled.then_some(now);
    }
    Ok(Credentials { password_digest: digest, password_hasher: hasher, totp_secret, backup_codes })
}

fn is_bcrypt(digest: &str) -> bool {
    let mut parts = digest.split('$').skip(1);
    let version = parts.next().is_some_and(|v| ["2a", "2b", "2x", "2y"].contains(&v));
    let cost = parts.next().is_some_and(|c| c.len() == 2 && c.bytes().all(|b| b.is_ascii_digit()));
    let rest = parts.next().is_some_and(|r| {
        r.len() == 53 && r.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
    });
    digest.starts_with('$') && version && cost && rest && parts.next().is_none()
}

fn is_base32(secret: &str) -> bool {
    let body = secret.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
}

/// At least one identifier always; the instance's required ones, a password
/// and the legal consent unless the body waives them.
fn requirements(form: &Form, settings: &Settings, user: &User) -> Result<(), Refusal> {
    let given = |kind: Attribute| match kind {
        Attribute::Username => user.username.is_some(),
        Attribute::EmailAddress | Attribute::PhoneNumber | Attribute::Web3Wallet => {
            !crate::store::identifiers(user, kind).is_empty()
        }
    };
    let mut missing: Vec<&str> = Vec::new();
    if !form.flag("skip_user_requirement")?.unwrap_or(false) {
        missing.extend(settings.required.iter().filter(|k| !given(**k)).map(|k| k.param()));
    }
    if missing.is_empty() && !user.identifiable() {
        missing.extend(settings.attributes.iter().map(|kind| kind.param()));
    }
    let passwordless = form.flag("skip_password_requirement")?.unwrap_or(false);
    if settings.password_required && !passwordless && !user.password_enabled {
        missing.push("password");
    }
    let unlegal = form.flag("skip_legal_checks")?.unwrap_or(false);
    if settings.legal_consent_required && !unlegal && user.legal_accepted_at.is_none() {
        missing.push("legal_accepted_at");
    }
    if missing.is_empty() { Ok(()) } else { Err(Refusal::data_missing(&missing)) }
}

fn restrictions(form: &Form, settings: &Settings, user: &User) -> Result<(), Refusal> {
    if form.flag("skip_restriction_checks")?.unwrap_or(false) {
        return Ok(());
    }
    let refused: Vec<&str> = user
        .email_addresses
        .iter()
        .chain(&user.phone_numbers)
        .map(|identifier| identifier.value.as_str())
        .filter(|value| is_refused(settings, value))
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(Refusal::not_allowed(&refused)) }
}

/// Whether the instance's block list stands against an address.
pub(crate) fn is_refused(settings: &Settings, value: &str) -> bool {
    settings.refused_addresses.iter().any(|pattern| validate::matches_pattern(pattern, value))
}
