//! SQLite's errors in D1's words: `message at offset N: SQLITE_NAME`.

use rusqlite::Error;
use rusqlite::ffi;

/// D1's answer to a statement that opens or ends a transaction, or names a savepoint.
const TRANSACTION: &str = "To execute a transaction, please use the state.storage.transaction() or \
    state.storage.transactionSync() APIs instead of the SQL BEGIN TRANSACTION or SAVEPOINT \
    statements. The JavaScript API is safer because it will automatically roll back on exceptions, \
    and because it interacts correctly with Durable Objects' automatic atomic write coalescing.";

/// A statement that did not run, as the text D1 puts beside code 7500.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqlError(pub(crate) String);

impl SqlError {
    /// An error of D1's own, with SQLite's name for "generic".
    pub(crate) fn generic(message: &str) -> Self {
        Self(format!("{message}: SQLITE_ERROR"))
    }

    /// What D1 says of a request that ran for longer than it may
    /// (developers.cloudflare.com/d1/observability/debug-d1).
    pub(crate) fn too_slow() -> Self {
        Self("D1 DB storage operation exceeded timeout which caused object to be reset.".to_owned())
    }

    /// The refusal of a transaction.
    pub(crate) fn transaction() -> Self {
        Self(TRANSACTION.to_owned())
    }
}

impl From<Error> for SqlError {
    fn from(error: Error) -> Self {
        match error {
            Error::SqlInputError { error, msg, offset, .. } if offset >= 0 => {
                Self(format!("{msg} at offset {offset}: {}", name(error.extended_code)))
            }
            Error::SqlInputError { error, msg, .. } | Error::SqliteFailure(error, Some(msg)) => {
                Self(format!("{msg}: {}", name(error.extended_code)))
            }
            Error::SqliteFailure(error, None) => {
                Self(format!("{error}: {}", name(error.extended_code)))
            }
            Error::MultipleStatement => {
                Self::generic("A prepared SQL statement must contain only one statement.")
            }
            // The rest of the library's errors is about conversions that are not asked for here.
            other => Self::generic(&other.to_string()),
        }
    }
}

/// SQLite's name of a primary result code; the extended part is not shown by D1.
fn name(extended: i32) -> &'static str {
    match extended & 0xff {
        ffi::SQLITE_INTERNAL => "SQLITE_INTERNAL",
        ffi::SQLITE_PERM => "SQLITE_PERM",
        ffi::SQLITE_ABORT => "SQLITE_ABORT",
        ffi::SQLITE_BUSY => "SQLITE_BUSY",
        ffi::SQLITE_LOCKED => "SQLITE_LOCKED",
        ffi::SQLITE_NOMEM => "SQLITE_NOMEM",
        ffi::SQLITE_READONLY => "SQLITE_READONLY",
        ffi::SQLITE_INTERRUPT => "SQLITE_INTERRUPT",
        ffi::SQLITE_IOERR => "SQLITE_IOERR",
        ffi::SQLITE_CORRUPT => "SQLITE_CORRUPT",
        ffi::SQLITE_FULL => "SQLITE_FULL",
        ffi::SQLITE_CANTOPEN => "SQLITE_CANTOPEN",
        ffi::SQLITE_SCHEMA => "SQLITE_SCHEMA",
        ffi::SQLITE_TOOBIG => "SQLITE_TOOBIG",
        ffi::SQLITE_CONSTRAINT => "SQLITE_CONSTRAINT",
        ffi::SQLITE_MISMATCH => "SQLITE_MISMATCH",
        ffi::SQLITE_MISUSE => "SQLITE_MISUSE",
        ffi::SQLITE_AUTH => "SQLITE_AUTH",
        ffi::SQLITE_RANGE => "SQLITE_RANGE",
        ffi::SQLITE_NOTADB => "SQLITE_NOTADB",
        _ => "SQLITE_ERROR",
    }
}
