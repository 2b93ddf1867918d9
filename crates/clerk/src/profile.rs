//! Everything of a user that the target can be given, in one canonical form.
//!
//! The form is what the export journals, what the account is made of, and what verification
//! compares. Defaults are left out, so that an average user takes a few hundred bytes; field
//! order is fixed and objects are sorted, so that equal profiles are equal text.
//!
//! What a source user has and no API can carry (a password, a passkey) is counted in
//! [`Profile::not_carried`], so that a report can say it before anybody misses it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::alias;
use crate::api::{Identification, User};

/// How sure an instance is that an identifier belongs to its user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Proven. Unique within the instance.
    Verified,
    /// Not proven, but locked to this user. Unique within the instance.
    Reserved,
    /// Not proven, and free for whoever proves it first.
    Unverified,
}

impl Status {
    fn of(identification: &Identification) -> Self {
        if identification.is_verified() {
            Self::Verified
        } else if identification.reserved {
            Self::Reserved
        } else {
            Self::Unverified
        }
    }

    /// Whether no second user of the same instance can hold the identifier so.
    pub const fn is_exclusive(self) -> bool {
        match self {
            Self::Verified | Self::Reserved => true,
            Self::Unverified => false,
        }
    }
}

/// The form's version; raised when a field changes its meaning.
const VERSION: u32 = 1;

/// A user as it is carried. Times are Unix milliseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Profile {
    /// The form's version.
    v: u32,
    /// Addresses as the source spells them, the primary one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<(String, Status)>,
    /// Numbers in E.164, the primary one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<(String, Status)>,
    /// Verified wallets, the primary one first. An unverified one stays behind: the API has no
    /// way to create it other than as verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wallets: Vec<String>,
    /// The username.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The given name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// The family name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// The locale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The source's own external id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Public metadata.
    #[serde(default, rename = "public", skip_serializing_if = "Map::is_empty")]
    pub public_metadata: Map<String, Value>,
    /// Private metadata.
    #[serde(default, rename = "private", skip_serializing_if = "Map::is_empty")]
    pub private_metadata: Map<String, Value>,
    /// Unsafe metadata.
    #[serde(default, rename = "unsafe", skip_serializing_if = "Map::is_empty")]
    pub unsafe_metadata: Map<String, Value>,
    /// Sign-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<i64>,
    /// When the legal terms were accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_accepted_at: Option<i64>,
    /// Whether the user may create organizations.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub create_organization_enabled: bool,
    /// How many; `None` for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_organizations_limit: Option<i64>,
    /// Whether users may delete themselves.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub delete_self_enabled: bool,
    /// Whether device trust is bypassed.
    #[serde(default, skip_serializing_if = "is_no")]
    pub bypass_client_trust: bool,
    /// Whether the user is banned.
    #[serde(default, skip_serializing_if = "is_no")]
    pub banned: bool,
    /// Whether the user is locked for good. A lock that ends by itself stays behind: the target
    /// could only be given one that does not.
    #[serde(default, skip_serializing_if = "is_no")]
    pub locked: bool,
    /// What the source has and no request can carry, with how many of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_carried: BTreeMap<String, u32>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_yes(value: &bool) -> bool {
    *value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_no(value: &bool) -> bool {
    !*value
}

const fn yes() -> bool {
    true
}

impl Profile {
    /// The profile of a user as the API shows it.
    pub fn of(user: &User) -> Self {
        let wallets = primary_first(&user.web3_wallets, user.primary_web3_wallet_id.as_deref());
        Self {
            v: VERSION,
            emails: with_status(&user.email_addresses, user.primary_email_address_id.as_deref()),
            phones: with_status(&user.phone_numbers, user.primary_phone_number_id.as_deref()),
            wallets: wallets
                .into_iter()
                .filter(|wallet| wallet.is_verified())
                .map(|wallet| wallet.value.clone())
                .collect(),
            username: some_text(user.username.as_deref()),
            first_name: some_text(user.first_name.as_deref()),
            last_name: some_text(user.last_name.as_deref()),
            locale: some_text(user.locale.as_deref()),
            external_id: some_text(user.external_id.as_deref()),
            public_metadata: user.public_metadata.clone(),
            private_metadata: user.private_metadata.clone(),
            unsafe_metadata: user.unsafe_metadata.clone(),
            created_at: user.created_at,
            legal_accepted_at: user.legal_accepted_at,
            create_organization_enabled: user.create_organization_enabled.unwrap_or(true),
            // Schema `User`: "0 means unlimited".
            create_organizations_limit: user.create_organizations_limit.filter(|limit| *limit != 0),
            delete_self_enabled: user.delete_self_enabled.unwrap_or(true),
            bypass_client_trust: user.bypass_client_trust,
            banned: user.banned,
            locked: user.locked && user.lockout_expires_in_seconds.is_none(),
            not_carried: not_carried(user),
        }
    }

