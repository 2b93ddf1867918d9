//! A Cloudflare D1 database behind its REST API.
//!
//! Everything goes through `POST /accounts/{account}/d1/database/{uuid}/raw` with a `batch`: one
//! request is one transaction, answers keep duplicate column names, and parameters are strings,
//! the one form that the published schema allows. Values are read through `exact`, because the
//! API's own JSON rounds 64-bit integers, drops infinities and repairs broken text (measured;
//! workers-sdk issue 15378). `answer` sorts what comes back into *happened*, *refused*, *later*
//! and *lost*; `transport` is the only place that sends.
//!
//! Reads are retried here. A write is sent once and its answer is given to the engine as it is: a
//! lost connection on a write is ambiguous, and only a probe may settle it.

mod answer;
mod exact;
pub mod local;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rehome_core::backoff::Backoff;
use rehome_core::pacer::{Pacer, Rate};
use rehome_core::{Halt, RemoteTrouble};
use secrecy::SecretString;
use serde_json::json;

use crate::database::{
    DatabaseIdentity, DatabaseKind, Limits, ReadDatabase, Rows, Select, Statement, WriteDatabase,
    Written,
};
use crate::value::Value;
use answer::{QueryResult, Trouble};
use transport::Transport;

/// Reads an answer as a document and as the results of a batch; whether it was either.
#[cfg(feature = "fuzzing")]
pub(crate) fn hostile(status: u16, body: &[u8]) -> bool {
    let reply = || transport::Reply::Answered { status, body: body.to_vec(), retry_after: None };
    let results = answer::results(reply());
    let understood = answer::document(reply()).is_ok() | results.is_ok();
    if let Ok(results) = results {
        drop(exact::decode_piece(&results));
        drop(exact::cells(&Select::new(["a", "b"], "FROM t"), results));
    }
    understood
}

/// Where Cloudflare's API is (`servers` of its OpenAPI document).
pub const API_URL: &str = "https://api.cloudflare.com/client/v4";

/// 1,200 requests in five minutes per user or account token, as
/// <https://developers.cloudflare.com/fundamentals/api/reference/limits/> says.
pub const RATE: Rate = Rate { requests: 1200, window: Duration::from_secs(300) };

/// <https://developers.cloudflare.com/d1/platform/limits/>: 2,000,000 bytes for a row, a string
/// or a blob; parameters stay below that. A request must end within 30 s, so it is kept small.
const LIMITS: Limits = Limits { row: 2_000_000, parameter: 1_900_000, request: 16_000_000 };

/// Everything needed to reach one D1 database.
pub struct D1Config {
    /// The account's id.
    pub account_id: String,
    /// The database's name or uuid.
    pub database: String,
    /// The API token: *D1 Read* for a reader, *D1 Write* for a writer.
    pub api_token: SecretString,
    /// Normally [`API_URL`].
    pub api_url: String,
    /// How a person calls it in messages: `source D1 database`.
    pub role: String,
    /// Shared by everything that uses the same token; normally made from [`RATE`].
    pub pacer: Arc<Pacer>,
    /// How reads are repeated.
    pub backoff: Backoff,
    /// Seeds the jitter of that.
    pub seed: u64,
    /// How long one request may take. D1 itself ends one after 30 s.
    pub timeout: Duration,
}

/// After how long D1 ends a query by itself (its published limits).
const LONGEST: Duration = Duration::from_secs(30);

impl D1Config {
    /// The usual settings: Cloudflare's address, its published rate, one minute a request.
    pub fn new(
        account_id: impl Into<String>,
        database: impl Into<String>,
        api_token: SecretString,
        role: impl Into<String>,
    ) -> Self {
        Self {
            account_id: account_id.into(),
            database: database.into(),
            api_token,
            api_url: API_URL.to_owned(),
            role: role.into(),
            pacer: Arc::new(Pacer::new(RATE, 0.9)),
            backoff: Backoff::default(),
            seed: 0,
            timeout: Duration::from_secs(60),
        }
    }
}

struct Client {
    identity: DatabaseIdentity,
    role: String,
    /// `/accounts/{account}/d1/database/{uuid}`
    path: String,
    transport: Transport,
    backoff: Backoff,
    seed: u64,
    asked: AtomicU64,
}

/// A D1 database that is only read. It has no way to send a writing statement.
pub struct D1Reader(Client);

/// A D1 database that is read and written.
pub struct D1Writer(Client);

impl D1Reader {
    /// Finds the database and proves that the token can read it.
    ///
    /// # Errors
    /// [`Halt::Remote`] when the API cannot be used; [`Halt::Refused`] when there is no such
    /// database.
    pub async fn connect(config: D1Config) -> Result<Self, Halt> {
        Client::connect(config).await.map(Self)
    }
}

impl D1Writer {
    /// As [`D1Reader::connect`]. Whether the token may write shows at the first write.
    ///
    /// # Errors
    /// As [`D1Reader::connect`].
    pub async fn connect(config: D1Config) -> Result<Self, Halt> {
        Client::connect(config).await.map(Self)
    }
}

