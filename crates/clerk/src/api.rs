//! The API's objects as far as a migration needs them.
//!
//! Reading is lenient on purpose: fields that are not named here are ignored, and a missing or
//! null optional takes its default, so that an addition to the API, or an older instance, does
//! not stop a migration. What a migration cannot do without (an id) is required.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::reader::LARGEST_PAGE;

/// Reads `null` like a missing field.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An instance (schema `Instance`).
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Instance {
    /// `ins_…`; what a migration is pinned to.
    pub id: String,
    /// `development` or `production`; decides the rate limit.
    #[serde(default, deserialize_with = "null_as_default")]
    pub environment_type: String,
}

/// A count (schema `TotalCount`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub struct TotalCount {
    /// How many.
    pub total_count: u64,
}

/// How an identifier was verified; null for one that never was.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Verification {
    /// `verified`, `unverified`, `expired`, `failed`, `transferable`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub status: String,
}

/// An e-mail address, a phone number or a wallet of a user (schemas `EmailAddress`,
/// `PhoneNumber`, `Web3Wallet`).
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Identification {
    /// `idn_…`.
    #[serde(default)]
    pub id: Option<String>,
    /// The address or number itself.
    #[serde(alias = "email_address", alias = "phone_number", alias = "web3_wallet")]
    pub value: String,
    /// Locked to its user without being verified.
    #[serde(default, deserialize_with = "null_as_default")]
    pub reserved: bool,
    /// Null for one that never was verified.
    #[serde(default)]
    pub verification: Option<Verification>,
    /// A phone number that serves as second factor.
    #[serde(default, deserialize_with = "null_as_default")]
    pub reserved_for_second_factor: bool,
    /// When this identifier came to this account, in Unix milliseconds. Cannot be set through
    /// the API, which is what makes it evidence.
    #[serde(default)]
    pub created_at: Option<i64>,
}

impl Identification {
    /// Whether it is proven to belong to its user.
    pub fn is_verified(&self) -> bool {
        self.verification.as_ref().is_some_and(|verification| verification.status == "verified")
    }
}

/// An account at a social provider.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct ExternalAccount {
    /// For example `oauth_google`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub provider: String,
}

/// A page of users, never more than the API may answer with: whatever answers with more is not
/// the API, and a few bytes for each would become a thousand times that in memory.
#[derive(Clone, PartialEq, Debug)]
pub struct Page(pub Vec<User>);

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Users;

        impl<'de> Visitor<'de> for Users {
            type Value = Page;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {LARGEST_PAGE} users")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Page, A::Error> {
                let mut users = Vec::new();
                while let Some(user) = seq.next_element()? {
                    if users.len() == LARGEST_PAGE {
                        return Err(A::Error::invalid_length(users.len() + 1, &self));
                    }
                    users.push(user);
                }
                Ok(Page(users))
            }
        }

        deserializer.deserialize_seq(Users)
    }
}

/// A user (schema `User`). Times are Unix milliseconds.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct User {
    /// `user_…`, given by Clerk and different in every instance.
    pub id: String,
    /// The application's own id, unique within the instance.
    #[serde(default)]
    pub external_id: Option<String>,
    /// Which of the e-mail addresses is the primary one.
    #[serde(default)]
    pub primary_email_address_id: Option<String>,
    /// Which of the phone numbers is the primary one.
    #[serde(default)]
    pub primary_phone_number_id: Option<String>,
    /// Which of the wallets is the primary one.
    #[serde(default)]
    pub primary_web3_wallet_id: Option<String>,
    /// Unique within the instance.
    #[serde(default)]
    pub username: Option<String>,
    /// Given name.
    #[serde(default)]
    pub first_name: Option<String>,
    /// Family name.
    #[serde(default)]
    pub last_name: Option<String>,
    /// For example `en-US`.
    #[serde(default)]
    pub locale: Option<String>,
    /// Whether an image was uploaded.
    #[serde(default, deserialize_with = "null_as_default")]
    pub has_image: bool,
    /// Visible to the front end.
    #[serde(default, deserialize_with = "null_as_default")]
    pub public_metadata: Map<String, Value>,
    /// Visible to the back end only.
    #[serde(default, deserialize_with = "null_as_default")]
    pub private_metadata: Map<String, Value>,
    /// Writable by the front end.
    #[serde(default, deserialize_with = "null_as_default")]
    pub unsafe_metadata: Map<String, Value>,
    /// In the API's order, which says nothing about the primary one.
    #[serde(default, deserialize_with = "null_as_default")]
    pub email_addresses: Vec<Identification>,
    /// As above.
    #[serde(default, deserialize_with = "null_as_default")]
    pub phone_numbers: Vec<Identification>,
    /// As above.
    #[serde(default, deserialize_with = "null_as_default")]
    pub web3_wallets: Vec<Identification>,
    /// Only how many there are matters: they cannot be carried.
    #[serde(default, deserialize_with = "null_as_default")]
    pub passkeys: Vec<IgnoredAny>,
    /// Accounts at social providers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub external_accounts: Vec<ExternalAccount>,
    /// SAML accounts; only how many.
    #[serde(default, deserialize_with = "null_as_default")]
    pub saml_accounts: Vec<IgnoredAny>,
    /// Enterprise accounts; only how many.
    #[serde(default, deserialize_with = "null_as_default")]
    pub enterprise_accounts: Vec<IgnoredAny>,
    /// Whether a password is set. Its digest is never returned.
    #[serde(default, deserialize_with = "null_as_default")]
    pub password_enabled: bool,
    /// Whether a TOTP secret is set.
    #[serde(default, deserialize_with = "null_as_default")]
    pub totp_enabled: bool,
    /// Whether backup codes are set.
    #[serde(default, deserialize_with = "null_as_default")]
    pub backup_code_enabled: bool,
    /// Whether any second factor is set.
    #[serde(default, deserialize_with = "null_as_default")]
    pub two_factor_enabled: bool,
    /// The organizations that the user is in; only how many, and only where the API tells.
    #[serde(default, deserialize_with = "null_as_default")]
    pub organization_memberships: Vec<IgnoredAny>,
    /// The last sign-in; null for somebody who never did.
    #[serde(default)]
    pub last_sign_in_at: Option<i64>,
    /// The latest activity of a session. Accounts without any session carry the moment of their
    /// creation here, or null.
    #[serde(default)]
    pub last_active_at: Option<i64>,
    /// Cannot sign in.
    #[serde(default, deserialize_with = "null_as_default")]
    pub banned: bool,
    /// Restricted from signing in at present.
    #[serde(default, deserialize_with = "null_as_default")]
    pub locked: bool,
    /// Null for a lock that does not end by itself.
    #[serde(default)]
    pub lockout_expires_in_seconds: Option<i64>,
    /// Last change of any of this.
    #[serde(default)]
    pub updated_at: Option<i64>,
    /// Sign-up. Can be set at creation, so it is no evidence of who created the account.
    #[serde(default)]
    pub created_at: Option<i64>,
    /// Whether users may delete themselves; on unless said otherwise.
    #[serde(default)]
    pub delete_self_enabled: Option<bool>,
    /// Whether the user may create organizations; on unless said otherwise.
    #[serde(default)]
    pub create_organization_enabled: Option<bool>,
    /// How many organizations; null or 0 for any number.
    #[serde(default)]
    pub create_organizations_limit: Option<i64>,
    /// When the legal terms were accepted.
    #[serde(default)]
    pub legal_accepted_at: Option<i64>,
    /// Whether device trust is bypassed.
    #[serde(default, deserialize_with = "null_as_default")]
    pub bypass_client_trust: bool,
}
