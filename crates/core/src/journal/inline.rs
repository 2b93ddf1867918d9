//! Commits on the caller's thread, for a whole migration in one thread and in virtual time.
//!
//! The ordinary writer is a thread of its own. A simulation cannot have one: while it waits for
//! another thread, nothing is left to do in its own, and virtual time runs ahead to the next
//! timer; and no seed decides which of two threads comes first. Here the caller commits by
//! itself, through the very code of the thread, one change after the other. What an
//! acknowledgement means is the same.
//!
//! A [`Gate`] stands around each commit. It is the simulation's hand in the journal: a crash
//! before the commit or after it, a disk that is full.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use rusqlite::Connection;
use tokio::sync::watch;

use super::Error;
use super::change::{Ack, Change};
use super::writer;
use crate::clock::Clock;

/// How a journal writes.
#[derive(Clone, Default)]
pub enum Writing {
    /// On a thread of its own, in groups: the ordinary way.
    #[default]
    Thread,
    /// On the caller's thread, one by one, as the gate lets them pass.
    Inline(Arc<dyn Gate>),
}

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thread => "Thread",
            Self::Inline(_) => "Inline",
        })
    }
}

/// What every commit of an inline journal passes.
pub trait Gate: Send + Sync {
    /// Comes before a commit, which begins when this is over. May never be over: then nothing
    /// is written, as in a process that was killed just there.
    ///
    /// # Errors
    /// What the commit is to end with (`SQLITE_FULL`); nothing of it is written then.
    fn before(&self) -> BoxFuture<'_, Result<(), rusqlite::Error>>;

    /// Comes after a commit, which is durable, and before its caller learns of it.
    fn after(&self) -> BoxFuture<'_, ()>;
}

/// What is done with the connection when the journal is closed.
type Closing = Box<dyn FnOnce(Connection) + Send>;

/// A writer without a thread.
pub(super) struct Inline {
    open: Mutex<Option<(Connection, Closing)>>,
    committed: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    gate: Arc<dyn Gate>,
}

impl Inline {
    /// Writes to `conn`, which is given to `closing` at the end.
    pub(super) fn new(
        conn: Connection,
        clock: Arc<dyn Clock>,
        gate: Arc<dyn Gate>,
        closing: impl FnOnce(Connection) + Send + 'static,
    ) -> Self {
        conn.set_prepared_statement_cache_capacity(64);
        Self {
            open: Mutex::new(Some((conn, Box::new(closing)))),
            committed: watch::Sender::new(0),
            clock,
            gate,
        }
    }

    pub(super) fn version(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    pub(super) async fn submit(&self, changes: Vec<Change>) -> Result<Ack, Error> {
        self.gate.before().await.map_err(Error::sqlite("write to it"))?;
        let now = self.clock.now().as_millisecond();
        let result = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let (conn, _) = open.as_mut().ok_or(Error::Closed)?;
            writer::commit(conn, vec![changes], now)?.pop().unwrap_or(Err(Error::Closed))
        };
        self.committed.send_modify(|version| *version += 1);
        self.gate.after().await;
        result
    }
}

impl Drop for Inline {
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((conn, closing)) = open.take() {
            closing(conn);
        }
    }
}

/// A gate that is open, for tests.
#[cfg(test)]
pub(crate) struct Open;

#[cfg(test)]
impl Gate for Open {
    fn before(&self) -> BoxFuture<'_, Result<(), rusqlite::Error>> {
        Box::pin(async { Ok(()) })
    }

    fn after(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