impl Client {
    async fn connect(config: D1Config) -> Result<Self, Halt> {
        let account = utf8_percent_encode(&config.account_id, NON_ALPHANUMERIC).to_string();
        let transport =
            Transport::new(&config.api_url, &config.api_token, config.pacer, config.timeout)
                .map_err(|message| Halt::Refused {
                    message: format!("{}: {message}", config.role),
                    hint: "see api_url and api_token of this database".to_owned(),
                })?;
        let mut client = Self {
            identity: DatabaseIdentity {
                kind: DatabaseKind::D1,
                id: String::new(),
                name: config.database.clone(),
            },
            role: config.role,
            path: format!("/accounts/{account}/d1/database"),
            transport,
            backoff: config.backoff,
            seed: config.seed,
            asked: AtomicU64::new(0),
        };
        let (uuid, name) = client.find(&config.database).await?;
        client.path = format!("{}/{}", client.path, utf8_percent_encode(&uuid, NON_ALPHANUMERIC));
        client.identity.id = format!("{}/{uuid}", config.account_id);
        client.identity.name = name;
        Ok(client)
    }

    /// The uuid and name of the database that is called so.
    async fn find(&self, wanted: &str) -> Result<(String, String), Halt> {
        let not_found = || Halt::Refused {
            message: format!("{}: no D1 database called {wanted} in this account", self.role),
            hint: "see account_id and database; the token must have D1 permissions in that account"
                .to_owned(),
        };
        let read = |item: &serde_json::Value| {
            let uuid = item.get("uuid")?.as_str()?;
            let name = item.get("name")?.as_str()?;
            Some((uuid.to_owned(), name.to_owned()))
        };
        if is_uuid(wanted) {
            let path = format!("{}/{wanted}", self.path);
            return match self.get(&path).await {
                Ok(result) => read(&result).ok_or_else(not_found),
                Err(trouble) => Err(self.halt(trouble)),
            };
        }
        let name = utf8_percent_encode(wanted, NON_ALPHANUMERIC);
        // `name` matches by part, so the exact one may stand on a later page.
        for page in 1..=1000 {
            let path = format!("{}?name={name}&page={page}&per_page=100", self.path);
            let result = self.get(&path).await.map_err(|trouble| self.halt(trouble))?;
            let items = result.as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(found) = items.iter().filter_map(read).find(|(_, name)| name == wanted) {
                return Ok(found);
            }
            if items.len() < 100 {
                break;
            }
        }
        Err(not_found())
    }

    async fn get(&self, path: &str) -> Result<serde_json::Value, Trouble> {
        self.retried(|| async { answer::document(self.transport.get(path).await) }).await
    }

    /// One batch of statements, sent once.
    async fn send(&self, batch: &serde_json::Value) -> Result<Vec<QueryResult>, Trouble> {
        let path = format!("{}/raw", self.path);
        answer::results(self.transport.post(&path, batch).await)
    }

    /// Repeats what only reads, as long as there is hope.
    async fn retried<T, F, A>(&self, mut ask: F) -> Result<T, Trouble>
    where
        F: FnMut() -> A,
        A: Future<Output = Result<T, Trouble>>,
    {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let mut delays = self.backoff.delays(self.seed ^ number);
        loop {
            let trouble = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            let wait = match &trouble {
                Trouble::Later { retry_after, .. } => *retry_after,
                Trouble::Lost { .. } => None,
                Trouble::Refused { .. } | Trouble::Closed { .. } | Trouble::Gone { .. } => {
                    return Err(trouble);
                }
            };
            let Some(delay) = delays.next() else {
                return Err(trouble);
            };
            tracing::debug!(?trouble, "a read of {} is repeated", self.role);
            tokio::time::sleep(delay.max(wait.unwrap_or_default())).await;
        }
    }

    fn halt(&self, trouble: Trouble) -> Halt {
        match trouble {
            Trouble::Refused { message, .. } => Halt::Refused {
                message: format!("{} does not answer: {message}", self.role),
                hint: "the schema may have changed since it was read; run `rehome check`"
                    .to_owned(),
            },
            Trouble::Gone { message } => Halt::Refused {
                message: format!("{}: {message}", self.role),
                hint: "see account_id and database".to_owned(),
            },
            Trouble::Closed { trouble, message } => Halt::Remote {
                remote: self.role.clone(),
                trouble,
                message,
                hint: answer::hint(trouble).to_owned(),
            },
            Trouble::Later { reason, .. } | Trouble::Lost { reason } => Halt::Remote {
                remote: self.role.clone(),
                trouble: RemoteTrouble::Unreachable,
                message: reason,
                hint: answer::hint(RemoteTrouble::Unreachable).to_owned(),
            },
        }
    }

