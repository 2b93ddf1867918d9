//! A transaction that another program did not finish.
//!
//! A process that dies within a commit leaves its journal beside the file. The next program that
//! opens the file for writing makes SQLite take the half transaction back; one that opened it for
//! reading only is refused every read until then. Every command of ours reads first, so it has to
//! see to that itself.
//!
//! This is no write of ours: the file is opened for writing once, read once and closed, and SQLite
//! restores what stood there before the transaction that never was. Whoever opens the file next
//! would cause the same. A write-ahead log is only read through: it is not folded into the file.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

/// What to do where SQLite may not take the transaction back.
pub(super) const HINT: &str = "make the file and its folder writable for whoever runs this, or \
     open it once with the program that it belongs to: SQLite takes the unfinished transaction \
     back then, and changes nothing else";

/// Whether reading is refused because such a transaction stands.
pub(super) fn stands(error: &rusqlite::Error) -> bool {
    let said = match error {
        // Already the first statement that is prepared reads the schema.
        rusqlite::Error::SqlInputError { error, .. } => Some(error),
        other => other.sqlite_error(),
    };
    said.is_some_and(|said| {
        [ffi::SQLITE_READONLY_ROLLBACK, ffi::SQLITE_READONLY_RECOVERY].contains(&said.extended_code)
    })
}

/// Has SQLite take it back.
///
/// # Errors
/// When it may not: the file or its folder can only be read, or another program holds it.
pub(super) fn take_back(path: &Path, patience: Duration) -> rusqlite::Result<()> {
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, access)?;
    connection.busy_timeout(patience)?;
    let _set = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // The first lock for reading is what makes SQLite look for a journal.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    tracing::info!(
        path = %path.display(),
        "SQLite took back a transaction that another program had not finished"
    );
    Ok(())
}
