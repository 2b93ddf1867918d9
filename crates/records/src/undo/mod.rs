//! The way back for rows: what this migration put into the target goes again, and nothing else.
//!
//! Everything that an undo needs is in the journal ([`crate::import`]): the keys of the rows that
//! were written, a digest of each, the rows that made room. The source is not asked. A [`RowPlan`]
//! first weighs all of it without writing: a row goes when it still is as it was written, belongs
//! to no account that stays, and no row that stays refers to it. What stays keeps its parents; an
//! account that rows of others name stays, and its rows with it.
//! So nothing of the application is ever torn along, whatever ON DELETE says, and a dry run and a
//! real one decide by the same words.
//!
//! Then the workers act on the plan, table by table as [`stages`] orders them, children first:
//! [`DetachSpans`] empties the references of a circle so that an order exists at all, and
//! [`UndoSpans`] removes what goes and puts back what made room. Each span is one atomic request
//! that holds, as assertions, all that the plan found: every row is as it was read a moment ago,
//! and nothing else refers to it. If that is not so any more, nothing happens and the span is
//! looked at again.
//!
//! [`mentions_of`] and [`remove_rows`] serve the accounts: before one is deleted, the rows that
//! still name it are found, and those that the application made for it by itself are removed.
//!
//! What is not taken back: the counters of AUTOINCREMENT (`sqlite_sequence`) stay where they are.
//! A lower counter could give an id twice that the application has already told somebody.

mod accounts;
mod course;
mod detach;
mod draft;
mod effect;
mod intent;
mod look;
mod mentions;
mod plan;
mod probe;
mod reason;
mod remove;
mod scratch;
mod stages;
mod statements;
mod verdicts;
mod weigh;

pub(crate) use effect::SpanEffect;
pub(crate) use look::{from_referrers, referrers};

pub use accounts::{KeepingRow, KeptAccount};
pub use detach::DetachSpans;
pub use draft::Draft;
pub use effect::Undoable;
pub use mentions::{MentionedRow, mentions_of, remove_rows};
pub use plan::{PlanOptions, Refused, RowPlan, TableCounts};
pub use probe::SettleUndos;
pub use reason::Reason;
pub use remove::UndoSpans;
pub use stages::{RowStep, stages};

/// Reads the JSON of a unit as what an undo journals; whether it was that.
#[cfg(feature = "fuzzing")]
pub(crate) fn hostile(unit: &rehome_core::Unit) -> bool {
    let done = intent::UndoIntent::of(unit).and_then(|intent| intent.done());
    done.is_ok() || SpanEffect::of(unit).is_ok()
}
