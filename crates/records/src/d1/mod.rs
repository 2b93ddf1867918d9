//! A Cloudflare D1 database behind its REST API.
//!
//! Everything goes through `POST …/d1/database/{uuid}/raw` with a `batch`: one request is one
//! transaction, answers keep duplicate column names, and parameters are strings, the one form that
//! the published schema allows. Values are read through `exact`, because the API's own JSON rounds
//! 64-bit integers, drops infinities and repairs broken text (measured; workers-sdk issue 15378).
//! `answer` sorts what comes back into *happened*, *refused*, *later* and *lost*; `transport` is
//! the only place that sends; `api` knows that the same engine also answers on a developer's
//! machine, where `wrangler dev` serves it.
//!
//! Many rows for a target that is not in use may also go as one file, by `import`.
//!
//! Reads are retried here. A write is sent once and its answer is given to the engine as it is: a
//! lost connection on a write is ambiguous, and only a probe may settle it.

mod answer;
mod api;
mod exact;
mod import;
pub mod local;
mod portion;
mod time_travel;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_core::backoff::Backoff;
use rehome_core::pacer::{Pacer, Rate};
use rehome_core::{Halt, RemoteTrouble};
use secrecy::SecretString;
use serde::Serialize;

use crate::database::{
    DatabaseIdentity, DatabaseKind, Limits, ReadDatabase, Restored, Rows, Select, Statement,
    WriteDatabase, Written, size,
};
use crate::script::Script;
use crate::value::Value;
use answer::{QueryResult, Trouble};
pub use api::{API_URL, Api, LOCAL_EXPLORER_URL};
use exact::Cell;
use portion::Portion;
use transport::Transport;

/// Reads an answer as a document and as the results of a batch; whether it was either.
#[cfg(feature = "fuzzing")]
pub(crate) fn hostile(status: u16, body: &[u8]) -> bool {
    let reply = || transport::Reply::Answered { status, body: body.to_vec(), retry_after: None };
    let results = answer::results(reply());
    let understood = answer::document(reply()).is_ok() | results.is_ok();
    if let Ok(results) = results {
        drop(exact::cells(&Select::new(["a", "b"], "FROM t"), results));
    }
    drop(answer::results(reply()).map(exact::decode_piece));
    understood
}

/// 1,200 requests in five minutes per user or account token, as
/// <https://developers.cloudflare.com/fundamentals/api/reference/limits/> says.
pub const RATE: Rate = Rate { requests: 1200, window: Duration::from_secs(300) };

/// The local explorer counts nothing; this only keeps a mistake from becoming a storm.
pub const LOCAL_RATE: Rate = Rate { requests: 1000, window: Duration::from_secs(1) };

/// <https://developers.cloudflare.com/d1/platform/limits/>: 2,000,000 bytes for a row, a string
/// or a blob; parameters stay below that. A request must end within 30 s, so it is kept small.
const LIMITS: Limits = Limits { row: 2_000_000, parameter: 1_900_000, request: 16_000_000 };

/// Everything needed to reach one D1 database.
pub struct D1Config {
    /// Which API, and who asks.
    pub api: Api,
    /// The database's name (for the local explorer, its binding) or uuid.
    pub database: String,
    /// Normally [`API_URL`] or [`LOCAL_EXPLORER_URL`].
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
        let api = Api::Cloudflare { account_id: account_id.into(), token: api_token };
        Self::with(api, API_URL, RATE, 0.9, database.into(), role.into())
    }

    /// The usual settings for the local explorer of `wrangler dev`.
    pub fn local_explorer(database: impl Into<String>, role: impl Into<String>) -> Self {
        let (api, url) = (Api::LocalExplorer, LOCAL_EXPLORER_URL);
        Self::with(api, url, LOCAL_RATE, 1.0, database.into(), role.into())
    }

    fn with(api: Api, url: &str, rate: Rate, share: f64, database: String, role: String) -> Self {
        Self {
            api,
            database,
            api_url: url.to_owned(),
            role,
            pacer: Arc::new(Pacer::new(rate, share)),
            backoff: Backoff::default(),
            seed: 0,
            timeout: Duration::from_secs(60),
        }
    }
}

