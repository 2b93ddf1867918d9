//! The SQLite file behind one emulated database: where it lies, how it is opened, who may do what.
//!
//! Every database is a file in WAL mode, also the private ones, because a test then can open it
//! beside the emulator. Two sorts of connection exist: the guarded one that requests use (limits,
//! authorizer, update hook), and plain ones for setting up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::authorizer::{Gate, decide, is_reserved};
use super::counters::Change;
use super::limits;

/// Cloudflare's own table. It holds the bookmark's position here; users' SQL can see its name in
/// the schema and nothing more.
const OWN_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS _cf_KV (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID";

/// How long a connection waits for another one's write.
const BUSY: Duration = Duration::from_secs(10);

/// A folder that is removed with the last database in it.
#[derive(Debug)]
pub(crate) struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// Makes a new folder under the system's temporary one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create() -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("rehome-d1-{}-{number}", process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                // Left behind by a killed process that had our number: take the next name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // Nothing to tell anyone here; the system clears its temporary folder in the end.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Row changes since the request began, filled by the update hook.
pub(crate) type Changes = Arc<Mutex<Vec<Change>>>;

/// Opens `path` without guards, for setting up.
///
/// # Errors
/// When SQLite cannot open or prepare the file.
pub(crate) fn open_plain(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // The files are as durable as a test needs them.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "foreign_keys", "on")?;
    Ok(connection)
}

/// Opens `path` as requests see it.
///
/// # Errors
/// When SQLite cannot open or prepare the file.
#[allow(
    clippy::disallowed_methods,
    reason = "the emulated D1 is one of the rooms where SQL is run"
)]
pub(crate) fn open_guarded(
    path: &Path,
    gate: &Arc<Gate>,
    changes: &Changes,
) -> rusqlite::Result<Connection> {
    let mut connection = open_plain(path)?;
    connection.execute_batch(OWN_TABLE)?;
    limits::apply(&connection)?;
    let changes = Arc::clone(changes);
    connection.update_hook(Some(move |action, _database: &str, table: &str, rowid| {
        if !is_reserved(table) {
            changes.lock().unwrap_or_else(PoisonError::into_inner).push(Change {
                action,
                table: table.to_owned(),
                rowid,
            });
        }
    }))?;
    let gate = Arc::clone(gate);
    let mut dropping = None;
    connection.authorizer(Some(move |context: rusqlite::hooks::AuthContext<'_>| {
        decide(&gate, &mut dropping, &context)
    }))?;
    Ok(connection)
}
