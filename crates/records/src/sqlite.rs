//! A SQLite file.
//!
//! Values are read natively, so nothing has to be wrapped. A reader opens the file read-only: it
//! cannot write even by mistake. The one thing that needs more is a transaction that another program
//! left unfinished (`sqlite/unfinished.rs`): it is SQLite that takes that back, not we. A writer
//! performs each request in one `BEGIN IMMEDIATE` transaction with foreign keys on. SQLite's calls
//! block, so they run on tokio's blocking threads, one at a time per connection.

mod error;
#[cfg(test)]
mod tests;
mod unfinished;

pub use error::OpenError;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_core::boundary::{self, Boundary};
use rehome_core::{Halt, RemoteTrouble};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::database::{
    DatabaseIdentity, DatabaseKind, Limits, ReadDatabase, Refusal, Rows, Select, Statement,
    WriteDatabase, Written,
};
use crate::value::Value;

/// How long to wait for another program's lock on the file.
const BUSY: Duration = Duration::from_secs(30);
/// How often in a row a write waits so long before the run ends: as long as the engine bears with a
/// target that does not answer, so that the one who knows the reason says it.
const BUSY_WRITES: u32 = 4;
/// What to do about a lock.
const LOCKED: &str =
    "another program holds the file: let it finish, or end it, then run the same command";
/// SQLite's own limit is a thousand million bytes; parameters are kept as small as D1's, so that
/// memory stays flat and one path is tested.
const LIMITS: Limits = Limits { row: 999_999_999, parameter: 1_900_000, request: 64_000_000 };

fn is_locked(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

#[derive(Clone)]
struct File {
    path: PathBuf,
    identity: DatabaseIdentity,
    connection: Arc<Mutex<Connection>>,
    room: Room,
    /// How often in a row a write found the file locked.
    busy: Arc<AtomicU32>,
}

/// Where SQLite's calls are made.
#[derive(Clone, Copy)]
enum Room {
    /// On tokio's blocking threads.
    Aside,
    /// On the caller's thread.
    Here,
}

/// A SQLite file, opened for reading only.
pub struct SqliteReader(File);

/// A SQLite file, opened for reading and writing. It must exist already.
pub struct SqliteWriter(File);

impl SqliteReader {
    /// Opens `path` read-only.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        File::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, BUSY).map(Self)
    }

    /// The same reader of a file that people know by another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.0.identity.name);
        self
    }

    /// The same reader, asking on the caller's thread: for a program that runs a whole migration
    /// in one thread and virtual time, where no seed decides when another thread is done.
    #[must_use]
    pub fn inline(self) -> Self {
        Self(File { room: Room::Here, ..self.0 })
    }
}

impl SqliteWriter {
    /// Opens `path` for reading and writing; never creates it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        File::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, BUSY).map(Self)
    }

    /// The same writer of a file that people know by another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.0.identity.name);
        self
    }

    /// The same writer, working on the caller's thread; see [`SqliteReader::inline`].
    #[must_use]
    pub fn inline(self) -> Self {
        Self(File { room: Room::Here, ..self.0 })
    }
}

