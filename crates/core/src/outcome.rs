//! What became of an effect. There are exactly four answers, and no fifth.
//!
//! The whole safety of a migration hangs on telling *rejected* (the target did nothing, for sure)
//! from *unknown* (it may have). A timeout, a reset, a 5xx, an unreadable answer are unknown:
//! treating one of them as a failure leaves an account behind that nobody remembers; repeating it
//! blindly makes two.

use std::time::Duration;

use crate::halt::Halt;
use crate::unit::{Block, Failure, Origin, Wait};

/// The answer to an effect that was attempted once.
#[derive(Debug)]
pub enum Outcome {
    /// It happened.
    Done(Done),
    /// The target refused and changed nothing. The unit fails.
    Rejected(Failure),
    /// Nothing happened: it was not sent, or the target was too busy to look at it. Later again.
    NotSent {
        /// What stood in the way.
        reason: String,
        /// How long the remote asked to be left alone.
        retry_after: Option<Duration>,
        /// Set when no later attempt of this run can succeed either (a revoked key, a used-up
        /// quota): the run ends, and can be resumed.
        halt: Option<Halt>,
    },
    /// It may have happened. Only a probe can tell.
    Unknown {
        /// What was seen instead of an answer.
        reason: String,
    },
}

/// What the journal remembers of an effect that happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// The unit's identity in the target.
    pub target: Option<String>,
    /// Whether this migration created it.
    pub origin: Option<Origin>,
    /// What an undo or a later transition needs to know, as JSON; kept small.
    pub data: Option<serde_json::Value>,
    /// Present when only a part of the unit could be done.
    pub rest: Option<Rest>,
}

/// What remains of a unit after a partial effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Rest {
    /// It waits for others.
    Held {
        /// What for.
        waits: Vec<Wait>,
        /// Units that cannot complete meanwhile.
        blocks: Vec<Block>,
    },
    /// There is more of it to do, at once: the unit is prepared anew.
    More,
    /// It cannot be done without a person.
    Failed {
        /// Why.
        failure: Failure,
        /// Units that cannot complete meanwhile.
        blocks: Vec<Block>,
    },
}
