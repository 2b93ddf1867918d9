//! Users as they are found in an instance that people really use, including
//! what the API itself cannot create: addresses that are neither verified nor
//! reserved, social accounts, sign-ins.

mod population;

pub use population::users;

use serde::{Deserialize, Serialize};

use crate::ids::Ids;
use crate::user::{ExternalAccount, Identifier, Link, Metadata, User, Verification};

/// How far an identifier is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Verified.
    #[default]
    Verified,
    /// Unverified, but locked to its user; `verification` is null.
    Reserved,
    /// A code was sent and never entered; others may have the address too.
    Unverified,
}

/// One address, number or wallet of a seed user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedIdentifier {
    /// The address.
    pub value: String,
    /// How far it is trusted.
    #[serde(default)]
    pub status: Status,
}

impl SeedIdentifier {
    /// A verified one.
    pub fn verified(value: impl Into<String>) -> Self {
        Self { value: value.into(), status: Status::Verified }
    }

    /// One with a status.
    pub fn with(value: impl Into<String>, status: Status) -> Self {
        Self { value: value.into(), status }
    }
}

/// A user to be put into an instance, in the API's names; all optional. The
/// primary of each list is `primary_email` and so on (an index), 0 without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the specification's User schema")]
pub struct SeedUser {
    /// Made up when absent.
    pub id: Option<String>,
    pub external_id: Option<String>,
    pub username: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub locale: Option<String>,
    pub email_addresses: Vec<SeedIdentifier>,
    pub phone_numbers: Vec<SeedIdentifier>,
    pub web3_wallets: Vec<SeedIdentifier>,
    /// Index of the primary address.
    pub primary_email: usize,
    /// Index of the primary number.
    pub primary_phone: usize,
    pub public_metadata: Metadata,
    pub private_metadata: Metadata,
    pub unsafe_metadata: Metadata,
    pub external_accounts: Vec<ExternalAccount>,
    pub password_enabled: bool,
    pub totp_enabled: bool,
    pub backup_code_enabled: bool,
    pub has_image: bool,
    pub banned: bool,
    pub locked: bool,
    pub delete_self_enabled: bool,
    pub create_organization_enabled: bool,
    pub create_organizations_limit: Option<i64>,
    pub bypass_client_trust: bool,
    /// Unix milliseconds, as all times; the present when absent.
    pub created_at: Option<i64>,
    /// `created_at` when absent.
    pub updated_at: Option<i64>,
    pub last_sign_in_at: Option<i64>,
    pub last_active_at: Option<i64>,
    pub legal_accepted_at: Option<i64>,
}

impl Default for SeedUser {
    fn default() -> Self {
        Self {
            id: None,
            external_id: None,
            username: None,
            first_name: None,
            last_name: None,
            locale: None,
            email_addresses: Vec::new(),
            phone_numbers: Vec::new(),
            web3_wallets: Vec::new(),
            primary_email: 0,
            primary_phone: 0,
            public_metadata: Metadata::new(),
            private_metadata: Metadata::new(),
            unsafe_metadata: Metadata::new(),
            external_accounts: Vec::new(),
            password_enabled: false,
            totp_enabled: false,
            backup_code_enabled: false,
            has_image: false,
            banned: false,
            locked: false,
            delete_self_enabled: true,
            create_organization_enabled: true,
            create_organizations_limit: None,
            bypass_client_trust: false,
            created_at: None,
            updated_at: None,
            last_sign_in_at: None,
            last_active_at: None,
            legal_accepted_at: None,
        }
    }
}

impl SeedUser {
    /// A user with one verified address and nothing else.
    pub fn with_email(address: impl Into<String>) -> Self {
        Self { email_addresses: vec![SeedIdentifier::verified(address)], ..Self::default() }
    }

    /// The stored form.
    pub(crate) fn into_user(self, ids: &Ids, now: i64, lockout: bool) -> User {
        let created_at = self.created_at.unwrap_or(now);
        let id = self.id.unwrap_or_else(|| ids.next("user_"));
        let mut user = User::empty(id, created_at, self.updated_at.unwrap_or(created_at));
        let list = |list: Vec<SeedIdentifier>, code: &str| -> Vec<Identifier> {
            list.into_iter().map(|one| identifier(one, code, ids, created_at)).collect()
        };
        user.email_addresses = list(self.email_addresses, "email_code");
        user.phone_numbers = list(self.phone_numbers, "phone_code");
        user.web3_wallets = list(self.web3_wallets, "web3");
        let primary = |list: &[Identifier], index: usize| list.get(index).map(|i| i.id.clone());
        user.primary_email_address_id = primary(&user.email_addresses, self.primary_email);
        user.primary_phone_number_id = primary(&user.phone_numbers, self.primary_phone);
        user.primary_web3_wallet_id = primary(&user.web3_wallets, 0);
        for mut account in self.external_accounts {
            account.id = ids.next("eac_");
            account.identification_id = ids.next("idn_");
            if account.created_at == 0 {
                account.created_at = created_at;
            }
            let link = Link {
                kind: format!("oauth_{}", account.provider),
                id: account.identification_id.clone(),
            };
            let same = user.email_addresses.iter_mut().find(|i| i.value == account.email_address);
            if let Some(email) = same {
                email.linked_to.push(link);
            }
            user.external_accounts.push(account);
        }
        user.external_id = self.external_id;
        user.username = self.username;
        user.first_name = self.first_name;
        user.last_name = self.last_name;
        user.locale = self.locale;
        user.public_metadata = self.public_metadata;
        user.private_metadata = self.private_metadata;
        user.unsafe_metadata = self.unsafe_metadata;
        user.password_enabled = self.password_enabled;
        user.password_last_updated_at = self.password_enabled.then_some(created_at);
        user.totp_enabled = self.totp_enabled;
        user.two_factor_enabled = self.totp_enabled;
        user.backup_code_enabled = self.backup_code_enabled;
        user.mfa_enabled_at = self.totp_enabled.then_some(created_at);
        user.has_image = self.has_image;
        user.banned = self.banned;
        user.locked = self.locked;
        user.verification_attempts_remaining = lockout.then_some(if self.locked { 0 } else { 100 });
        user.delete_self_enabled = self.delete_self_enabled;
        user.create_organization_enabled = self.create_organization_enabled;
        user.create_organizations_limit = self.create_organizations_limit;
        user.bypass_client_trust = self.bypass_client_trust;
        user.last_sign_in_at = self.last_sign_in_at;
        user.last_active_at = self.last_active_at;
        user.legal_accepted_at = self.legal_accepted_at;
        user
    }
}

fn identifier(seed: SeedIdentifier, code: &str, ids: &Ids, at: i64) -> Identifier {
    let code_sent = |verified| {
        if code == "web3" {
            Verification {
                object: "verification_web3".to_owned(),
                status: if verified { "verified" } else { "unverified" }.to_owned(),
                strategy: "web3_metamask_signature".to_owned(),
                attempts: Some(i64::from(verified)),
                expire_at: Some(at + 600_000),
            }
        } else {
            Verification::otp(code, verified, at + 600_000)
        }
    };
    let (reserved, verification) = match seed.status {
        Status::Verified => (false, Some(code_sent(true))),
        Status::Reserved => (true, None),
        Status::Unverified => (false, Some(code_sent(false))),
    };
    Identifier {
        id: ids.next("idn_"),
        value: seed.value,
        reserved,
        verification,
        linked_to: Vec::new(),
        reserved_for_second_factor: false,
        created_at: at,
        updated_at: at,
    }
}
