//! The journal: one SQLite file that holds everything a migration knows about itself.
//!
//! An append-only log of what happened is the truth; a table of where each unit stands is a cache
//! of it, kept in the same transaction. There is one writer (a thread with group commit, see
//! `writer`; or the caller itself, see [`Writing`]) and any number of readers, in this process or another: `status` works while a run
//! writes.
//!
//! What a caller is told is durable, is: the answer to [`Journal::submit`] comes after a commit
//! under `synchronous = FULL`. No caller is told more than that, and nothing is told earlier.

mod cache;
mod change;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod hostile;
mod inline;
mod lock;
mod reader;
mod replay;
mod schema;
mod scrub;
mod setup;
mod vacancy;
mod writer;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use change::{Ack, Called, Change, Detail};
pub use error::{Difference, Error};
#[cfg(test)]
pub(crate) use inline::Open;
pub use inline::{Gate, Writing};
pub use lock::Owner;
pub use reader::{
    Counts, FailureRow, HistoryEntry, LogEntry, LogFilter, LogPage, Mapping, Reader, Selection,
    Standing, WaitRow, events,
};
pub use replay::{
    Divergence, Replay, Replayed, check as check_replay, compare as compare_replay,
    repair as repair_cache,
};
pub use scrub::{Kept, Scrubbed, scrub};
pub use setup::Setup;
pub use vacancy::Vacancy;

use crate::boundary::{self, Boundary};
use crate::clock::Clock;

/// A journal that this process may write to. Dropping it ends the writing thread after the last
/// change was answered, and gives the lock back.
pub struct Journal {
    path: PathBuf,
    writer: Option<writer::Writer>,
    thread: Option<std::thread::JoinHandle<()>>,
    tail: lock::Tail,
    resumed: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal at `path` for this migration, creating it when there is none.
    ///
    /// # Errors
    /// [`Error::Locked`] when another run holds it, [`Error::OtherMigration`] when it is bound to
    /// something else, [`Error::Orphan`], [`Error::Gone`] or [`Error::Nowhere`] when none is there
    /// but traces of one are, [`Error::Scrubbed`], [`Error::Damaged`], [`Error::NotAJournal`], [`Error::TooNew`], [`Error::Pragma`], or a file
    /// error.
    pub fn open(path: &Path, setup: &Setup, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::open_with(path, setup, clock, Writing::Thread)
    }

    /// The same, writing as `writing` says.
    ///
    /// # Errors
    /// As for [`Journal::open`].
    pub fn open_with(
        path: &Path,
        setup: &Setup,
        clock: Arc<dyn Clock>,
        writing: Writing,
    ) -> Result<Self, Error> {
        let lock = lock::Lock::take(path)?;
        let now = clock.now().as_millisecond();
        let resumed = path.exists();
        if !resumed {
            vacancy::refuse_traces(path)?;
            schema::create(path, |conn| setup::bind(conn, setup, now))?;
        }
        let conn = schema::open_writer(path)?;
        setup::refuse_scrubbed(&conn)?;
        setup::bind(&conn, setup, now)?;
        Self::start(path, conn, lock, clock, writing, resumed)
    }

    /// Opens an existing journal without comparing what it is bound to: for commands that change
    /// units but talk to no remote (`retry`, `skip`).
    ///
    /// # Errors
    /// As for [`Journal::open`]; [`Error::Missing`] when there is none.
    pub fn open_existing(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::open_existing_with(path, clock, Writing::Thread)
    }

    /// The same, writing as `writing` says.
    ///
    /// # Errors
    /// As for [`Journal::open_existing`].
    pub fn open_existing_with(
        path: &Path,
        clock: Arc<dyn Clock>,
        writing: Writing,
    ) -> Result<Self, Error> {
        if !path.exists() {
            return Err(vacancy::absent(path));
        }
        let lock = lock::Lock::take(path)?;
        let conn = schema::open_writer(path)?;
        setup::refuse_scrubbed(&conn)?;
        Self::start(path, conn, lock, clock, writing, true)
    }

    fn start(
        path: &Path,
        conn: rusqlite::Connection,
        lock: lock::Lock,
        clock: Arc<dyn Clock>,
        writing: Writing,
        resumed: bool,
    ) -> Result<Self, Error> {
        lock::sign(&conn, clock.now().as_millisecond())?;
        boundary::reach(Boundary::OwnerSigned);
        let tail = lock.tail()?;
        let closing = move |conn: rusqlite::Connection| {
            lock::leave(&conn);
            boundary::reach(Boundary::OwnerGone);
            drop(conn);
            drop(lock);
        };
        let (writer, thread) = match writing {
            Writing::Thread => {
                let (writer, thread) = writer::Writer::start(conn, clock, closing)?;
                (writer, Some(thread))
            }
            Writing::Inline(gate) => {
                let inline = inline::Inline::new(conn, clock, gate, closing);
                (writer::Writer::inline(inline), None)
            }
        };
        Ok(Self { path: path.to_owned(), writer: Some(writer), thread, tail, resumed })
    }

    /// Whether the journal existed before it was opened.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Records the changes, all or none, and returns once they are on the disk.
    ///
    /// # Errors
    /// [`Error::Illegal`] for a step that the state machine refuses, [`Error::TargetTaken`] when
    /// two units would share a counterpart (in both cases nothing of `changes` is recorded), or
    /// what SQLite said.
    pub async fn submit(&self, changes: Vec<Change>) -> Result<Ack, Error> {
        let Some(writer) = &self.writer else {
            return Err(Error::Closed);
        };
        let about = boundary::about(|| change::word(&changes));
        boundary::reach(Boundary::Handed(about));
        let ack = writer.submit(changes).await?;
        self.tail.note(ack.seq);
        boundary::reach(Boundary::Acknowledged(about));
        Ok(ack)
    }

    /// A counter of commits, to wait on.
    pub fn version(&self) -> tokio::sync::watch::Receiver<u64> {
        self.writer
            .as_ref()
            .map_or_else(|| tokio::sync::watch::channel(0).1, writer::Writer::version)
    }

    /// A reader with its own connection.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn reader(&self) -> Result<Reader, Error> {
        Reader::open(&self.path)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the writing thread and waits until the lock is free.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the journal panicked");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether some process is running this migration just now.
pub fn is_running(path: &Path) -> bool {
    lock::Lock::is_held(path)
}
