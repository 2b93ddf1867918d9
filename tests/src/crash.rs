//! Dying on purpose: a small, whole migration whose process is killed at boundaries of one's choice,
//! resumed, and judged as if nothing had happened.
//!
//! A [`World`] holds everything that a migration can meet, a few of each: people with awkward data,
//! somebody who has an account in the target already, an account and rows of the target's own, and
//! an application that answers a new account with a row of its own. A [`Trial`] names the deaths in
//! a world's life. It is printed when it fails, and runs alone when `REHOME_CRASH_TRIAL` repeats what
//! was printed.

mod application;
mod snapshot;
mod trial;
mod world;

pub use application::Application;
pub use snapshot::Snapshot;
pub use trial::{Act, Ended, Trial, boundaries, run_all, tell};
pub use world::{Setting, World};
