//! The emulated account: its databases, its token, what tests may ask of it.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::Serialize;
use serde_json::{Value, json};

use super::database::Database;
use super::errors::SqlError;
use super::rate::RateLimit;
use super::storage::{PrivateFolder, open_plain};
use super::transfer::Transfers;

/// A database to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSpec {
    /// The id under which the API knows it.
    pub uuid: String,
    /// Its name; `GET` of one database takes it in place of the id, as Cloudflare's does.
    pub name: String,
    /// The SQLite file, made when absent; `None` for a private file that goes with the [`D1`].
    pub path: Option<PathBuf>,
}

/// A served database, as tests see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseView {
    /// The id under which the API knows it.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Its SQLite file, in WAL mode.
    pub path: PathBuf,
}

/// Why the emulator could not do what a test asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite refused.
    #[error("SQLite refused")]
    Sqlite(#[from] rusqlite::Error),
    /// The folder for private databases could not be made.
    #[error("could not make a folder for private databases")]
    Folder(#[source] io::Error),
    /// Two databases have the same id or name.
    #[error("two databases are called {0}")]
    Duplicate(String),
    /// No database has this id.
    #[error("no database has the id {0}")]
    UnknownDatabase(String),
}

/// Requests per endpoint, and those that were turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Endpoint {
    List,
    Get,
    Query,
    Raw,
    Bookmark,
    Restore,
    Import,
    Export,
    Explorer,
    Unauthorized,
    RateLimited,
    Unrouted,
}

impl Endpoint {
    const ALL: [Self; 12] = [
        Self::List,
        Self::Get,
        Self::Query,
        Self::Raw,
        Self::Bookmark,
        Self::Restore,
        Self::Import,
        Self::Export,
        Self::Explorer,
        Self::Unauthorized,
        Self::RateLimited,
        Self::Unrouted,
    ];
}

/// One Cloudflare account with D1 databases. Share it in an [`Arc`]; see [`super::router`].
#[derive(Debug)]
pub struct D1 {
    pub(crate) account_id: String,
    // Made up by the test that starts the emulator, printed by `rehome emulate`: not a secret.
    pub(crate) api_token: String,
    databases: Vec<Arc<Database>>,
    requests: Mutex<BTreeMap<Endpoint, u64>>,
    rate: Option<Mutex<RateLimit>>,
    transfers: Mutex<Transfers>,
    // Declared after the databases, so that their files are closed before the folder goes.
    _folder: Option<PrivateFolder>,
}

impl D1 {
    /// Opens every database.
    ///
    /// `account_id` is the account in the paths; `api_token` the one token that is let in.
    ///
    /// # Errors
    /// When an id or name appears twice, or a file cannot be opened or made.
    pub fn new(
        account_id: impl Into<String>,
        api_token: impl Into<String>,
        databases: Vec<DatabaseSpec>,
    ) -> Result<Self, Error> {
        let mut folder: Option<PrivateFolder> = None;
        let mut taken = HashSet::new();
        let mut opened = Vec::with_capacity(databases.len());
        for (number, spec) in databases.into_iter().enumerate() {
            for label in HashSet::from([spec.uuid.clone(), spec.name.clone()]) {
                if !taken.insert(label.clone()) {
                    return Err(Error::Duplicate(label));
                }
            }
            let path = match spec.path {
                Some(path) => path,
                None => {
                    let private = match folder.take() {
                        Some(private) => private,
                        None => PrivateFolder::create().map_err(Error::Folder)?,
                    };
                    let path = private.path().join(format!("{number}.sqlite"));
                    folder = Some(private);
                    path
                }
            };
            opened.push(Arc::new(Database::open(spec.uuid, spec.name, path)?));
        }
        Ok(Self {
            account_id: account_id.into(),
            api_token: api_token.into(),
            databases: opened,
            requests: Mutex::default(),
            rate: None,
            transfers: Mutex::default(),
            _folder: folder,
        })
    }

    /// Lets only `requests` through in each `window`, answering 429 with `retry-after` beyond;
    /// Cloudflare's figure is 1,200 in five minutes. Without this call nothing is limited.
    #[must_use]
    pub fn with_rate_limit(mut self, requests: u32, window: Duration) -> Self {
        self.rate = Some(Mutex::new(RateLimit::new(requests, window)));
        self
    }

    /// The databases, in the order they were given.
    #[must_use]
    pub fn databases(&self) -> Vec<DatabaseView> {
        self.databases
            .iter()
            .map(|database| DatabaseView {
                uuid: database.uuid.clone(),
                name: database.name.clone(),
                path: database.path.clone(),
            })
            .collect()
    }

    /// The file of the database `uuid`, which another connection may open at any time (WAL).
    ///
    /// # Errors
    /// When no database has this id.
    pub fn open_path(&self, uuid: &str) -> Result<PathBuf, Error> {
        Ok(self.known(uuid)?.path.clone())
    }

