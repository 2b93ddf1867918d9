//! Why a row stays though its undoing was asked for.

use std::fmt;

/// Why a row stays. The codes are stable words to group by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// The application changed it after this migration wrote it.
    RowChanged,
    /// It belongs to an account that stays.
    AccountStuck,
    /// A row that stays refers to it: the application's own, or one of ours that is kept.
    RowReferred,
    /// The journal does not say what was written, so nothing proves that it is unchanged.
    NoDigest,
    /// An earlier row cannot be put back, because another one has its key or a unique value.
    PlaceTaken,
    /// An earlier row is not put back: what this migration had put in its place is not there any
    /// more, or is not what it was.
    PlaceEmpty,
    /// The target refused to let it go.
    RowRejected,
    /// Its span is stuck or in doubt from an earlier attempt.
    SpanStuck,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::RowChanged,
        Self::AccountStuck,
        Self::RowReferred,
        Self::NoDigest,
        Self::PlaceTaken,
        Self::PlaceEmpty,
        Self::RowRejected,
        Self::SpanStuck,
    ];

    /// The word used in the journal and in every output.
    pub const fn code(self) -> &'static str {
        match self {
            Self::RowChanged => "row_changed",
            Self::AccountStuck => "account_stuck",
            Self::RowReferred => "row_referred",
            Self::NoDigest => "no_digest",
            Self::PlaceTaken => "place_taken",
            Self::PlaceEmpty => "place_empty",
            Self::RowRejected => "row_rejected",
            Self::SpanStuck => "span_stuck",
        }
    }

    /// The reverse of [`Reason::code`]; `None` for any other word.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// What a person can do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::RowChanged => {
                "decide whether the changed row may go; then remove it, or roll back with --force-rows"
            }
            Self::AccountStuck => "see why the account stays; its rows stay with it",
            Self::RowReferred => {
                "remove the rows that refer to it, or point them elsewhere, then roll back again"
            }
            Self::NoDigest => {
                "the journal was written by a version that did not keep what it wrote; compare \
                 with `rehome verify`, then roll back with --force-rows"
            }
            Self::PlaceTaken => {
                "remove the row that has its place, then roll back again; the earlier row is in \
                 the journal (`rehome show`)"
            }
            Self::PlaceEmpty => {
                "if the row that was there before is to come back, roll back with --force-rows \
                 (and remove it again if not); it is in the journal (`rehome show`)"
            }
            Self::RowRejected => "mend what the target's message names, then roll back again",
            Self::SpanStuck => "see `rehome failures`, then `rehome retry` and roll back again",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
