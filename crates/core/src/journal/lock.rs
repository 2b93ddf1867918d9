//! One run at a time.
//!
//! The lock itself is the operating system's, on a file beside the journal (SQLite uses locks on
//! the journal's own file, which closing any other handle would drop). It vanishes with the
//! process, however that ends, so a lock is never stale. The owner row in the journal is only
//! there to say *who* holds it.
//!
//! The file is not empty: it holds the number of the last entry whose durability was acknowledged.
//! After an unclean end the latest entries stand in the `-wal` file alone, and SQLite cannot
//! notice when that was left behind: it opens what remains as if it were whole. The number can.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Error, schema};
use crate::boundary::{self, Boundary};

/// Held as long as this value lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// Notes the last acknowledged entry in the lock file.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    last: Mutex<i64>,
}

impl Tail {
    /// Notes that everything up to `seq` was acknowledged. It is not synced: after a power loss
    /// an older number, or none, only means that less is noticed. The number never runs ahead.
    pub(super) fn note(&self, seq: i64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if seq <= *last {
            return;
        }
        *last = seq;
        let mut file = &self.file;
        let written = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(format!("{seq:>WIDTH$}\n").as_bytes()));
        if let Err(error) = written {
            tracing::debug!(%error, "the last entry was not noted; the journal itself is durable");
        }
    }
}

/// Room for any number, so that a later one covers an earlier one wholly.
const WIDTH: usize = 20;

/// Refuses a journal that ends before an entry that was acknowledged.
pub(super) fn refuse_shortened(conn: &Connection, path: &Path) -> Result<(), Error> {
    // The number is read first where it matters: entries may be added meanwhile, never taken.
    let Some((acknowledged, lock)) = noted(path) else { return Ok(()) };
    let found: i64 = conn
        .query_row("SELECT coalesce(max(seq), 0) FROM entry", [], |row| row.get(0))
        .map_err(Error::sqlite("read its last entry"))?;
    if found < acknowledged {
        return Err(Error::Shortened { path: path.to_owned(), found, acknowledged, lock });
    }
    Ok(())
}

/// The number in the lock file of a journal, and that file; `None` when there is none that can be
/// read.
pub(super) fn noted(journal: &Path) -> Option<(i64, PathBuf)> {
    let lock = lock_path(journal);
    let mut text = String::new();
    let read = File::open(&lock).ok()?.take(2 * WIDTH as u64).read_to_string(&mut text);
    let number = read.ok().and_then(|_| text.trim().parse().ok())?;
    Some((number, lock))
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
                Ok(Self { file })
            }
            Err(TryLockError::WouldBlock) => Err(Error::Locked { owner: describe(journal) }),
            Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
        }
    }

    /// What notes acknowledged entries while the lock is held.
    pub(super) fn tail(&self) -> Result<Tail, Error> {
        let file = self.file.try_clone().map_err(|source| Error::File {
            doing: "share the lock file of",
            path: "the journal".into(),
            source,
        })?;
        Ok(Tail { file, last: Mutex::new(0) })
    }

    /// Forgets the number of an earlier journal of this name.
    pub(super) fn forget(&self) -> Result<(), Error> {
        self.file.set_len(0).map_err(|source| Error::File {
            doing: "empty the lock file of",
            path: "the journal".into(),
            source,
        })
    }

    /// Whether some process holds the lock just now.
    pub(super) fn is_held(journal: &Path) -> bool {
        let Ok(file) = File::open(lock_path(journal)) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

/// Beside the file itself: another name that leads to it (a symbolic link) has the same lock, as
/// SQLite gives it the same `-wal`.
fn lock_path(journal: &Path) -> PathBuf {
    schema::beside(&schema::itself(journal), ".lock")
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