    /// Runs SQL on the database `uuid` with neither D1's limits nor its authorizer, uncounted: for
    /// schemas and seeds.
    ///
    /// # Errors
    /// When no database has this id, or SQLite refuses.
    #[allow(
        clippy::disallowed_methods,
        reason = "the emulated D1 is one of the rooms where SQL is run"
    )]
    pub fn execute_sql(&self, uuid: &str, sql: &str) -> Result<(), Error> {
        self.setup(uuid, |connection| connection.execute_batch(sql))?;
        Ok(())
    }

    /// Gives `body` a plain connection to the database `uuid`, uncounted.
    ///
    /// Returns what `body` returns; its error type has to take this module's in.
    ///
    /// # Errors
    /// When no database has this id, the file cannot be opened, or `body` fails.
    pub fn setup<T, E>(
        &self,
        uuid: &str,
        body: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, Error>
    where
        Error: From<E>,
    {
        let connection = open_plain(&self.known(uuid)?.path)?;
        Ok(body(&connection)?)
    }

    /// Makes the database `uuid` slow: each row and index entry that a request writes counts as so
    /// much time in `meta.duration`, and a request that comes to more than D1's 30 s is rolled back
    /// in D1's words. Nobody really waits.
    ///
    /// # Errors
    /// When no database has this id.
    pub fn set_write_cost(&self, uuid: &str, cost: Duration) -> Result<(), Error> {
        self.known(uuid)?.set_write_cost(cost);
        Ok(())
    }

    /// What the emulator was asked and what it changed: `{"requests": {"list", "get", "query",
    /// "raw", "bookmark", "restore", "import", "export", "explorer", "unauthorized", "rate_limited", "unrouted"}, "databases": {UUID: {"name",
    /// "write_requests", "failed_requests", "restores", "unnamed_changes", "tables": {TABLE: {"inserted",
    /// "updated", "deleted", "rows": {KEY: WRITES}}}}}}`.
    #[must_use]
    pub fn counters(&self) -> Value {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let requests: serde_json::Map<String, Value> = Endpoint::ALL
            .iter()
            .filter_map(|endpoint| {
                let name = serde_json::to_value(endpoint).ok()?;
                let count = requests.get(endpoint).copied().unwrap_or(0);
                Some((name.as_str()?.to_owned(), count.into()))
            })
            .collect();
        let databases: serde_json::Map<String, Value> = self
            .databases
            .iter()
            .map(|database| {
                // Maps with string keys and numbers always serialise.
                let mut effects = serde_json::to_value(database.effects()).unwrap_or(Value::Null);
                if let Some(fields) = effects.as_object_mut() {
                    fields.insert("name".to_owned(), database.name.clone().into());
                }
                (database.uuid.clone(), effects)
            })
            .collect();
        json!({ "requests": requests, "databases": databases })
    }

    /// Files on their way.
    pub(crate) fn transfers(&self) -> MutexGuard<'_, Transfers> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one request.
    pub(crate) fn count(&self, endpoint: Endpoint) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(endpoint).or_default() += 1;
    }

    /// Takes one request from the rate limit, if there is one.
    ///
    /// # Errors
    /// When it is used up: how long until requests are let in again.
    #[allow(clippy::disallowed_methods, reason = "the emulated D1 works in real time")]
    pub(crate) fn admit(&self) -> Result<(), Duration> {
        match &self.rate {
            Some(rate) => rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()),
            None => Ok(()),
        }
    }

    /// The database with this id.
    pub(crate) fn find(&self, uuid: &str) -> Option<Arc<Database>> {
        self.databases.iter().find(|database| database.uuid == uuid).cloned()
    }

    /// The database with this id or name.
    pub(crate) fn find_by_any_name(&self, key: &str) -> Option<Arc<Database>> {
        self.databases.iter().find(|database| database.uuid == key || database.name == key).cloned()
    }

    /// The databases whose name contains `part`.
    pub(crate) fn named_like(&self, part: &str) -> Vec<Arc<Database>> {
        self.databases.iter().filter(|database| database.name.contains(part)).cloned().collect()
    }

    fn known(&self, uuid: &str) -> Result<Arc<Database>, Error> {
        self.find(uuid).ok_or_else(|| Error::UnknownDatabase(uuid.to_owned()))
    }
}

/// Everything the API says about one database.
///
/// # Errors
/// When SQLite cannot tell the size.
pub(crate) fn describe(database: &Database) -> Result<serde_json::Map<String, Value>, SqlError> {
    let (file_size, num_tables) = database.describe()?;
    Ok(serde_json::Map::from_iter([
        ("uuid".to_owned(), json!(database.uuid)),
        ("name".to_owned(), json!(database.name)),
        ("created_at".to_owned(), json!(database.created_at.to_string())),
        ("version".to_owned(), json!("production")),
        ("num_tables".to_owned(), json!(num_tables)),
        ("file_size".to_owned(), json!(file_size)),
        ("running_in_region".to_owned(), json!("WEUR")),
        ("read_replication".to_owned(), json!({ "mode": "disabled" })),
    ]))
}
