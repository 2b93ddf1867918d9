//! The one request that makes an account of a profile (`CreateUser`).
//!
//! Everything goes into that one request: an account that is made in several steps is half an
//! account when the second step fails. Identifiers that the source has not proven are created
//! `reserved`, never `verified`: whoever typed somebody else's address into a sign-up form must
//! not come out of a migration as its owner.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::policy::Attribute;
use crate::profile::{Profile, Status};

/// The body of `CreateUser`; only fields that the specification names, because unknown ones are
/// refused.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CreateUser {
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    email_address: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    email_address_identification_status: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    phone_number: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    phone_number_identification_status: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    web3_wallet: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    public_metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    private_metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    unsafe_metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    legal_accepted_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_organization_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_organizations_limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_self_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bypass_client_trust: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    banned: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locked: Option<bool>,
    // The source has judged these users; the target's rules for sign-up are not for them.
    skip_password_requirement: bool,
    skip_legal_checks: bool,
    skip_user_requirement: bool,
}

impl CreateUser {
    /// The form for `profile`, under `external_id`, without what `without` names.
    pub fn new(
        profile: &Profile,
        external_id: Option<String>,
        without: &BTreeSet<Attribute>,
    ) -> Self {
        let profile = profile.without(without);
        Self {
            external_id,
            email_address: values(&profile.emails),
            email_address_identification_status: statuses(&profile.emails),
            phone_number: values(&profile.phones),
            phone_number_identification_status: statuses(&profile.phones),
            web3_wallet: profile.wallets,
            username: profile.username,
            first_name: profile.first_name,
            last_name: profile.last_name,
            locale: profile.locale,
            public_metadata: profile.public_metadata,
            private_metadata: profile.private_metadata,
            unsafe_metadata: profile.unsafe_metadata,
            created_at: profile.created_at.and_then(date),
            legal_accepted_at: profile.legal_accepted_at.and_then(date),
            create_organization_enabled: no(profile.create_organization_enabled),
            create_organizations_limit: profile.create_organizations_limit,
            delete_self_enabled: no(profile.delete_self_enabled),
            bypass_client_trust: yes(profile.bypass_client_trust),
            banned: yes(profile.banned),
            locked: yes(profile.locked),
            skip_password_requirement: true,
            skip_legal_checks: true,
            skip_user_requirement: true,
        }
    }

    /// Whether the form names anything by which the account could sign in; the API refuses one
    /// that does not.
    pub fn has_identifier(&self) -> bool {
        !(self.email_address.is_empty()
            && self.phone_number.is_empty()
            && self.web3_wallet.is_empty()
            && self.username.is_none())
    }

    /// Whether the form carries this attribute.
    pub fn carries(&self, attribute: Attribute) -> bool {
        match attribute {
            Attribute::EmailAddress => !self.email_address.is_empty(),
            Attribute::PhoneNumber => !self.phone_number.is_empty(),
            Attribute::Username => self.username.is_some(),
            Attribute::Web3Wallet => !self.web3_wallet.is_empty(),
            Attribute::FirstName => self.first_name.is_some(),
            Attribute::LastName => self.last_name.is_some(),
            Attribute::Locale => self.locale.is_some(),
            Attribute::Banned => self.banned.is_some(),
            Attribute::Locked => self.locked.is_some(),
            Attribute::LegalAcceptedAt => self.legal_accepted_at.is_some(),
            Attribute::BypassClientTrust => self.bypass_client_trust.is_some(),
            Attribute::CreateOrganizationsLimit => self.create_organizations_limit.is_some(),
        }
    }
}

impl Profile {
    /// Whether there is anything of this attribute to carry.
    pub fn has(&self, attribute: Attribute) -> bool {
        CreateUser::new(self, None, &BTreeSet::new()).carries(attribute)
    }