impl File {
    fn open(path: &Path, access: OpenFlags, patience: Duration) -> Result<Self, OpenError> {
        let shown = path.display().to_string();
        let canonical: PathBuf = path
            .canonicalize()
            .map_err(|source| OpenError::File { path: shown.clone(), source })?;
        if !canonical.is_file() {
            return Err(OpenError::NotAFile { path: shown });
        }
        let trouble = |source| OpenError::of(&shown, source);
        let connection =
            Connection::open_with_flags(&canonical, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
                .map_err(trouble)?;
        connection.busy_timeout(patience).map_err(trouble)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(trouble)?;
        // The first question that reads the file: here it shows whether it is a database at all.
        let first = || -> rusqlite::Result<String> {
            connection.query_row(
                "SELECT encoding FROM pragma_encoding, (SELECT count(*) FROM sqlite_master)",
                [],
                |row| row.get(0),
            )
        };
        let encoding = match first() {
            Err(error) if unfinished::stands(&error) => {
                unfinished::take_back(&canonical, patience).map_err(|source| {
                    let path = shown.clone();
                    match is_locked(&source) {
                        true => OpenError::Locked { path, source },
                        false => OpenError::Unfinished { path, source },
                    }
                })?;
                first()
            }
            answer => answer,
        };
        let encoding = encoding.map_err(trouble)?;
        if encoding != "UTF-8" {
            return Err(OpenError::Encoding { path: shown, encoding });
        }
        let name = canonical.file_name().map_or_else(
            || canonical.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        Ok(Self {
            identity: DatabaseIdentity {
                kind: DatabaseKind::Sqlite,
                id: canonical.display().to_string(),
                name,
            },
            path: canonical,
            connection: Arc::new(Mutex::new(connection)),
            room: Room::Aside,
            busy: Arc::default(),
        })
    }

    async fn run<T, F>(&self, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> T + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let work = move || {
            // A panic elsewhere rolled its transaction back when it was dropped.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection)
        };
        match self.room {
            Room::Aside => {
                tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
            }
            Room::Here => Ok(work()),
        }
    }

    async fn select(&self, queries: Vec<Select>) -> Result<Vec<Rows>, Halt> {
        let path = self.path.clone();
        let read = move |connection: &mut Connection| match read_all(connection, &queries) {
            Err(error) if unfinished::stands(&error) => {
                unfinished::take_back(&path, BUSY)?;
                read_all(connection, &queries)
            }
            answer => answer,
        };
        self.run(read).await.map_err(Halt::Bug)?.map_err(|error| self.read_trouble(&error))
    }

    async fn write(&self, statements: Vec<Statement>) -> Written {
        let written = self.run(move |connection| write_all(connection, &statements)).await;
        match written.unwrap_or_else(|reason| Wrote::Answered(Written::Unknown { reason })) {
            Wrote::Answered(answer) => {
                self.busy.store(0, Ordering::Relaxed);
                answer
            }
            Wrote::Locked { reason } => {
                let waited = self.busy.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                let halt = (waited >= BUSY_WRITES).then(|| self.locked());
                Written::NotSent { reason, retry_after: None, halt }
            }
        }
    }

    fn locked(&self) -> Halt {
        Halt::Remote {
            remote: self.identity.to_string(),
            trouble: RemoteTrouble::Unreachable,
            message: "another program holds the file locked".to_owned(),
            hint: LOCKED.to_owned(),
        }
    }

    fn read_trouble(&self, error: &rusqlite::Error) -> Halt {
        if is_locked(error) {
            return self.locked();
        }
        if unfinished::stands(error) {
            return Halt::Remote {
                remote: self.identity.to_string(),
                trouble: RemoteTrouble::Unreachable,
                message: format!(
                    "another program did not finish a transaction, and it cannot be taken back: {error}"
                ),
                hint: unfinished::HINT.to_owned(),
            };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::Unknown | ErrorCode::TypeMismatch) | None => Halt::Refused {
                message: format!("{} does not answer: {error}", self.identity),
                hint: "the schema may have changed since it was read; run `rehome check`"
                    .to_owned(),
            },
            Some(_) => Halt::Remote {
                remote: self.identity.to_string(),
                trouble: RemoteTrouble::Unreachable,
                message: error.to_string(),
                hint: "see that the file is whole, then run the same command".to_owned(),
            },
        }
    }
}

fn read_all(connection: &mut Connection, queries: &[Select]) -> rusqlite::Result<Vec<Rows>> {
    // One transaction, so that all answers come from one state of the file.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let mut answers = Vec::with_capacity(queries.len());
    for query in queries {
        let sql = format!("SELECT {} {}", query.columns.join(", "), query.rest);
        let mut statement = transaction.prepare_cached(&sql)?;
        let mut cursor = statement.query(rusqlite::params_from_iter(query.param.iter()))?;
        let mut rows = Vec::new();
        while let Some(row) = cursor.next()? {
            let mut values = Vec::with_capacity(query.columns.len());
            for index in 0..query.columns.len() {
                values.push(match row.get_ref(index)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(number) => Value::Integer(number),
                    ValueRef::Real(number) => Value::Real(number),
                    ValueRef::Text(bytes) => Value::Text(bytes.into()),
                    ValueRef::Blob(bytes) => Value::Blob(bytes.into()),
                });
            }
            rows.push(values);
        }
        answers.push(rows);
    }
    transaction.commit()?;
    Ok(answers)
}

/// What came of a write.
enum Wrote {
    /// This.
    Answered(Written),
    /// Nothing: another program held the file for as long as was waited.
    Locked { reason: String },
}

fn write_all(connection: &mut Connection, statements: &[Statement]) -> Wrote {
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => return not_sent(&error),
    };
    let before = transaction.total_changes();
    for statement in statements {
        let result = transaction.prepare(&statement.sql).and_then(|mut prepared| {
            let mut rows = prepared.query(rusqlite::params_from_iter(statement.params.iter()))?;
            while rows.next()?.is_some() {}
            Ok(())
        });
        if let Err(error) = result {
            // Dropping the transaction rolls it back.
            return refused(&error);
        }
    }
    let changes = transaction.total_changes().saturating_sub(before);
    boundary::reach(Boundary::RowsWritten);
    match transaction.commit() {
        Ok(()) => {
            boundary::reach(Boundary::RowsDurable);
            Wrote::Answered(Written::Done { changes })
        }
        // A deferred foreign key is checked here, and refuses the commit.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            refused(&error)
        }
        Err(error) => Wrote::Answered(Written::Unknown { reason: error.to_string() }),
    }
}

fn not_sent(error: &rusqlite::Error) -> Wrote {
    let reason = error.to_string();
    if is_locked(error) {
        return Wrote::Locked { reason };
    }
    Wrote::Answered(Written::NotSent { reason, retry_after: None, halt: None })
}

fn refused(error: &rusqlite::Error) -> Wrote {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied,
        ) => not_sent(error),
        Some(_) | None => {
            let message = error.to_string();
            Wrote::Answered(Written::Refused { refusal: Refusal::from_message(&message), message })
        }
    }
}

impl ReadDatabase for SqliteReader {
    fn identity(&self) -> &DatabaseIdentity {
        &self.0.identity
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn select(&self, queries: Vec<Select>) -> BoxFuture<'_, Result<Vec<Rows>, Halt>> {
        Box::pin(self.0.select(queries))
    }

    fn bookmark(&self) -> BoxFuture<'_, Result<Option<String>, Halt>> {
        Box::pin(async { Ok(None) })
    }
}

impl ReadDatabase for SqliteWriter {
    fn identity(&self) -> &DatabaseIdentity {
        &self.0.identity
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn select(&self, queries: Vec<Select>) -> BoxFuture<'_, Result<Vec<Rows>, Halt>> {
        Box::pin(self.0.select(queries))
    }

    fn bookmark(&self) -> BoxFuture<'_, Result<Option<String>, Halt>> {
        Box::pin(async { Ok(None) })
    }
}

impl WriteDatabase for SqliteWriter {
    fn write(&self, statements: Vec<Statement>) -> BoxFuture<'_, Written> {
        Box::pin(self.0.write(statements))
    }
}
