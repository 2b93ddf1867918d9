//! A user as the emulator keeps it, which serialises to the complete `User`
//! of the specification (every required key, exact types).

use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// Metadata: any JSON object.
pub type Metadata = Map<String, Value>;

/// `verification` of an identifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// `verification_admin`, `verification_otp`, …
    pub object: String,
    /// `verified`, `unverified`, …
    pub status: String,
    /// `admin`, `email_code`, …
    pub strategy: String,
    /// Tries so far.
    pub attempts: Option<i64>,
    /// Unix milliseconds.
    pub expire_at: Option<i64>,
}

impl Verification {
    /// What identifiers created through the Backend API carry.
    pub fn admin() -> Self {
        Self {
            object: "verification_admin".to_owned(),
            status: "verified".to_owned(),
            strategy: "admin".to_owned(),
            attempts: None,
            expire_at: None,
        }
    }

    /// A code that was sent and not (or successfully) entered.
    pub fn otp(strategy: &str, verified: bool, expire_at: i64) -> Self {
        Self {
            object: "verification_otp".to_owned(),
            status: if verified { "verified" } else { "unverified" }.to_owned(),
            strategy: strategy.to_owned(),
            attempts: Some(i64::from(verified)),
            expire_at: Some(expire_at),
        }
    }
}

/// The account that an address came with: `{type: "oauth_google", id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// `oauth_<provider>`
    #[serde(rename = "type")]
    pub kind: String,
    /// The external account's identification.
    pub id: String,
}

/// An address, a number or a wallet of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier {
    /// `idn_` and 27 letters or digits.
    pub id: String,
    /// The address as it was given.
    pub value: String,
    /// Unverified, but locked to this user.
    pub reserved: bool,
    /// None for reserved ones and for those whose verification never began.
    pub verification: Option<Verification>,
    /// Accounts that it came with.
    pub linked_to: Vec<Link>,
    /// Phone numbers only.
    pub reserved_for_second_factor: bool,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
}

impl Identifier {
    /// Whether it is verified.
    pub fn verified(&self) -> bool {
        self.verification.as_ref().is_some_and(|v| v.status == "verified")
    }

    /// Whether no other user may have it: verified or reserved.
    pub fn claimed(&self) -> bool {
        self.reserved || self.verified()
    }

    /// The specification's `EmailAddress`.
    pub fn email_json(&self) -> Value {
        json!({
            "id": self.id, "object": "email_address", "email_address": self.value,
            "reserved": self.reserved, "verification": self.verification,
            "linked_to": self.linked_to, "matches_sso_connection": false,
            "created_at": self.created_at, "updated_at": self.updated_at,
        })
    }

    /// The specification's `PhoneNumber`.
    pub fn phone_json(&self) -> Value {
        json!({
            "id": self.id, "object": "phone_number", "phone_number": self.value,
            "reserved_for_second_factor": self.reserved_for_second_factor,
            "default_second_factor": self.reserved_for_second_factor,
            "reserved": self.reserved, "verification": self.verification,
            "linked_to": self.linked_to,
            "created_at": self.created_at, "updated_at": self.updated_at,
        })
    }

    /// The specification's `Web3Wallet`.
    pub fn wallet_json(&self) -> Value {
        json!({
            "id": self.id, "object": "web3_wallet", "web3_wallet": self.value,
            "verification": self.verification,
            "created_at": self.created_at, "updated_at": self.updated_at,
        })
    }
}

/// A social account, which only a seed can give a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalAccount {
    /// `google`, `github`, … (without `oauth_`).
    pub provider: String,
    /// The id of the user there.
    pub provider_user_id: String,
    /// The address there.
    pub email_address: String,
    /// `eac_…`; made on insertion when empty.
    #[serde(default)]
    pub id: String,
    /// `idn_…`; made on insertion when empty.
    #[serde(default)]
    pub identification_id: String,
    /// Unix milliseconds; the user's when 0.
    #[serde(default)]
    pub created_at: i64,
}

impl ExternalAccount {
    fn json(&self) -> Value {
        json!({
            "object": "external_account", "id": self.id,
            "provider": format!("oauth_{}", self.provider),
            "identification_id": self.identification_id,
            "provider_user_id": self.provider_user_id,
            "approved_scopes": "email profile", "email_address": self.email_address,
            "email_address_verified": true, "first_name": "", "last_name": "",
            "image_url": null, "username": null, "phone_number": null,
            "public_metadata": {}, "label": null,
            "created_at": self.created_at, "updated_at": self.created_at,
            "verification": {
                "object": "verification_oauth", "status": "verified",
                "strategy": format!("oauth_{}", self.provider),
                "attempts": null, "expire_at": self.created_at + 600_000,
            },
        })
    }
}

