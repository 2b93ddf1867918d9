//! Forth or back: the words of the log for the same protocol.

use crate::state::{Event, Stage};
use crate::transition::Way;

/// An effect, or an undo, is about to be attempted.
pub(super) const fn intended(way: &Way) -> Event {
    match way {
        Way::Forth { .. } => Event::Intended,
        Way::Back { .. } => Event::UndoIntended,
    }
}

/// It happened.
pub(super) const fn done(way: &Way) -> Event {
    match way {
        Way::Forth { to, .. } => Event::Done(*to),
        Way::Back { to, .. } => Event::Undone(*to),
    }
}

/// Nothing had to happen.
pub(super) const fn advanced(way: &Way) -> Event {
    match way {
        Way::Forth { to, .. } => Event::Advanced(*to),
        Way::Back { to, .. } => Event::Reverted(*to),
    }
}

/// It cannot happen, found out without an attempt.
pub(super) const fn failed(way: &Way) -> Event {
    match way {
        Way::Forth { .. } => Event::Failed,
        Way::Back { .. } => Event::Stuck,
    }
}

/// The stage that a step of the way forth takes units from; the way back takes them from
/// anywhere.
pub(super) const fn from(way: &Way) -> Option<Stage> {
    match way {
        Way::Forth { from, .. } => Some(*from),
        Way::Back { .. } => None,
    }
}
