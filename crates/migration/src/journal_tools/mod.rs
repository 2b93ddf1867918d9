//! What a person may do with the journal itself: read its log, have it replayed, remove personal
//! data from it after the end, and build a lost one anew.
//!
//! Reading works without keys and while a run is on. What changes the file takes the lock of a
//! run, so never two of them work on one journal.

mod log;
mod rebuild;
mod replay;
mod scrub;

pub use log::{KINDS, LogDoc, LogQuery, events, log};
pub use rebuild::{RebuildDoc, Rebuilt, rebuild};
pub use replay::{DivergenceDoc, ReplayDoc, repair, replay};
pub use scrub::{ScrubDoc, scrub, unfinished};
