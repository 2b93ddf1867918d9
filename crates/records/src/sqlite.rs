//! A SQLite file.
//!
//! Values are read natively, so nothing has to be wrapped. A reader opens the file read-only: it
//! cannot write even by mistake. A writer performs each request in one `BEGIN IMMEDIATE`
//! transaction with foreign keys on. SQLite's calls block, so they run on tokio's blocking
//! threads, one at a time per connection.

use std::path::{Path, PathBuf};
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
/// SQLite's own limit is a thousand million bytes; parameters are kept as small as D1's, so that
/// memory stays flat and one path is tested.
const LIMITS: Limits = Limits { row: 999_999_999, parameter: 1_900_000, request: 64_000_000 };

/// Why a file cannot be used as a database.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file, or it may not be read.
    #[error("the database file {path} cannot be read")]
    File {
        /// The path as it was given.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The path names something other than a file.
    #[error("{path} is not a file")]
    NotAFile {
        /// The path as it was given.
        path: String,
    },
    /// The file is not a SQLite database, or SQLite cannot open it.
    #[error("{path} cannot be opened as a SQLite database")]
    Sqlite {
        /// The path as it was given.
        path: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The database keeps its text in UTF-16.
    #[error("{path} keeps its text as {encoding}; only UTF-8 databases are carried")]
    Encoding {
        /// The path as it was given.
        path: String,
        /// The encoding found.
        encoding: String,
    },
}

#[derive(Clone)]
struct File {
    identity: DatabaseIdentity,
    connection: Arc<Mutex<Connection>>,
    room: Room,
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
        File::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map(Self)
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
        File::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map(Self)
    }

    /// The same writer, working on the caller's thread; see [`SqliteReader::inline`].
    #[must_use]
    pub fn inline(self) -> Self {
        Self(File { room: Room::Here, ..self.0 })
    }
}

impl File {
    fn open(path: &Path, access: OpenFlags) -> Result<Self, OpenError> {
        let shown = path.display().to_string();
        let canonical: PathBuf = path
            .canonicalize()
            .map_err(|source| OpenError::File { path: shown.clone(), source })?;
        if !canonical.is_file() {
            return Err(OpenError::NotAFile { path: shown });
        }
        let sqlite = |source| OpenError::Sqlite { path: shown.clone(), source };
        let connection =
            Connection::open_with_flags(&canonical, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
                .map_err(sqlite)?;
        connection.busy_timeout(BUSY).map_err(sqlite)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(sqlite)?;
        // The first question that reads the file: here it shows whether it is a database at all.
        let encoding: String = connection
            .query_row(
                "SELECT encoding FROM pragma_encoding, (SELECT count(*) FROM sqlite_master)",
                [],
                |row| row.get(0),
            )
            .map_err(sqlite)?;
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
            connection: Arc::new(Mutex::new(connection)),
            room: Room::Aside,
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
        self.run(move |connection| read_all(connection, &queries))
            .await
            .map_err(Halt::Bug)?
            .map_err(|error| self.read_trouble(&error))
    }

    fn read_trouble(&self, error: &rusqlite::Error) -> Halt {
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
                hint: "see that the file is whole and that no other program holds it locked"
                    .to_owned(),
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

fn write_all(connection: &mut Connection, statements: &[Statement]) -> Written {
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            return Written::NotSent { reason: error.to_string(), retry_after: None, halt: None };
        }
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
            Written::Done { changes }
        }
        // A deferred foreign key is checked here, and refuses the commit.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            refused(&error)
        }
        Err(error) => Written::Unknown { reason: error.to_string() },
    }
}

fn refused(error: &rusqlite::Error) -> Written {
    let message = error.to_string();
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied,
        ) => Written::NotSent { reason: message, retry_after: None, halt: None },
        Some(_) | None => Written::Refused { refusal: Refusal::from_message(&message), message },
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
        Box::pin(async move {
            self.0
                .run(move |connection| write_all(connection, &statements))
                .await
                .unwrap_or_else(|reason| Written::Unknown { reason })
        })
    }
}
