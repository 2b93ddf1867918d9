//! The harness of the end-to-end suites: the real `rehome` binary against the emulator.
//!
//! A suite sets a [`Stage`] (an emulator in this process, a folder with a configuration and two
//! databases), runs the binary on it ([`binary`]), may kill it in the worst moment, and then lets
//! [`judge`] decide. The judge is a Python program that shares no code with rehome; what rehome
//! says of itself is checked too, but never instead.
//!
//! Nothing waits by sleeping: a moment is either an effect that the emulator reports or a counter
//! that is watched. Suites that take minutes are behind the feature `slow`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness that cannot go on fails the test that uses it"
)]
#![allow(clippy::disallowed_methods, reason = "tests stand outside the walls")]

pub mod binary;
pub mod crash;
pub mod filter;
pub mod judge;
pub mod meddle;
pub mod merged;
pub mod simulation;
pub mod stage;
pub mod webhook;

pub use binary::{Finished, Running};
pub use judge::Judge;
pub use stage::{Databases, Options, Stage};

/// Of what the slow suites enumerate or repeat, they take one in so many: all of it, unless
/// `REHOME_SAMPLE` says otherwise, as it does where there is little time.
///
/// # Panics
/// When `REHOME_SAMPLE` is no number above zero.
pub fn sample() -> usize {
    let given = std::env::var("REHOME_SAMPLE").ok();
    let number: Option<std::num::NonZeroUsize> = given.map(|text| text.parse().expect("a number"));
    number.map_or(1, Into::into)
}
