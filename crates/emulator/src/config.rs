//! What the emulator is started with, and the settings of an instance that
//! may be changed while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::d1::D1;
use crate::fault::FaultPlan;

/// What [`crate::Emulator::start`] takes. `Default` gives a server on any free
/// port without instances.
#[derive(Debug, Clone, Default)]
pub struct EmulatorConfig {
    /// The port on 127.0.0.1; 0 takes any free one.
    pub port: u16,
    /// The Clerk instances, told apart by their secret keys.
    pub instances: Vec<InstanceConfig>,
    /// Faults from the first request on.
    pub faults: FaultPlan,
    /// Where each Clerk request and its answer is appended as one JSON line.
    pub record: Option<PathBuf>,
    /// The Cloudflare account served beside them; none without.
    pub d1: Option<Arc<D1>>,
    /// The emulator's first moment in Unix milliseconds; the wall clock's
    /// present without one. Time then moves with tokio's clock.
    pub epoch_ms: Option<i64>,
}

/// Clerk's `environment_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Keys start with `sk_test_`.
    Development,
    /// Keys start with `sk_live_`.
    Production,
}

impl Environment {
    /// The value of `environment_type` in `GET /instance`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// One Clerk instance at the start.
#[derive(Debug, Clone)]
pub struct InstanceConfig {
    /// The key that requests of this instance carry as `Bearer`. Made up by
    /// whoever starts the emulator and printed by it: no secret.
    pub secret_key: String,
    /// `ins_` and 27 letters or digits.
    pub id: String,
    /// How tests and fault rules call it: `source`, `target`, …
    pub label: String,
    /// What `GET /instance` says.
    pub environment: Environment,
    /// The public key, for those who print it.
    pub publishable_key: String,
    /// Settings at the start.
    pub settings: Settings,
}

impl InstanceConfig {
    /// A development instance under `label`, with a key and id derived from it.
    pub fn development(label: &str) -> Self {
        Self::named(label, Environment::Development)
    }

    /// A production instance under `label`, with a key and id derived from it.
    pub fn production(label: &str) -> Self {
        Self::named(label, Environment::Production)
    }

    fn named(label: &str, environment: Environment) -> Self {
        let mut rng = fastrand::Rng::with_seed(crate::ids::seed_of(label));
        let mode = match environment {
            Environment::Development => "test",
            Environment::Production => "live",
        };
        Self {
            secret_key: crate::ids::random_id(&mut rng, &format!("sk_{mode}_")),
            id: crate::ids::random_id(&mut rng, "ins_"),
            label: label.to_owned(),
            environment,
            // `clerk.example$` in unpadded base64, as @clerk/shared keys.ts wants it.
            publishable_key: format!("pk_{mode}_Y2xlcmsuZXhhbXBsZSQ"),
            settings: Settings::default(),
        }
    }
}

/// How requests are counted against a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowShape {
    /// Windows stand side by side from the emulator's start on.
    Fixed,
    /// Any stretch of the window's length counts.
    Sliding,
}

/// A limit on the requests of one instance. Clerk documents 1000 per 10 s in
/// production and 100 per 10 s in development (system limits page), but not
/// the window's shape nor whether refused requests count, so both are settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Requests per window.
    pub limit: u32,
    /// The window's length in milliseconds.
    pub window_ms: u64,
    /// Side by side or sliding.
    pub shape: WindowShape,
    /// Whether a refused request uses up the window too.
    #[serde(default)]
    pub count_refused: bool,
}

impl RateLimit {
    /// What Clerk's system limits page says for the environment, as a sliding window.
    pub fn documented(environment: Environment) -> Self {
        Self {
            limit: match environment {
                Environment::Development => 100,
                Environment::Production => 1000,
            },
            window_ms: 10_000,
            shape: WindowShape::Sliding,
            count_refused: false,
        }
    }
}

/// Whether `starting_after` is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// As the specification of 2026-05-12 has it since August 2026; the place
    /// of a deleted user stays valid.
    #[default]
    Supported,
    /// Understood, but the id of a deleted user is refused with 422.
    DeletedRefused,
    /// Refused with 422 `form_param_unknown`, as an instance from before.
    Refused,
}

