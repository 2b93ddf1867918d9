//! `PATCH /users/{user_id}`, operation `UpdateUser` of 2026-05-12: since that
//! version without metadata and never `banned` or `locked`.

use super::form::Form;
use super::{Answer, create, users, validate};
use crate::config::Attribute;
use crate::instance::Instance;
use crate::refusal::Refusal;
use crate::store::Credentials;
use crate::user::{Identifier, User};

const FIELDS: [&str; 23] = [
    "external_id",
    "first_name",
    "last_name",
    "locale",
    "primary_email_address_id",
    "notify_primary_email_address_changed",
    "primary_phone_number_id",
    "primary_web3_wallet_id",
    "username",
    "profile_image_id",
    "password",
    "password_digest",
    "password_hasher",
    "skip_password_checks",
    "sign_out_of_other_sessions",
    "totp_secret",
    "backup_codes",
    "delete_self_enabled",
    "create_organization_enabled",
    "legal_accepted_at",
    "skip_legal_checks",
    "create_organizations_limit",
    "created_at",
];

pub(crate) fn user(instance: &Instance, id: &str, form: &Form) -> Answer {
    let settings = instance.settings();
    form.only(|name| {
        (FIELDS.contains(&name) || name == "bypass_client_trust")
            && (name != "username" || settings.has(Attribute::Username))
    })?;
    if instance.user(id).is_none() {
        return Err(Refusal::user_not_found(id));
    }
    instance.admit_change(id)?;
    let now = instance.now_ms();
    let mut kept = Credentials::default();
    let answer = users::change(instance, id, |user| {
        profile(form, user)?;
        primaries(form, user)?;
        flags(form, user)?;
        kept = create::credentials(form, &settings, user, now)?;
        Ok(())
    })?;
    if kept != Credentials::default() {
        instance.store().keep_credentials(id, kept);
    }
    Ok(answer)
}

fn profile(form: &Form, user: &mut User) -> Result<(), Refusal> {
    let filled = |value: Option<String>| value.filter(|text| !text.is_empty());
    if let Some(value) = form.maybe_text("external_id")? {
        user.external_id = filled(value);
    }
    for (name, slot) in [("first_name", &mut user.first_name), ("last_name", &mut user.last_name)] {
        if let Some(value) = form.maybe_text(name)? {
            *slot = filled(value);
            slot.as_deref().map_or(Ok(()), |value| validate::person(name, value))?;
        }
    }
    if let Some(value) = form.maybe_text("locale")? {
        user.locale = filled(value);
        user.locale.as_deref().map_or(Ok(()), validate::locale)?;
    }
    if let Some(value) = form.maybe_text("username")? {
        user.username = filled(value);
        user.username.as_deref().map_or(Ok(()), validate::username)?;
        if !user.identifiable() {
            return Err(Refusal::last_identification());
        }
    }
    Ok(())
}

fn primaries(form: &Form, user: &mut User) -> Result<(), Refusal> {
    let pick = |name: &str, list: &[Identifier]| -> Result<Option<String>, Refusal> {
        let Some(id) = form.text(name)? else { return Ok(None) };
        let found =
            list.iter().find(|i| i.id == id).ok_or_else(|| Refusal::resource_missing(name))?;
        if found.verified() { Ok(Some(id)) } else { Err(Refusal::unverified(name)) }
    };
    if let Some(id) = pick("primary_email_address_id", &user.email_addresses)? {
        user.primary_email_address_id = Some(id);
    }
    if let Some(id) = pick("primary_phone_number_id", &user.phone_numbers)? {
        user.primary_phone_number_id = Some(id);
    }
    if let Some(id) = pick("primary_web3_wallet_id", &user.web3_wallets)? {
        user.primary_web3_wallet_id = Some(id);
    }
    Ok(())
}

fn flags(form: &Form, user: &mut User) -> Result<(), Refusal> {
    // Read only so that a wrong type is refused; neither mails nor sessions
    // nor images exist here.
    form.flag("notify_primary_email_address_changed")?;
    form.flag("sign_out_of_other_sessions")?;
    form.flag("skip_legal_checks")?;
    form.maybe_text("profile_image_id")?;
    for (name, slot) in [
        ("delete_self_enabled", &mut user.delete_self_enabled),
        ("create_organization_enabled", &mut user.create_organization_enabled),
        ("bypass_client_trust", &mut user.bypass_client_trust),
    ] {
        if let Some(value) = form.flag(name)? {
            *slot = value;
        }
    }
    if let Some(limit) = form.maybe_integer("create_organizations_limit")? {
        user.create_organizations_limit = limit;
    }
    if let Some(at) = form.time("legal_accepted_at")? {
        user.legal_accepted_at = Some(at);
    }
    if let Some(at) = form.time("created_at")? {
        user.created_at = at;
    }
    Ok(())
}