    /// Reads what [`Profile::to_json`] wrote.
    ///
    /// # Errors
    /// When it is not a profile, or one of a later version.
    pub fn from_json(value: &Value) -> Result<Self, Unreadable> {
        let profile = Self::deserialize(value).map_err(Unreadable::Shape)?;
        if profile.v > VERSION {
            return Err(Unreadable::Version { found: profile.v });
        }
        Ok(profile)
    }

    /// The canonical form.
    pub fn to_json(&self) -> Value {
        // A profile holds only strings as keys and finite numbers: there is nothing in it that
        // JSON cannot hold.
        sorted(serde_json::to_value(self).unwrap_or_default())
    }

    /// The first 128 bits of the SHA-256 of the canonical form, in hexadecimal. Equal profiles
    /// have equal fingerprints, in every run and on every machine.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.to_json().to_string());
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Every identifier, normalised, with how surely the source says it is this user's.
    pub fn claims(&self) -> Vec<(String, Status)> {
        let emails = self.emails.iter();
        let phones = self.phones.iter();
        let mut claims: Vec<_> = emails
            .map(|(address, status)| (alias::email(address), *status))
            .chain(phones.map(|(number, status)| (alias::phone(number), *status)))
            .collect();
        // A username is exclusive, but proves nothing: the same word in two instances may well
        // be two people.
        let username = self.username.as_deref().map(alias::username);
        claims.extend(username.map(|alias| (alias, Status::Reserved)));
        let wallets = self.wallets.iter();
        claims.extend(wallets.map(|wallet| (alias::wallet(wallet), Status::Verified)));
        claims
    }

    /// The names under which the journal finds this user again: every identifier, and the
    /// source's own external id.
    pub fn aliases(&self) -> Vec<String> {
        let mut aliases: Vec<_> = self.claims().into_iter().map(|(alias, _)| alias).collect();
        aliases.extend(self.external_id.as_deref().map(alias::external_id));
        aliases.sort();
        aliases.dedup();
        aliases
    }

    /// How a person recognises the user: the primary address, else the primary number, else the
    /// username.
    pub fn label(&self) -> Option<&str> {
        self.emails
            .first()
            .or_else(|| self.phones.first())
            .map(|(value, _)| value.as_str())
            .or(self.username.as_deref())
    }
}

/// A journaled profile that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It has another shape.
    #[error("this is not a journaled profile")]
    Shape(#[source] serde_json::Error),
    /// A later rehome wrote it.
    #[error("the profile has version {found}, this program knows {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
}

/// The same value with every object's keys sorted, however the map type orders them.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<_, _> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

fn some_text(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn primary_first<'a>(list: &'a [Identification], primary: Option<&str>) -> Vec<&'a Identification> {
    let is_primary = |item: &&Identification| primary.is_some() && item.id.as_deref() == primary;
    let mut ordered: Vec<_> = list.iter().filter(is_primary).collect();
    let mut others: Vec<_> = list.iter().filter(|item| !is_primary(item)).collect();
    // The API promises no order for the rest.
    others.sort_by(|a, b| a.value.cmp(&b.value));
    ordered.extend(others);
    ordered
}

fn with_status(list: &[Identification], primary: Option<&str>) -> Vec<(String, Status)> {
    primary_first(list, primary)
        .into_iter()
        .map(|item| (item.value.clone(), Status::of(item)))
        .collect()
}

