//! What can go wrong, sorted by what a person can do about it.

use std::path::PathBuf;

use rehome_core::{Halt, journal};

use crate::config::ConfigError;
use crate::document::Finding;
use crate::downtime::Downtime;

/// What a force is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forced {
    /// Accounts that were used or changed (`--force`).
    Accounts,
    /// Rows that were changed, and places that were emptied (`--force-rows`).
    Rows,
}

impl std::fmt::Display for Forced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Accounts => "accounts have been used or changed since they were created",
            Self::Rows => "rows were changed since they were written, or are to come back into an emptied place",
        })
    }
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A secret's value cannot be used.
    #[error("the {role} cannot be used: {message}")]
    Key {
        /// Which one.
        role: &'static str,
        /// What is wrong with it; never the value.
        message: String,
    },
    /// A database cannot be opened.
    #[error("cannot open the {role} {}", .path.display())]
    Database {
        /// Source or target database.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What stood in the way.
        #[source]
        source: Box<rehome_records::sqlite::OpenError>,
    },
    /// There is no file of a local D1 by that name.
    #[error("the {role} is the local D1 {database}, which has no file {}", .path.display())]
    NoLocalD1 {
        /// Source or target database.
        role: &'static str,
        /// Its name in the configuration.
        database: String,
        /// Where wrangler would keep it.
        path: PathBuf,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// A run could not go on.
    #[error(transparent)]
    Halt(Halt),
    /// Preflight found reasons not to start.
    #[error("{} of the preflight checks refuse", .0.len())]
    Refused(Vec<Finding>),
    /// Rows would be imported as files, and nobody has agreed that the target is unavailable then.
    #[error(
        "{} would answer nobody while {} rows are imported, and nobody has agreed to that",
        .0.database, .0.rows
    )]
    Downtime(Downtime),
    /// The plan was made for something else than what is there now.
    #[error("the plan is stale: {0}")]
    StalePlan(String),
    /// The number given with a force is not the number of what it would force.
    #[error("{found} {what}, not {given}")]
    ForceCount {
        /// Of what.
        what: Forced,
        /// What was given.
        given: u64,
        /// How many there are.
        found: u64,
    },
    /// A rollback that goes on has met more than what somebody has agreed to force.
    #[error("{more} {what} that were not among those agreed to when this rollback began")]
    ForcedSince {
        /// Of what.
        what: Forced,
        /// How many more.
        more: u64,
    },
    /// There is no bookmark to restore.
    #[error("the journal has no bookmark to which the target could be restored")]
    NoBookmark,
    /// The bookmark that was agreed to is not the journal's.
    #[error("the bookmark before the first write is {journaled}, not {given}")]
    OtherBookmark {
        /// What was agreed to.
        given: String,
        /// The journal's.
        journaled: String,
    },
    /// A restore takes everything back; a part of it cannot be asked for.
    #[error("a restore takes the whole target back, with the rows of every user")]
    RestoreIsWhole,
    /// The target refused to be restored; nothing happened.
    #[error("the target was not restored to {bookmark}: {message}")]
    NotRestored {
        /// Where it was to go back to.
        bookmark: String,
        /// The target's own words.
        message: String,
    },
    /// A restore was asked for, and nobody knows whether it happened.
    #[error("it is not known whether the target was restored to {bookmark}: {reason}")]
    RestoreInDoubt {
        /// Where it was to go back to.
        bookmark: String,
        /// What was seen instead of an answer.
        reason: String,
    },
    /// Accounts that are found again cannot count as created where rows belong to the migration:
    /// a rollback would delete them, and leave the rows that arrived before pointing at nobody.
    #[error("accounts cannot count as created again where rows belong to the migration")]
    RowsStay,
    /// What a scrub removes is still needed.
    #[error("the migration is not at its end: {what}")]
    Unfinished {
        /// Why.
        what: String,
    },
    /// No unit goes by this name.
    #[error("the journal knows nothing by the name {0:?}")]
    UnknownKey(String),
    /// The unit cannot be put back or taken out where it stands.
    #[error("{key} cannot be {wanted}: it is {state}")]
    NotNow {
        /// The unit.
        key: String,
        /// What was asked for.
        wanted: &'static str,
        /// Where it stands.
        state: String,
    },
}

impl From<Halt> for Error {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Journal(error) => Self::Journal(error),
            other => Self::Halt(other),
        }
    }
}
