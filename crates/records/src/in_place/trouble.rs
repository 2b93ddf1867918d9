//! Users whose ids are not exchanged, and how a person is told.

use std::collections::BTreeMap;

use rehome_core::{Failure, Kind, UnitId};

use super::pairs::{Pair, Turn};

/// How many users a failure's message names; the others are counted.
const NAMED: usize = 5;

/// Why the ids of a user stay as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// Another row stands where one of theirs would have to go.
    RowConflict,
    /// A reference spells an id otherwise than the key to which it leads.
    ReferenceSpelling,
    /// A row that made room for theirs cannot come back.
    PlaceTaken,
    /// The database refuses a row.
    RowRejected,
}

impl Why {
    /// The failure's code.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::RowConflict => "row_conflict",
            Self::ReferenceSpelling => "reference_spelling",
            Self::PlaceTaken => "place_taken",
            Self::RowRejected => "row_rejected",
        }
    }

    fn hint(self, turn: Turn) -> &'static str {
        match (self, turn) {
            (Self::RowConflict, Turn::Forth) => {
                "decide which of the two rows is right and remove the other one, then \
                 `rehome retry`"
            }
            (Self::RowConflict, Turn::Back) => {
                "decide which of the two rows is right and remove the other one, then roll back \
                 again"
            }
            (Self::ReferenceSpelling, Turn::Forth) => {
                "spell the reference as the key is spelled, then `rehome retry`"
            }
            (Self::ReferenceSpelling, Turn::Back) => {
                "spell the reference as the key is spelled, then roll back again"
            }
            (Self::PlaceTaken, Turn::Forth | Turn::Back) => {
                "the row of your application's that stands there now may be a person's: if it may \
                 not go, leave this user as it is, or take the account back as well (without `--to`)"
            }
            (Self::RowRejected, Turn::Forth) => {
                "mend the row or the constraint that refuses it, then `rehome retry`"
            }
            (Self::RowRejected, Turn::Back) => {
                "a row under the old id is in the way most likely: see which of the two is right, \
                 then roll back again"
            }
        }
    }
}

/// What stands in the way of one user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Trouble {
    /// Of which sort it is.
    pub(super) why: Why,
    /// What exactly, for a person.
    pub(super) told: String,
}

impl Trouble {
    /// The failure of the one user.
    pub(super) fn failure(&self, turn: Turn) -> Failure {
        Failure::new(self.why.code(), self.told.clone()).with_hint(self.why.hint(turn))
    }
}

/// What stands in whose way.
pub(super) type Troubles = BTreeMap<UnitId, Trouble>;

/// A user whose ids stay.
#[derive(Clone, Debug)]
pub(super) struct Troubled {
    /// The user, by source key.
    pub(super) user: String,
    /// What stands in the way.
    pub(super) trouble: Trouble,
}

/// Takes those out of `pairs` in whose way something stands.
pub(super) fn take_troubled(pairs: &mut Vec<Pair>, mut troubles: Troubles) -> Vec<Troubled> {
    let mut troubled = Vec::new();
    pairs.retain(|pair| match troubles.remove(&pair.unit) {
        None => true,
        Some(trouble) => {
            troubled.push(Troubled { user: pair.old.clone(), trouble });
            false
        }
    });
    troubled
}

/// What a lot says of them; `None` when there are none. The first decides what sort of failure it
/// is.
pub(super) fn failure(kind: &Kind, troubled: &[Troubled], turn: Turn) -> Option<Failure> {
    let why = troubled.first()?.trouble.why;
    let told = |one: &Troubled| format!("{kind} {}: {}", one.user, one.trouble.told);
    let mut named: Vec<_> = troubled.iter().take(NAMED).map(told).collect();
    if troubled.len() > NAMED {
        named.push(format!("and {} more", troubled.len() - NAMED));
    }
    Some(Failure::new(why.code(), named.join("; ")).with_hint(why.hint(turn)))
}
