//! `[source.database]` or `[target.database]` of kind `d1`: which of the two APIs, and what that
//! one needs.

use std::num::NonZeroU64;

use rehome_records::d1::{API_URL, LOCAL_EXPLORER_URL};
use serde::Deserialize;

use super::{RateLimit, SecretRef};

/// A D1 database behind an API.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct D1Database {
    /// The database's name or uuid.
    pub database: String,
    /// Which API, and what it wants to know of its caller.
    pub access: D1Access,
    /// The API's address.
    pub api_url: String,
    /// The rate limit, when it is not the published one.
    pub rate_limit: Option<RateLimit>,
    /// A batch of so many new rows goes as one file, by `/import`; never without this.
    pub import_from: Option<NonZeroU64>,
}

/// Which API, and what it wants to know of its caller.
#[derive(Clone, Debug)]
pub enum D1Access {
    /// `api = "cloudflare"`, the default: Cloudflare's REST API.
    Cloudflare {
        /// The account's id.
        account_id: String,
        /// Where the API token is to be had.
        api_token: SecretRef,
    },
    /// `api = "local-explorer"`: what `wrangler dev` serves on this machine. It has neither
    /// accounts nor tokens.
    LocalExplorer,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Which {
    #[default]
    Cloudflare,
    LocalExplorer,
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    api: Which,
    account_id: Option<String>,
    database: String,
    api_token: Option<SecretRef>,
    api_url: Option<String>,
    rate_limit: Option<RateLimit>,
    import_from: Option<NonZeroU64>,
}

impl TryFrom<Table> for D1Database {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let Table { api, account_id, database, api_token, api_url, rate_limit, import_from } =
            table;
        let (access, usual) = match api {
            Which::Cloudflare => {
                let missing = |key| format!("a D1 database behind Cloudflare's API needs `{key}`");
                let account_id = account_id.ok_or_else(|| missing("account_id"))?;
                let api_token = api_token.ok_or_else(|| missing("api_token"))?;
                (D1Access::Cloudflare { account_id, api_token }, API_URL)
            }
            Which::LocalExplorer if account_id.is_some() || api_token.is_some() => {
                return Err("the local explorer of `wrangler dev` knows neither accounts nor \
                            tokens: leave `account_id` and `api_token` out"
                    .to_owned());
            }
            Which::LocalExplorer if import_from.is_some() => {
                return Err("the local explorer of `wrangler dev` has no /import: leave \
                            `import_from` out"
                    .to_owned());
            }
            Which::LocalExplorer => (D1Access::LocalExplorer, LOCAL_EXPLORER_URL),
        };
        let api_url = api_url.unwrap_or_else(|| usual.to_owned());
        Ok(Self { database, access, api_url, rate_limit, import_from })
    }
}
