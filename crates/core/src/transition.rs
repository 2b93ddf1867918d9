//! What a worker is: the two traits that the engine drives.
//!
//! A [`Source`] finds units, a page at a time. A [`Transition`] moves units of one kind from one
//! stage to the next. A transition is split in three so that the engine, not each worker, owns
//! the protocol of intent and outcome:
//!
//! 1. [`Transition::prepare`] only *reads*. For a batch of units it says what is to be done with
//!    each: nothing (advance), an effect, a wait, a hold, a failure.
//! 2. The engine journals the intents, durably, then calls [`Transition::apply`] once for each
//!    effect, and journals the outcome.
//!    Where the target takes many effects in one request ([`Transition::joint`]), those of a batch
//!    go together: all their intents in one commit, one [`Transition::apply_joint`], and an
//!    outcome for each.
//! 3. For what is in doubt (an [`Outcome::Unknown`], or an intent found when a run starts) the
//!    engine calls [`Transition::probe`], which only reads.
//!
//! So a worker cannot act without an intent, cannot forget an outcome, and cannot retry blindly.
//!
//! The way back is made of transitions too ([`Way::Back`]), under the same protocol: an undo has
//! an intent and an outcome, and one whose answer was lost is probed. Only the words differ:
//! what cannot be undone safely ([`Prepared::Fail`], a rejection) is *stuck*.

use std::any::Any;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::halt::Halt;
use crate::outcome::{Done, Outcome};
use crate::state::Stage;
use crate::unit::{Block, Failure, Kind, Unit, UnitId, Wait};

/// A unit as a source reports it.
#[derive(Clone, PartialEq, Debug)]
pub struct Exported {
    /// Its identity in the source, unique within the kind.
    pub source_key: String,
    /// A group within the kind, or empty.
    pub scope: String,
    /// How a person recognises it.
    pub label: Option<String>,
    /// Every name under which it must be found again (addresses, numbers), normalised by the
    /// worker. Two units may share one: that is for the worker to judge.
    pub aliases: Vec<String>,
    /// What later stages need to know; loaded into [`Unit::data`].
    pub data: serde_json::Value,
}

/// One page of a source.
#[derive(Clone, Debug)]
pub struct Page {
    /// What was found, in a stable order. Units already in the journal are ignored there.
    pub units: Vec<Exported>,
    /// Where to go on. Journaled in the same transaction as the units.
    pub cursor: serde_json::Value,
    /// Whether the source has been read to its end.
    pub done: bool,
    /// How many units the source is thought to hold in all, when it says so.
    pub total: Option<u64>,
}

/// Finds the units of one kind.
pub trait Source: Send + Sync {
    /// What it finds. Also the name of its checkpoint.
    fn kind(&self) -> Kind;

    /// Whether a later run should ask for the page after the last one again, because newcomers
    /// stand there. The answer to that is then an empty last page when there are none.
    fn goes_on(&self) -> bool {
        false
    }

    /// A kind whose units this source is made from. It is read only when the source of that kind
    /// (if the engine has one) has come to its end in this run.
    fn follows(&self) -> Option<Kind> {
        None
    }

    /// The page after `cursor`; the first one for `None`. Only reads.
    ///
    /// # Errors
    /// A [`Halt`] when the source cannot be read, past its own retries.
    fn next_page<'a>(
        &'a self,
        cursor: Option<serde_json::Value>,
    ) -> BoxFuture<'a, Result<Page, Halt>>;
}

/// What a transition moves, which way, and how much of it at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The kind of unit.
    pub kind: Kind,
    /// Which units it takes, and where it leaves them.
    pub way: Way,
    /// How many units `prepare` and `probe` are given at once.
    pub batch: usize,
    /// How many effects may be under way at once.
    pub concurrency: usize,
}

/// Forth along the path, or back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Takes units at one stage to a later one.
    Forth {
        /// Where it takes them.
        from: Stage,
        /// Where it leaves them.
        to: Stage,
    },
    /// Takes back every unit that stands above a stage; and, when that is `exported`, also units
    /// that stand there and have left a part of their effect in the target. Each is offered once
    /// in a run. Units that a person took out are offered too (and stay out); stuck ones are not.
    Back {
        /// Where it leaves them.
        to: Stage,
        /// Only units of this scope.
        scope: Option<String>,
    },
}

impl Way {
    /// Where it leaves units.
    pub const fn to(&self) -> Stage {
        match self {
            Self::Forth { to, .. } | Self::Back { to, .. } => *to,
        }
    }
}

