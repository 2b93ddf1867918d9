//! The engine of a resumable migration, and nothing else.
//!
//! This crate knows **units** (what moves on its own), their **states** (how far each has come),
//! the **journal** (the append-only truth about both, in one SQLite file) and the **engine** that
//! drives workers over it. It does not know HTTP, a terminal, the environment, Clerk, or the SQL
//! of anybody's database: those live in crates that depend on this one. A program that migrates
//! something else entirely needs only this crate; `examples/library_loans.rs` in the
//! repository is one.
//!
//! What it promises, whatever worker is plugged in:
//!
//! - Before an effect on the outside world there is a durable *intent*; after it one of exactly
//!   four [`Outcome`]s. An intent without an outcome is *in doubt* and is settled by a probe of
//!   the target, never by sending again blindly.
//! - Nothing is reported and nothing that depends on it starts before the journal has
//!   acknowledged it, and an acknowledgement means it is on the disk.
//! - The state of every unit is what [`next_state`] makes of its log. The same function runs
//!   live and in replay, so that the cache of states can be thrown away and rebuilt.
//! - Memory does not grow with the number of units.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test stands outside the walls"))]

pub mod backoff;
pub mod boundary;
pub mod clock;
pub mod engine;
pub mod halt;
pub mod journal;
pub mod knowledge;
pub mod outcome;
pub mod pacer;
pub mod progress;
pub mod state;
pub mod transition;
pub mod unit;

pub use halt::{Halt, RemoteTrouble};
pub use knowledge::{Knowledge, Known};
pub use outcome::{Done, Outcome, Rest};
pub use state::{Condition, Event, Illegal, Stage, State, next_state};
pub use transition::{
    Exported, Page, Pass, Payload, Prepared, Probed, Source, Step, Transition, WaitFor, Way,
};
pub use unit::{Block, Effect, Failure, Kind, Origin, Unit, UnitId, Wait};
