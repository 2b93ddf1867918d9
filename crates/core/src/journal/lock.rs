//! One run at a time.
//!
//! The lock itself is the operating system's, on a file beside the journal (SQLite uses locks on
//! the journal's own file, which closing any other handle would drop). It vanishes with the
//! process, however that ends, so a lock is never stale. The owner row in the journal is only
//! there to say *who* holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Error, schema};
use crate::boundary::{self, Boundary};

/// Held as long as this value lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Who writes to a journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The machine's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// Since when, in Unix milliseconds.
    pub since: i64,
}

impl Lock {
    /// Takes the lock, or says who holds it.
    pub(super) fn take(journal: &Path) -> Result<Self, Error> {
        let path = lock_path(journal);
        let failed = |doing| {
            let path = path.clone();
            move |source| Error::File { doing, path, source }
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(failed("create the lock file"))?;
        match file.try_lock() {
            Ok(()) => {
                boundary::reach(Boundary::LockTaken);
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => Err(Error::Locked { owner: describe(journal) }),
            Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
        }
    }

    /// Whether some process holds the lock just now.
    pub(super) fn is_held(journal: &Path) -> bool {
        let Ok(file) = File::open(lock_path(journal)) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

fn lock_path(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn describe(journal: &Path) -> String {
    let owner = schema::open_reader(journal).ok().and_then(|conn| owner(&conn).ok().flatten());
    owner.map_or_else(
        || "its owner has not written its name yet".to_owned(),
        |Owner { host, pid, since }| {
            let since = jiff::Timestamp::from_millisecond(since)
                .map_or_else(|_| "an unknown time".to_owned(), |at| format!("{at:.0}"));
            format!("process {pid} on {host}, since {since}")
        },
    )
}

/// The owner row, present while a run is on (or after one was killed).
pub(super) fn owner(conn: &Connection) -> Result<Option<Owner>, Error> {
    conn.query_row("SELECT host, pid, since FROM owner", [], |row| {
        Ok(Owner { host: row.get(0)?, pid: row.get(1)?, since: row.get(2)? })
    })
    .optional()
    .map_err(Error::sqlite("read its owner"))
}

/// Writes our name into the owner row.
#[allow(clippy::disallowed_methods, reason = "the journal is one of the rooms where SQL is run")]
pub(super) fn sign(conn: &Connection, now: i64) -> Result<(), Error> {
    conn.execute(
        "INSERT INTO owner (id, host, pid, since) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET host = excluded.host, pid = excluded.pid,
             since = excluded.since",
        params![host(), std::process::id(), now],
    )
    .map(drop)
    .map_err(Error::sqlite("sign it"))
}

/// Removes our name again.
#[allow(clippy::disallowed_methods, reason = "the journal is one of the rooms where SQL is run")]
pub(super) fn leave(conn: &Connection) {
    if let Err(error) = conn.execute("DELETE FROM owner", []) {
        tracing::debug!(%error, "the owner row stays behind; the lock does not");
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "this machine".to_owned())
}