/// A kind of identifier that an instance may have on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// `email_address`
    EmailAddress,
    /// `phone_number`
    PhoneNumber,
    /// `username`
    Username,
    /// `web3_wallet`
    Web3Wallet,
}

impl Attribute {
    /// All of them, in the order in which errors are reported.
    pub const ALL: [Self; 4] =
        [Self::EmailAddress, Self::PhoneNumber, Self::Username, Self::Web3Wallet];

    /// The name in request bodies and in `meta.param_name`.
    pub fn param(self) -> &'static str {
        match self {
            Self::EmailAddress => "email_address",
            Self::PhoneNumber => "phone_number",
            Self::Username => "username",
            Self::Web3Wallet => "web3_wallet",
        }
    }
}

/// How an instance behaves. Everything here may be changed while it runs,
/// through [`crate::Instance::configure`] or `PUT /__emulator/settings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The identifiers that may be given; the others are `form_param_unknown`.
    pub attributes: Vec<Attribute>,
    /// The identifiers that must be given, unless `skip_user_requirement`.
    pub required: Vec<Attribute>,
    /// Whether a password must be given, unless `skip_password_requirement`.
    pub password_required: bool,
    /// Whether legal consent must be given, unless `skip_legal_checks`.
    pub legal_consent_required: bool,
    /// Whether the plan includes banning (402 otherwise).
    pub ban_plan: bool,
    /// Whether lockout is on (403 otherwise).
    pub lockout: bool,
    /// Whether `totp_secret` and `backup_codes` are taken (403 otherwise).
    pub second_factors: bool,
    /// Addresses refused with 403 `not_allowed_access`: globs with `*`, or
    /// plain suffixes.
    pub refused_addresses: Vec<String>,
    /// Whether the undocumented `skip_restriction_checks` is understood; it is
    /// `form_param_unknown` otherwise, as the specification says.
    pub skip_restriction_checks: bool,
    /// Whether addresses are stored in lower case.
    pub lower_case_emails: bool,
    /// For how many milliseconds a created user is found by no list, filter or id.
    pub visibility_delay_ms: u64,
    /// For how many milliseconds a deleted user is still found by every list, filter and id.
    pub deletion_delay_ms: u64,
    /// Whether a created account carries the moment of its creation in `last_active_at`; null
    /// otherwise. Both have been seen.
    pub active_at_creation: bool,
    /// How far this instance's clock is ahead of the emulator's, in milliseconds.
    pub clock_skew_ms: i64,
    /// Whether `starting_after` is understood.
    pub cursor: Cursor,
    /// How long each answer is held back, in milliseconds.
    pub latency_ms: u64,
    /// The limit on requests; none without.
    pub rate_limit: Option<RateLimit>,
    /// Whether `rate_limit` holds for each method and route by itself. Clerk's
    /// system limits page names one budget per instance, yet says that a 429
    /// blocks "that specific endpoint"; this is the second reading.
    pub rate_limit_per_route: bool,
    /// The limit on PATCH and PUT of one user (Clerk documents 10 per 10 s).
    pub user_rate_limit: Option<RateLimit>,
    /// How many users there may be (Clerk allows a development instance 100);
    /// past it 403 `user_quota_exceeded`.
    pub user_cap: Option<u64>,
    /// Where `user.created` and `user.deleted` are posted; `http://` only.
    pub webhook_url: Option<String>,
    /// How long a webhook waits before it is sent, in milliseconds.
    pub webhook_delay_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attributes: Attribute::ALL.to_vec(),
            required: Vec::new(),
            password_required: false,
            legal_consent_required: false,
            ban_plan: true,
            lockout: true,
            second_factors: true,
            refused_addresses: Vec::new(),
            skip_restriction_checks: false,
            lower_case_emails: false,
            visibility_delay_ms: 0,
            deletion_delay_ms: 0,
            active_at_creation: false,
            clock_skew_ms: 0,
            cursor: Cursor::default(),
            latency_ms: 0,
            rate_limit: None,
            rate_limit_per_route: false,
            user_rate_limit: None,
            user_cap: None,
            webhook_url: None,
            webhook_delay_ms: 0,
        }
    }
}

impl Settings {
    /// Whether this kind of identifier is on.
    pub fn has(&self, attribute: Attribute) -> bool {
        self.attributes.contains(&attribute)
    }
}
