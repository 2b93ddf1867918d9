//! What the engine tells those who watch. Renderers subscribe; the engine never prints.

use std::sync::Arc;
use std::time::Duration;

use crate::state::Stage;
use crate::unit::{Failure, Kind};

/// Something worth showing, after the journal has acknowledged it.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// A run starts, or goes on.
    Started {
        /// Whether the journal held units already.
        resumed: bool,
    },
    /// A page of a source was journaled.
    Exported {
        /// What it holds.
        kind: Kind,
        /// Units that were new.
        new: u64,
        /// Units of this kind in the journal now.
        known: u64,
        /// How many the source is thought to hold.
        total: Option<u64>,
        /// Whether that was the last page.
        done: bool,
    },
    /// Units reached a stage.
    Advanced {
        /// Their kind.
        kind: Kind,
        /// The stage.
        stage: Stage,
        /// How many.
        units: u64,
    },
    /// A unit cannot go on by itself.
    Failed {
        /// Its kind.
        kind: Kind,
        /// Its source key.
        source_key: String,
        /// Why.
        failure: Failure,
    },
    /// A unit waits for another.
    Held {
        /// Its kind.
        kind: Kind,
        /// Its source key.
        source_key: String,
        /// The code of the first thing that it waits for.
        code: String,
    },
    /// Held units go on.
    Released {
        /// How many.
        units: u64,
    },
    /// An answer was lost; the unit is in doubt until a probe has settled it.
    InDoubt {
        /// Its kind.
        kind: Kind,
        /// Its source key.
        source_key: String,
        /// What was seen instead of an answer.
        reason: String,
    },
    /// Nothing moves for a while, and why.
    Waiting {
        /// The reason, for a person.
        reason: String,
        /// For how long, when that is known.
        delay: Option<Duration>,
    },
    /// Both sides are being compared.
    Verifying {
        /// Users, or a table.
        what: String,
        /// How many were compared so far.
        done: u64,
        /// Of how many, when that is known.
        total: Option<u64>,
    },
    /// The source has moved on: units go again.
    Reopened {
        /// Their kind.
        kind: Kind,
        /// The stage that they had reached.
        from: Stage,
        /// The stage from which they go again.
        to: Stage,
        /// How many.
        units: u64,
    },
    /// Something to know that stops nobody.
    Warned {
        /// What, for a person.
        message: String,
    },
    /// The first interrupt: what is under way ends, nothing new starts.
    Interrupted,
}

/// Where progress goes. Called from several tasks; must not block for long.
pub trait Watch: Send + Sync {
    /// Takes one event.
    fn note(&self, progress: &Progress);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn note(&self, _: &Progress) {}
}

impl<F: Fn(&Progress) + Send + Sync> Watch for F {
    fn note(&self, progress: &Progress) {
        self(progress);
    }
}

/// A shared watcher.
pub type Watcher = Arc<dyn Watch>;