struct Client {
    identity: DatabaseIdentity,
    api: Api,
    role: String,
    /// Of the database, below the API's address.
    path: String,
    transport: Transport,
    portion: Portion,
    backoff: Backoff,
    seed: u64,
    asked: AtomicU64,
    /// Held by whoever asks anything, and alone by an import: nobody else is answered then.
    quiet: tokio::sync::RwLock<()>,
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
        let transport =
            Transport::new(&config.api_url, config.api.token(), config.pacer, config.timeout)
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
            api: config.api,
            role: config.role,
            path: String::new(),
            transport,
            portion: Portion::default(),
            backoff: config.backoff,
            seed: config.seed,
            asked: AtomicU64::new(0),
            quiet: tokio::sync::RwLock::default(),
        };
        let (uuid, name) = client.find(&config.database).await?;
        client.path = client.api.database(&uuid);
        client.identity.id = client.api.identity(&uuid);
        client.identity.name = name;
        Ok(client)
    }

    async fn get(&self, path: &str) -> Result<serde_json::Value, Trouble> {
        self.retried(|| async { answer::document(self.transport.get(path).await) }).await
    }

    /// One batch of statements, sent once.
    async fn send(&self, batch: &[Statement]) -> Result<Vec<QueryResult>, Trouble> {
        let _shared = self.quiet.read().await;
        let path = format!("{}/raw", self.path);
        answer::results(self.transport.post(&path, &Batch { batch }).await)
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
        let batch: Vec<_> = queries.iter().flat_map(exact::statements).collect();
        let expected = batch.len();
        let results = self
            .retried(|| async {
                let results = self.send(&batch).await?;
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
                        Cell::Whole(value) => value,
                        Cell::Large { text, bytes } => {
                            let content = self.large(query, index, column, bytes).await?.into();
                            if text { Value::Text(content) } else { Value::Blob(content) }
                        }
                        Cell::Odd => return Err(self.protocol("an odd value".to_owned())),
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
            let piece = [exact::piece(query, row, column, content.len())];
            let results =
                self.retried(|| self.send(&piece)).await.map_err(|trouble| self.halt(trouble))?;
            let piece = exact::decode_piece(results).map_err(|message| self.protocol(message))?;
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

    async fn write(&self, statements: &[Statement]) -> Written {
        let bytes = size(statements);
        let answer = self.send(statements).await;
        if let Err(trouble) = &answer {
            self.portion.failed(bytes, trouble);
        }
        let results = match answer {
            Ok(results) => results,
            Err(trouble) => return self.written(trouble),
        };
        if results.len() != statements.len() {
            return Written::Unknown {
                reason: format!("{} results for {} statements", results.len(), statements.len()),
            };
        }
        self.portion.done(bytes, results.iter().map(|result| result.took).sum());
        Written::Done { changes: results.iter().map(|result| result.changes).sum() }
    }

    /// What a request that was to change something has led to.
    fn written(&self, trouble: Trouble) -> Written {
        match trouble {
            Trouble::Refused { refusal, message } => Written::Refused { refusal, message },
            Trouble::Later { reason, retry_after } => {
                Written::NotSent { reason, retry_after, halt: None }
            }
            Trouble::Lost { reason } => Written::Unknown { reason },
            trouble @ (Trouble::Closed { .. } | Trouble::Gone { .. }) => {
                let halt = self.halt(trouble);
                let reason = halt.to_string();
                Written::NotSent { reason, retry_after: None, halt: Some(halt) }
            }
        }
    }
}

/// The body of a request.
#[derive(Serialize)]
struct Batch<'a> {
    batch: &'a [Statement],
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

    fn comfortable(&self) -> usize {
        self.0.portion.bytes()
    }

    fn takes_files(&self) -> bool {
        self.0.takes_files()
    }

    fn load(&self, script: Script) -> BoxFuture<'_, Written> {
        Box::pin(self.0.import(script))
    }

    fn restore<'a>(&'a self, bookmark: &'a str) -> BoxFuture<'a, Restored> {
        Box::pin(self.0.restore(bookmark))
    }

    fn flight_time(&self) -> Duration {
        LONGEST
    }
}
