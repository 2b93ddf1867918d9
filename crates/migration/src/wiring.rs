//! How a migration reaches its remotes, for a program that has ways of its own.
//!
//! By default a migration speaks HTTPS through its own client, opens SQLite files itself, and
//! writes its journal on a thread. A program that has an HTTP stack of its own (a proxy that must
//! be used, a client that records what passes, a runtime without sockets), a database that is
//! reached in another way, or that runs everything in one thread and in virtual time, implements
//! [`Wiring`] and hands it to [`crate::Config::with_wiring`]. Every function of this crate that
//! takes that configuration then goes through it.
//!
//! A wiring carries requests; it decides nothing. Whether something is sent again, how fast, and
//! what a lost answer means stays with rehome.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_clerk::http::Unusable;
use rehome_clerk::reader::LARGEST_PAGE;
use rehome_clerk::wire::Wire;
use rehome_clerk::{Connection, HttpWire};
use rehome_core::Transition;
use rehome_core::journal::Writing;
use rehome_records::span::SpanSize;
use rehome_records::{ReadDatabase, WriteDatabase};

use crate::config::DatabaseConfig;
use crate::error::Error;

/// One end of a migration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// Where everything comes from.
    Source,
    /// Where everything goes.
    Target,
}

/// How much is read at once. The defaults are what measured best; smaller ones make more
/// requests and more journal entries of the same migration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Portions {
    /// Users in a page of the export and of the comparison: 2 to [`LARGEST_PAGE`].
    pub users: usize,
    /// Rows of a span at most; what suits the two databases, if that is less.
    pub rows: usize,
}

impl Default for Portions {
    fn default() -> Self {
        Self { users: LARGEST_PAGE, rows: SpanSize::LARGE.rows }
    }
}

/// What opening a database by a wiring gives; `None` leaves it to rehome.
pub type Opening<'a, T> = Option<BoxFuture<'a, Result<Arc<T>, Error>>>;

/// Ways to the remotes. Each method has the ordinary way as its default.
pub trait Wiring: fmt::Debug + Send + Sync {
    /// The wire to a Clerk instance. `connection` holds address and key. A wire sends each
    /// request once and never by itself again; it must say [`Lost`](rehome_clerk::wire::Exchange) of
    /// whatever may have been served.
    ///
    /// # Errors
    /// [`Unusable`] when no client can be made of it.
    fn clerk(&self, end: End, connection: &Connection) -> Result<Box<dyn Wire>, Unusable> {
        // The ordinary client does not care which end it is.
        let _ = end;
        Ok(Box::new(HttpWire::new(connection)?))
    }

    /// A database for reading. `folder` is where relative paths start.
    fn reading<'a>(
        &'a self,
        end: End,
        database: &'a DatabaseConfig,
        folder: &'a Path,
    ) -> Opening<'a, dyn ReadDatabase> {
        let _ = (end, database, folder);
        None
    }

    /// The target database for writing. `folder` is where relative paths start.
    fn writing<'a>(
        &'a self,
        database: &'a DatabaseConfig,
        folder: &'a Path,
    ) -> Opening<'a, dyn WriteDatabase> {
        let _ = (database, folder);
        None
    }

    /// Every worker of a run or a rollback passes through here before it is used, so that a
    /// program can stand between it and the engine: to watch it, or to try it.
    fn worker(&self, worker: Arc<dyn Transition>) -> Arc<dyn Transition> {
        worker
    }

    /// How much is read at once.
    fn portions(&self) -> Portions {
        Portions::default()
    }

    /// How the journal writes.
    fn journal(&self) -> Writing {
        Writing::Thread
    }
}

/// The ordinary ways.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ordinary;

impl Wiring for Ordinary {}