    async fn select(&self, queries: &[Select]) -> Result<Vec<Rows>, Halt> {
        let batch: Vec<_> =
            queries.iter().flat_map(exact::statements).map(|statement| wire(&statement)).collect();
        let body = json!({ "batch": batch });
        let expected = batch.len();
        let results = self
            .retried(|| async {
                let results = self.send(&body).await?;
                if results.len() == expected {
                    Ok(results)
                } else {
                    Err(Trouble::Closed {
                        trouble: RemoteTrouble::Protocol,
                        message: format!("{} results for {expected} statements", results.len()),
                    })
                }
            })
            .await
            .map_err(|trouble| self.halt(trouble))?;
        let mut results = results.into_iter();
        let mut answers = Vec::with_capacity(queries.len());
        for query in queries {
            let parts: Vec<_> = results.by_ref().take(exact::parts(query)).collect();
            let cells = exact::cells(query, parts).map_err(|message| self.protocol(message))?;
            let mut rows = Vec::with_capacity(cells.len());
            for (index, row) in cells.into_iter().enumerate() {
                let mut values = Vec::with_capacity(row.len());
                for (column, cell) in row.into_iter().enumerate() {
                    values.push(match cell {
                        exact::Cell::Whole(value) => value,
                        exact::Cell::Large { text, bytes } => {
                            let content = self.large(query, index, column, bytes).await?;
                            if text { Value::Text(content) } else { Value::Blob(content) }
                        }
                    });
                }
                rows.push(values);
            }
            answers.push(rows);
        }
        Ok(answers)
    }

    /// A value whose hexadecimal form would be larger than D1 lets any string be: in pieces.
    async fn large(
        &self,
        query: &Select,
        row: usize,
        column: usize,
        bytes: usize,
    ) -> Result<Vec<u8>, Halt> {
        let mut content = Vec::with_capacity(bytes.min(LIMITS.row));
        while content.len() < bytes {
            let statement = exact::piece(query, row, column, content.len());
            let body = json!({ "batch": [wire(&statement)] });
            let results =
                self.retried(|| self.send(&body)).await.map_err(|trouble| self.halt(trouble))?;
            let piece = exact::decode_piece(&results).map_err(|message| self.protocol(message))?;
            if piece.is_empty() {
                return Err(self.changed());
            }
            content.extend_from_slice(&piece);
        }
        if content.len() == bytes { Ok(content) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Halt {
        Halt::Refused {
            message: format!("{} changed while a large value was read from it", self.role),
            hint: "run again".to_owned(),
        }
    }

    fn protocol(&self, message: String) -> Halt {
        self.halt(Trouble::Closed { trouble: RemoteTrouble::Protocol, message })
    }

    async fn bookmark(&self) -> Result<Option<String>, Halt> {
        let path = format!("{}/time_travel/bookmark", self.path);
        match self.get(&path).await {
            Ok(result) => {
                Ok(result.get("bookmark").and_then(serde_json::Value::as_str).map(str::to_owned))
            }
            Err(trouble) => Err(self.halt(trouble)),
        }
    }

    async fn write(&self, statements: &[Statement]) -> Written {
        let batch: Vec<_> = statements.iter().map(wire).collect();
        let results = match self.send(&json!({ "batch": batch })).await {
            Ok(results) => results,
            Err(Trouble::Refused { refusal, message }) => {
                return Written::Refused { refusal, message };
            }
            Err(Trouble::Later { reason, retry_after }) => {
                return Written::NotSent { reason, retry_after, halt: None };
            }
            Err(Trouble::Lost { reason }) => return Written::Unknown { reason },
            Err(trouble @ (Trouble::Closed { .. } | Trouble::Gone { .. })) => {
                let halt = self.halt(trouble);
                return Written::NotSent {
                    reason: halt.to_string(),
                    retry_after: None,
                    halt: Some(halt),
                };
            }
        };
        if results.len() != statements.len() {
            return Written::Unknown {
                reason: format!("{} results for {} statements", results.len(), statements.len()),
            };
        }
        Written::Done { changes: results.iter().map(|result| result.changes).sum() }
    }
}

fn wire(statement: &Statement) -> serde_json::Value {
    json!({ "sql": statement.sql, "params": statement.params })
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

impl ReadDatabase for D1Reader {
    fn identity(&self) -> &DatabaseIdentity {
        &self.0.identity
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn requests(&self) -> u64 {
        self.0.transport.requests()
    }

    fn select(&self, queries: Vec<Select>) -> BoxFuture<'_, Result<Vec<Rows>, Halt>> {
        Box::pin(async move { self.0.select(&queries).await })
    }

    fn bookmark(&self) -> BoxFuture<'_, Result<Option<String>, Halt>> {
        Box::pin(self.0.bookmark())
    }
}

impl ReadDatabase for D1Writer {
    fn identity(&self) -> &DatabaseIdentity {
        &self.0.identity
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn requests(&self) -> u64 {
        self.0.transport.requests()
    }

    fn select(&self, queries: Vec<Select>) -> BoxFuture<'_, Result<Vec<Rows>, Halt>> {
        Box::pin(async move { self.0.select(&queries).await })
    }

    fn bookmark(&self) -> BoxFuture<'_, Result<Option<String>, Halt>> {
        Box::pin(self.0.bookmark())
    }
}

impl WriteDatabase for D1Writer {
    fn write(&self, statements: Vec<Statement>) -> BoxFuture<'_, Written> {
        Box::pin(async move { self.0.write(&statements).await })
    }

    fn flight_time(&self) -> Duration {
        LONGEST
    }
}
