//! A migration as a program uses it: from a configuration to something that can be checked,
//! planned, run, watched and verified.
//!
//! The command line is one user of this crate; a program that embeds rehome is another. Nothing
//! here prints, exits, or reads the environment: secrets come in as [`Keys`], progress goes out
//! through a [`rehome_core::progress::Watch`], results are documents (see [`document`]) that
//! serialize to the published JSON.
//!
//! Reading and writing are apart by type. [`Observed`] holds only the reading side of every
//! remote: `check`, `plan` and `verify` are its methods, and cannot write. Only [`run()`] makes the
//! writing side.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test stands outside the walls"))]

mod attached;
mod bookmark;
mod check;
pub mod config;
mod connect;
mod departed;
pub mod document;
mod downtime;
pub mod error;
mod finding;
mod in_place;
pub mod journal_tools;
pub mod ledger;
mod memory;
mod observed;
mod passage;
mod plan;
mod requests;
mod rollback;
mod room;
mod run;
mod settle;
pub mod small_file;
mod undeclared;
mod verify;
pub mod wiring;
mod workers;

pub use check::check;
pub use config::{Config, ConfigError, SecretRef};
pub use connect::Keys;
pub use downtime::Downtime;
pub use error::{Error, Forced};
pub use observed::{Observed, Target, target};
/// What to do about [`Error::NoLocalD1`].
pub use rehome_records::d1::local::HINT as NO_LOCAL_D1;
pub use rollback::{Restore, RollbackEnd, RollbackOptions, rollback, rollback_plan};
pub use run::{Passes, RunEnd, RunOptions, run};