/// A user. Its `Serialize` is the API's answer; field names are the API's.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the specification's User schema")]
pub struct User {
    pub id: String,
    pub object: &'static str,
    pub external_id: Option<String>,
    pub primary_email_address_id: Option<String>,
    pub primary_phone_number_id: Option<String>,
    pub primary_web3_wallet_id: Option<String>,
    pub username: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub locale: Option<String>,
    pub image_url: &'static str,
    pub has_image: bool,
    pub public_metadata: Metadata,
    pub private_metadata: Metadata,
    pub unsafe_metadata: Metadata,
    #[serde(serialize_with = "emails")]
    pub email_addresses: Vec<Identifier>,
    #[serde(serialize_with = "phones")]
    pub phone_numbers: Vec<Identifier>,
    #[serde(serialize_with = "wallets")]
    pub web3_wallets: Vec<Identifier>,
    pub passkeys: [(); 0],
    pub password_enabled: bool,
    pub two_factor_enabled: bool,
    pub totp_enabled: bool,
    pub backup_code_enabled: bool,
    pub mfa_enabled_at: Option<i64>,
    pub mfa_disabled_at: Option<i64>,
    pub password_last_updated_at: Option<i64>,
    #[serde(serialize_with = "accounts")]
    pub external_accounts: Vec<ExternalAccount>,
    pub saml_accounts: [(); 0],
    pub enterprise_accounts: [(); 0],
    pub last_sign_in_at: Option<i64>,
    pub banned: bool,
    pub locked: bool,
    pub deprovisioned: bool,
    pub lockout_expires_in_seconds: Option<i64>,
    pub verification_attempts_remaining: Option<i64>,
    pub updated_at: i64,
    pub created_at: i64,
    pub delete_self_enabled: bool,
    pub create_organization_enabled: bool,
    pub create_organizations_limit: Option<i64>,
    pub last_active_at: Option<i64>,
    pub legal_accepted_at: Option<i64>,
    pub bypass_client_trust: bool,
}

impl User {
    /// A user without anything but an id and its times (Unix milliseconds).
    pub fn empty(id: String, created_at: i64, updated_at: i64) -> Self {
        Self {
            id,
            object: "user",
            external_id: None,
            primary_email_address_id: None,
            primary_phone_number_id: None,
            primary_web3_wallet_id: None,
            username: None,
            first_name: None,
            last_name: None,
            locale: None,
            image_url: "https://img.clerk.example/default.png",
            has_image: false,
            public_metadata: Metadata::new(),
            private_metadata: Metadata::new(),
            unsafe_metadata: Metadata::new(),
            email_addresses: Vec::new(),
            phone_numbers: Vec::new(),
            web3_wallets: Vec::new(),
            passkeys: [],
            password_enabled: false,
            two_factor_enabled: false,
            totp_enabled: false,
            backup_code_enabled: false,
            mfa_enabled_at: None,
            mfa_disabled_at: None,
            password_last_updated_at: None,
            external_accounts: Vec::new(),
            saml_accounts: [],
            enterprise_accounts: [],
            last_sign_in_at: None,
            banned: false,
            locked: false,
            deprovisioned: false,
            lockout_expires_in_seconds: None,
            verification_attempts_remaining: None,
            updated_at,
            created_at,
            delete_self_enabled: true,
            create_organization_enabled: true,
            create_organizations_limit: None,
            last_active_at: None,
            legal_accepted_at: None,
            bypass_client_trust: false,
        }
    }

    /// Whether it has any identifier to sign in with.
    pub fn identifiable(&self) -> bool {
        self.username.is_some()
            || [&self.email_addresses, &self.phone_numbers, &self.web3_wallets]
                .iter()
                .any(|list| !list.is_empty())
            || !self.external_accounts.is_empty()
    }
}

fn list<S: Serializer, T>(
    to: S,
    items: &[T],
    json: impl Fn(&T) -> Value,
) -> Result<S::Ok, S::Error> {
    let mut seq = to.serialize_seq(Some(items.len()))?;
    for item in items {
        seq.serialize_element(&json(item))?;
    }
    seq.end()
}

fn emails<S: Serializer>(items: &[Identifier], to: S) -> Result<S::Ok, S::Error> {
    list(to, items, Identifier::email_json)
}

fn phones<S: Serializer>(items: &[Identifier], to: S) -> Result<S::Ok, S::Error> {
    list(to, items, Identifier::phone_json)
}

fn wallets<S: Serializer>(items: &[Identifier], to: S) -> Result<S::Ok, S::Error> {
    list(to, items, Identifier::wallet_json)
}

fn accounts<S: Serializer>(items: &[ExternalAccount], to: S) -> Result<S::Ok, S::Error> {
    list(to, items, ExternalAccount::json)
}