/// Whether a worker may still hope that others make progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pass {
    /// Others are still moving: [`Prepared::Wait`] is welcome.
    Patient,
    /// Nothing else moves in this run any more: what is still missing will not come, so a wait
    /// has to become a hold. A `Wait` in this pass is a bug and ends the run.
    Final,
}

/// What the engine waits for, in memory, within a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WaitFor {
    /// The source of this kind being read to its end.
    Export(Kind),
    /// This unit reaching a stage, or ceasing to move.
    Unit(UnitId, Stage),
    /// Every unit of a kind (in one scope, or in all) having left everything below a stage, or
    /// having ceased to move; and the kind's source being at its end.
    Settled {
        /// The kind.
        kind: Kind,
        /// One scope of it, or all.
        scope: Option<String>,
        /// The stage.
        stage: Stage,
    },
}

/// What `apply` needs besides the intent; kept in memory only.
pub type Payload = Box<dyn Any + Send + Sync>;

/// What is to be done with one unit.
pub enum Prepared {
    /// No effect is needed: it may advance.
    Advance(Done),
    /// An effect is needed.
    Effect {
        /// What is about to be done, with everything that a probe or an undo must know. Durable
        /// before `apply` is called.
        intent: serde_json::Value,
        /// What `apply` needs besides.
        payload: Payload,
    },
    /// Not yet: ask again when this has come true. Forth only.
    Wait(WaitFor),
    /// Not in this run, unless what it waits for comes: journaled. Forth only.
    Hold {
        /// What it waits for.
        waits: Vec<Wait>,
        /// Units that cannot complete meanwhile.
        blocks: Vec<Block>,
    },
    /// A person has to look at it. On the way back: it cannot be undone safely.
    Fail {
        /// Why.
        failure: Failure,
        /// Units that cannot complete meanwhile.
        blocks: Vec<Block>,
    },
    /// A person asked for such units to be left out (`on_existing = "skip"`): taken out, with
    /// the reason. Forth only.
    Skip(Failure),
    /// Nothing to do with it now, and nothing to record. Back only.
    Leave,
}

/// What a probe found about one unit in doubt.
#[derive(Debug)]
pub enum Probed {
    /// The effect happened.
    Done(Done),
    /// There is no trace of it. The engine asks again after the settle time before it believes.
    Absent,
    /// A part of it happened. That part is recorded, and the unit is prepared anew. Forth only.
    Part(Done),
    /// What is there is neither ours nor nothing.
    Conflict(Failure),
}

/// Moves units of one kind from one stage to another.
pub trait Transition: Send + Sync {
    /// What it moves.
    fn step(&self) -> Step;

    /// How long a lost effect may still take to show in the target. Only an absence that lasts
    /// longer is believed.
    fn settle_time(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// How long a request may still be under way, and take effect, when the process that sent it
    /// is dead. On the way forth that needs no waiting: the effect is sent again under the same
    /// idempotency key, and the target does not have two. Who settles doubts in order to go *back*
    /// sends nothing again, and believes in an absence only when nothing can arrive any more.
    fn flight_time(&self) -> Duration {
        Duration::ZERO
    }

    /// How long a batch that is not full may wait for more units while others still move. A
    /// worker whose look-ups are answered by the hundred saves requests by waiting.
    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    /// Reads what must be read and says what is to be done with each unit, in the order given.
    ///
    /// # Errors
    /// A [`Halt`] when a remote cannot be read, past all retries.
    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>>;

    /// Performs one effect, once. The intent is durable.
    fn apply<'a>(&'a self, unit: &'a Unit, payload: Payload) -> BoxFuture<'a, Outcome>;

    /// Whether the effects of one batch are performed together, by [`Transition::apply_joint`].
    fn joint(&self) -> bool {
        false
    }

    /// Performs the effects of one batch, each once. All their intents are durable. Gives an
    /// outcome for each, in the order given; when nothing tells them apart, the same for all.
    fn apply_joint<'a>(
        &'a self,
        units: &'a [Unit],
        payloads: Vec<Payload>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(units.len());
            for (unit, payload) in units.iter().zip(payloads) {
                outcomes.push(self.apply(unit, payload).await);
            }
            outcomes
        })
    }

    /// Finds out what became of effects whose outcome is not known, in the order given. Each
    /// unit carries its intent.
    ///
    /// # Errors
    /// A [`Halt`] when the target cannot be read, past all retries.
    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>>;
}