fn not_carried(user: &User) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    let mut note = |what: String, count: usize| {
        if count > 0 {
            *counts.entry(what).or_insert(0) += u32::try_from(count).unwrap_or(u32::MAX);
        }
    };
    note("password".to_owned(), usize::from(user.password_enabled));
    note("totp".to_owned(), usize::from(user.totp_enabled));
    note("backup_codes".to_owned(), usize::from(user.backup_code_enabled));
    note("passkey".to_owned(), user.passkeys.len());
    note("image".to_owned(), usize::from(user.has_image));
    note("saml_account".to_owned(), user.saml_accounts.len());
    note("enterprise_account".to_owned(), user.enterprise_accounts.len());
    for account in &user.external_accounts {
        note(format!("external_account:{}", account.provider), 1);
    }
    let second_factor = user.phone_numbers.iter();
    note(
        "phone_second_factor".to_owned(),
        second_factor.filter(|phone| phone.reserved_for_second_factor).count(),
    );
    let wallets = user.web3_wallets.iter();
    note("unverified_wallet".to_owned(), wallets.filter(|wallet| !wallet.is_verified()).count());
    let temporary = user.locked && user.lockout_expires_in_seconds.is_some();
    note("temporary_lock".to_owned(), usize::from(temporary));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn of(user: Value) -> Profile {
        Profile::of(&serde_json::from_value(user).unwrap())
    }

    /// Any JSON, with the API's own field names among the keys so that some of it looks right.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let name = prop_oneof![
                Just("id".to_owned()),
                Just("v".to_owned()),
                Just("emails".to_owned()),
                Just("email_addresses".to_owned()),
                Just("email_address".to_owned()),
                Just("verification".to_owned()),
                Just("public_metadata".to_owned()),
                Just("created_at".to_owned()),
                ".{0,6}",
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(name, inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn any_user() -> impl Strategy<Value = Value> {
        let address = || (".{1,12}", any::<bool>(), any::<bool>());
        (
            proptest::collection::vec(address(), 0..4),
            proptest::option::of(".{0,8}"),
            any_json(),
            any::<Option<i64>>(),
            any::<[bool; 5]>(),
        )
            .prop_map(|(emails, username, metadata, created_at, flags)| {
                let emails: Vec<_> = emails
                    .into_iter()
                    .enumerate()
                    .map(|(id, (value, verified, reserved))| {
                        let status = if verified { "verified" } else { "unverified" };
                        json!({"id": format!("idn_{id}"), "email_address": value,
                               "reserved": reserved, "verification": {"status": status}})
                    })
                    .collect();
                json!({
                    "id": "user_1", "email_addresses": emails, "username": username,
                    "primary_email_address_id": "idn_1", "public_metadata": {"any": metadata},
                    "created_at": created_at, "banned": flags[0], "locked": flags[1],
                    "delete_self_enabled": flags[2], "create_organization_enabled": flags[3],
                    "bypass_client_trust": flags[4],
                })
            })
    }

    proptest! {
        #[test]
        fn any_json_is_survived(value in any_json()) {
            drop(Profile::from_json(&value));
            drop(crate::Journaled::from_json(&value));
            if let Ok(user) = serde_json::from_value::<User>(value) {
                drop(Profile::of(&user));
            }
        }

        #[test]
        fn a_profile_comes_back_from_the_journal_as_it_was(user in any_user()) {
            let profile = of(user);
            let text = profile.to_json().to_string();
            let back = Profile::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
            prop_assert_eq!(&back, &profile);
            prop_assert_eq!(back.to_json().to_string(), text);
            prop_assert_eq!(back.fingerprint(), profile.fingerprint());
        }
    }

    #[test]
    fn the_primary_comes_first_and_the_form_is_short() {
        let profile = of(json!({
            "id": "user_1", "object": "user", "primary_email_address_id": "b",
            "email_addresses": [
                {"id": "a", "email_address": "A@x.org", "verification": {"status": "verified"}},
                {"id": "b", "email_address": "b@x.org", "verification": {"status": "expired"}},
            ],
            "username": "", "first_name": "Ada", "private_metadata": null,
            "delete_self_enabled": true, "create_organizations_limit": 0,
            "created_at": 1_600_000_000_000_i64, "something": "new",
        }));
        assert_eq!(
            profile.to_json().to_string(),
            r#"{"created_at":1600000000000,"emails":[["b@x.org","unverified"],["A@x.org","verified"]],"first_name":"Ada","v":1}"#
        );
        assert_eq!(profile.aliases(), ["email:a@x.org", "email:b@x.org"]);
        assert_eq!(profile.label(), Some("b@x.org"));
    }

    #[test]
    fn what_stays_behind_is_counted() {
        let profile = of(json!({
            "id": "user_1", "password_enabled": true, "totp_enabled": true, "has_image": true,
            "passkeys": [{}, {}], "locked": true, "lockout_expires_in_seconds": 60,
            "external_accounts": [{"provider": "oauth_google"}, {"provider": "oauth_google"}],
            "web3_wallets": [
                {"web3_wallet": "0xA", "verification": null},
                {"web3_wallet": "0xB", "verification": {"status": "verified"}},
            ],
        }));
        assert!(!profile.locked, "a lock that ends by itself is not made endless");
        assert_eq!(profile.wallets, ["0xB"]);
        assert_eq!(
            json!(profile.not_carried),
            json!({"password": 1, "totp": 1, "image": 1, "passkey": 2, "unverified_wallet": 1,
                   "external_account:oauth_google": 2, "temporary_lock": 1})
        );
    }

    #[test]
    fn a_profile_of_a_later_version_is_not_misread() {
        let later = json!({"v": VERSION + 1});
        assert!(matches!(Profile::from_json(&later), Err(Unreadable::Version { .. })));
    }
}
