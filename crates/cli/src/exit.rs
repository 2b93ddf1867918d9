//! What the exit code tells the caller. These numbers are promises: scripts branch on them.

/// Done, all that was asked.
pub(crate) const DONE: u8 = 0;
/// An internal error: a bug.
pub(crate) const BUG: u8 = 1;
/// Usage or configuration.
pub(crate) const USAGE: u8 = 2;
/// Finished, but some units are failed, held, stuck, or differ.
pub(crate) const UNFINISHED: u8 = 3;
/// Refused: preflight, a lock held by another run, a journal of another migration, a stale plan.
pub(crate) const REFUSED: u8 = 4;
/// A remote, or this machine's disk, could not be used. The same command resumes.
pub(crate) const UNUSABLE: u8 = 5;
/// Interrupted. The same command resumes.
pub(crate) const INTERRUPTED: u8 = 130;

/// The same, for the end of a help text.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done, all that was asked
  1    an internal error: a bug
  2    usage or configuration
  3    finished, but some units are failed, held, stuck, or differ
  4    refused: preflight, another run, another migration's journal, a stale plan
  5    a remote (or the disk) could not be used; the same command resumes
  130  interrupted; the same command resumes";
