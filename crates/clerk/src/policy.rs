//! What a person may choose about users. The words are those of `[users]` in the configuration.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::profile::Profile;

/// What to do with a user who has an account in the target already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExisting {
    /// Map the user to that account and leave the account as it is.
    #[default]
    Adopt,
    /// Take the user out of the migration.
    Skip,
    /// Let a person look at it.
    Fail,
}

/// What becomes the target's `external_id`, by which an account is found again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExternalId {
    /// The one that the user has in the source, or else the source's Clerk id.
    #[default]
    KeepOrSourceId,
    /// The source's Clerk id.
    SourceId,
    /// The one that the user has in the source, or else none.
    Keep,
    /// None at all. A lost answer is then settled by the identifiers alone.
    None,
}

impl ExternalId {
    /// The `external_id` of the target's account for the source user `source_id`.
    pub fn of(self, source_id: &str, profile: &Profile) -> Option<String> {
        let kept = || profile.external_id.clone();
        match self {
            Self::KeepOrSourceId => kept().or_else(|| Some(source_id.to_owned())),
            Self::SourceId => Some(source_id.to_owned()),
            Self::Keep => kept(),
            Self::None => None,
        }
    }
}

/// A part of a profile that an instance's settings or plan may refuse. Named as in the API.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// E-mail addresses.
    EmailAddress,
    /// Phone numbers.
    PhoneNumber,
    /// The username.
    Username,
    /// Wallets.
    Web3Wallet,
    /// The given name.
    FirstName,
    /// The family name.
    LastName,
    /// The locale.
    Locale,
    /// The ban; needs a plan that has it (402).
    Banned,
    /// The lock; needs lockout to be enabled (403).
    Locked,
    /// When the legal terms were accepted.
    LegalAcceptedAt,
    /// The bypass of device trust.
    BypassClientTrust,
    /// The limit on organizations.
    CreateOrganizationsLimit,
}

impl Attribute {
    /// Every attribute.
    pub const ALL: [Self; 12] = [
        Self::EmailAddress,
        Self::PhoneNumber,
        Self::Username,
        Self::Web3Wallet,
        Self::FirstName,
        Self::LastName,
        Self::Locale,
        Self::Banned,
        Self::Locked,
        Self::LegalAcceptedAt,
        Self::BypassClientTrust,
        Self::CreateOrganizationsLimit,
    ];

    /// The name of the field in `CreateUser`, and the word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EmailAddress => "email_address",
            Self::PhoneNumber => "phone_number",
            Self::Username => "username",
            Self::Web3Wallet => "web3_wallet",
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::Locale => "locale",
            Self::Banned => "banned",
            Self::Locked => "locked",
            Self::LegalAcceptedAt => "legal_accepted_at",
            Self::BypassClientTrust => "bypass_client_trust",
            Self::CreateOrganizationsLimit => "create_organizations_limit",
        }
    }

    /// The attribute that a refused field of a request belongs to; `None` for a field that
    /// cannot be left out.
    pub fn of_param(param: &str) -> Option<Self> {
        let param = param
            .split_once('[')
            .map_or(param, |(name, _)| name)
            .trim_end_matches("_identification_status");
        Self::ALL.into_iter().find(|attribute| attribute.as_str() == param)
    }
}

/// Everything that a person may choose about users.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserPolicy {
    /// What to do with a user who has an account in the target already.
    pub on_existing: OnExisting,
    /// What becomes the target's `external_id`.
    pub external_id: ExternalId,
    /// What may be left out of an account when the target refuses it.
    pub without: BTreeSet<Attribute>,
}