    /// The profile as an account has it that was created without these attributes.
    #[must_use]
    pub fn without(&self, without: &BTreeSet<Attribute>) -> Self {
        let mut rest = self.clone();
        for attribute in without {
            match attribute {
                Attribute::EmailAddress => rest.emails.clear(),
                Attribute::PhoneNumber => rest.phones.clear(),
                Attribute::Username => rest.username = None,
                Attribute::Web3Wallet => rest.wallets.clear(),
                Attribute::FirstName => rest.first_name = None,
                Attribute::LastName => rest.last_name = None,
                Attribute::Locale => rest.locale = None,
                Attribute::Banned => rest.banned = false,
                Attribute::Locked => rest.locked = false,
                Attribute::LegalAcceptedAt => rest.legal_accepted_at = None,
                Attribute::BypassClientTrust => rest.bypass_client_trust = false,
                Attribute::CreateOrganizationsLimit => rest.create_organizations_limit = None,
            }
        }
        rest
    }
}

/// RFC 3339 with milliseconds, as the specification's examples have it; `None` for a number that
/// is no date.
pub(crate) fn date(milliseconds: i64) -> Option<String> {
    let moment = Timestamp::from_millisecond(milliseconds).ok()?;
    Some(format!("{moment:.3}"))
}

fn yes(flag: bool) -> Option<bool> {
    flag.then_some(true)
}

fn no(flag: bool) -> Option<bool> {
    (!flag).then_some(false)
}

fn values(identifiers: &[(String, Status)]) -> Vec<String> {
    identifiers.iter().map(|(value, _)| value.clone()).collect()
}

fn statuses(identifiers: &[(String, Status)]) -> Vec<&'static str> {
    identifiers
        .iter()
        .map(|(_, status)| match status {
            Status::Verified => "verified",
            Status::Reserved | Status::Unverified => "reserved",
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn profile(user: Value) -> Profile {
        Profile::of(&serde_json::from_value(user).unwrap())
    }

    fn form(user: Value, without: &[Attribute]) -> Value {
        let without = without.iter().copied().collect();
        let form = CreateUser::new(&profile(user), Some("user_src".to_owned()), &without);
        serde_json::to_value(form).unwrap()
    }

    #[test]
    fn nobody_becomes_the_owner_of_an_unproven_address() {
        let form = form(
            json!({
                "id": "user_1", "primary_email_address_id": "b",
                "email_addresses": [
                    {"id": "a", "email_address": "a@x.org", "verification": {"status": "verified"}},
                    {"id": "b", "email_address": "b@x.org", "verification": null},
                    {"id": "c", "email_address": "c@x.org", "reserved": true, "verification": {"status": "unverified"}},
                ],
                "phone_numbers": [{"id": "p", "phone_number": "+15555550100", "verification": {"status": "expired"}}],
            }),
            &[],
        );
        assert_eq!(form["email_address"], json!(["b@x.org", "a@x.org", "c@x.org"]));
        assert_eq!(
            form["email_address_identification_status"],
            json!(["reserved", "verified", "reserved"])
        );
        assert_eq!(form["phone_number_identification_status"], json!(["reserved"]));
    }

    #[test]
    fn dates_keep_their_milliseconds_and_defaults_are_not_sent() {
        let form = form(
            json!({"id": "user_1", "username": "u", "created_at": 1_350_717_320_902_i64,
                   "delete_self_enabled": true, "create_organization_enabled": false}),
            &[],
        );
        assert_eq!(
            form,
            json!({
                "external_id": "user_src", "username": "u",
                "created_at": "2012-10-20T07:15:20.902Z",
                "create_organization_enabled": false,
                "skip_password_requirement": true, "skip_legal_checks": true,
                "skip_user_requirement": true,
            })
        );
    }

    #[test]
    fn what_is_left_out_is_gone_with_its_statuses() {
        let user = json!({"id": "user_1", "username": "u", "banned": true, "locked": true,
            "phone_numbers": [{"id": "p", "phone_number": "+15555550100", "verification": {"status": "verified"}}]});
        let form = form(user, &[Attribute::PhoneNumber, Attribute::Banned]);
        let object = form.as_object().unwrap();
        assert!(!object.keys().any(|key| key.starts_with("phone") || key == "banned"));
        assert_eq!(form["locked"], true);
    }
}
