//! Which of Cloudflare's two APIs to D1 it is, and how a database is found there.
//!
//! The REST API of an account, and the *local explorer* that `wrangler dev` serves on a
//! developer's machine over the same engine. They agree on `POST …/raw`. The explorer has no
//! accounts and no tokens, no call for one database, no Time Travel, and calls a database by its
//! binding; its refusals have status 500 and code 10001 instead of 400 and 7500 (measured with
//! wrangler 4.164.0). One thing is dangerous: a uuid that it does not know is not refused but
//! *created*, empty. So there only a database that the list names is ever asked for.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rehome_core::Halt;
use secrecy::SecretString;

use super::Client;

/// Where Cloudflare's API is (`servers` of its OpenAPI document).
pub const API_URL: &str = "https://api.cloudflare.com/client/v4";

/// Where `wrangler dev` serves its local explorer when nothing else is asked for.
pub const LOCAL_EXPLORER_URL: &str = "http://127.0.0.1:8787/cdn-cgi/local/explorer/api";

/// Which API, and what it wants to know of its caller.
#[derive(Clone, Debug)]
pub enum Api {
    /// Cloudflare's REST API:
    /// <https://developers.cloudflare.com/api/resources/d1/>.
    Cloudflare {
        /// The account's id.
        account_id: String,
        /// The API token: *D1 Read* for a reader, *D1 Write* for a writer.
        token: SecretString,
    },
    /// The local explorer of `wrangler dev`, on this machine.
    LocalExplorer,
}

impl Api {
    /// The token, where there is one.
    pub(super) const fn token(&self) -> Option<&SecretString> {
        match self {
            Self::Cloudflare { token, .. } => Some(token),
            Self::LocalExplorer => None,
        }
    }

    /// The path of the list of databases, below the API's address.
    pub(super) fn databases(&self) -> String {
        match self {
            Self::Cloudflare { account_id, .. } => {
                format!("/accounts/{}/d1/database", escaped(account_id))
            }
            Self::LocalExplorer => "/d1/database".to_owned(),
        }
    }

    /// The path of one database.
    pub(super) fn database(&self, uuid: &str) -> String {
        format!("{}/{}", self.databases(), escaped(uuid))
    }

    /// What names this database for good.
    pub(super) fn identity(&self, uuid: &str) -> String {
        match self {
            Self::Cloudflare { account_id, .. } => format!("{account_id}/{uuid}"),
            Self::LocalExplorer => format!("local-explorer/{uuid}"),
        }
    }

    fn not_found(&self, role: &str, wanted: &str) -> Halt {
        let (place, hint) = match self {
            Self::Cloudflare { .. } => (
                "in this account",
                "see account_id and database; the token must have D1 permissions in that account",
            ),
            Self::LocalExplorer => (
                "in this `wrangler dev`",
                "`database` is the binding or the id in the Worker's configuration; see api_url",
            ),
        };
        Halt::Refused {
            message: format!("{role}: no D1 database called {wanted} {place}"),
            hint: hint.to_owned(),
        }
    }
}

fn escaped(part: &str) -> String {
    utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()
}

/// Uuid and name of an item of the list.
fn read(item: &serde_json::Value) -> Option<(String, String)> {
    let uuid = item.get("uuid")?.as_str()?;
    let name = item.get("name")?.as_str()?;
    Some((uuid.to_owned(), name.to_owned()))
}

/// Databases of one page of the list.
const PAGE: usize = 100;

impl Client {
    /// The uuid and name of the database that is called `wanted`, by either.
    pub(super) async fn find(&self, wanted: &str) -> Result<(String, String), Halt> {
        let found = match self.api {
            Api::LocalExplorer => self.listed(wanted).await?,
            Api::Cloudflare { .. } if is_uuid(wanted) => {
                let answer = self.get(&self.api.database(wanted)).await;
                read(&answer.map_err(|trouble| self.halt(trouble))?)
            }
            Api::Cloudflare { .. } => self.named(wanted).await?,
        };
        found.ok_or_else(|| self.api.not_found(&self.role, wanted))
    }

    async fn list(&self, query: &str) -> Result<Vec<serde_json::Value>, Halt> {
        let path = format!("{}{query}", self.api.databases());
        let result = self.get(&path).await.map_err(|trouble| self.halt(trouble))?;
        Ok(match result {
            serde_json::Value::Array(items) => items,
            _ => Vec::new(),
        })
    }

    async fn listed(&self, wanted: &str) -> Result<Option<(String, String)>, Halt> {
        let items = self.list("").await?;
        let called = |(uuid, name): &(String, String)| uuid == wanted || name == wanted;
        Ok(items.iter().filter_map(read).find(called))
    }

    async fn named(&self, wanted: &str) -> Result<Option<(String, String)>, Halt> {
        let name = escaped(wanted);
        // `name` matches by part, so the exact one may stand on a later page.
        for page in 1..=1000 {
            let items = self.list(&format!("?name={name}&page={page}&per_page={PAGE}")).await?;
            if let Some(found) = items.iter().filter_map(read).find(|(_, name)| name == wanted) {
                return Ok(Some(found));
            }
            if items.len() < PAGE {
                break;
            }
        }
        Ok(None)
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
