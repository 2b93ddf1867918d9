//! What can go wrong with a journal, sorted by what a person can do about it.

use std::path::PathBuf;

use crate::state::Illegal;
use crate::unit::Kind;

/// A journal that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no journal at this path.
    #[error("there is no journal at {}", .0.display())]
    Missing(PathBuf),
    /// The file could not be created, opened or locked.
    #[error("cannot {doing} {}", .path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// SQLite, or the disk under it, refused.
    #[error("SQLite refused to {doing}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// It is a SQLite file, or not even that, but no journal.
    #[error("{} is not a rehome journal: {found}", .path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// It was written by a later version of this program.
    #[error("the journal has format {found}, this program knows up to {known}")]
    TooNew {
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// A safety setting was asked for and SQLite answered something else.
    #[error("the journal's {pragma} is {found} although {wanted} was asked for")]
    Pragma {
        /// Which setting.
        pragma: &'static str,
        /// What is needed.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
    /// The file must not be written to, by its permissions.
    #[error("{} is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// There is no journal, but the write-ahead log of one that was there.
    #[error("there is no journal at {}, but its {} is there", .path.display(), .wal.display())]
    Orphan {
        /// Where the journal should be.
        path: PathBuf,
        /// What was left.
        wal: PathBuf,
    },
    /// There is no journal, but its lock file tells that one was there.
    #[error(
        "there is no journal at {}, but there was one of {entries} entries",
        .path.display()
    )]
    Gone {
        /// Where the journal should be.
        path: PathBuf,
        /// The number of its last entry that was acknowledged.
        entries: i64,
        /// The file that says so.
        lock: PathBuf,
    },
    /// The journal's name is a symbolic link that leads to nothing.
    #[error("{} leads to {}, and nothing is there", .path.display(), .to.display())]
    Nowhere {
        /// Where the journal should be.
        path: PathBuf,
        /// Where the link leads.
        to: PathBuf,
    },
    /// There is something where a new journal was to be put.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// Another process has the journal open where nobody else may.
    #[error("another process reads {} just now", .0.display())]
    Read(PathBuf),
    /// Personal data was removed from the journal, and with it what a run, a rollback or a
    /// comparison needs.
    #[error(
        "personal data was removed from this journal at {at}: it tells what happened, and can lead nothing any more"
    )]
    Scrubbed {
        /// When, RFC 3339.
        at: String,
    },
    /// The journal ends before an entry that was acknowledged.
    #[error(
        "{} ends at entry {found}, but entry {acknowledged} was durable: its `-wal` file was left \
         behind, or this is an older copy",
        .path.display()
    )]
    Shortened {
        /// The file.
        path: PathBuf,
        /// Its last entry.
        found: i64,
        /// The last entry that was acknowledged.
        acknowledged: i64,
        /// The file that says so.
        lock: PathBuf,
    },
    /// The file is damaged.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// Another run holds the lock.
    #[error("another run uses this journal: {owner}")]
    Locked {
        /// Host, process and since when, as far as known.
        owner: String,
    },
    /// The journal belongs to another migration.
    #[error("this journal belongs to another migration")]
    OtherMigration {
        /// What differs: its name, what the journal is bound to, what was found now.
        differences: Vec<Difference>,
    },
    /// An event that the state machine does not allow: a bug live, damage in replay.
    #[error("unit {unit}")]
    Illegal {
        /// The unit's number.
        unit: i64,
        /// What was to happen.
        #[source]
        source: Illegal,
    },
    /// Two units would have the same counterpart in the target.
    #[error("the target's {kind} {target_key} belongs to another unit already")]
    TargetTaken {
        /// The kind.
        kind: Kind,
        /// The counterpart's key.
        target_key: String,
    },
    /// No unit has this number.
    #[error("the journal knows no unit {0}")]
    UnknownUnit(i64),
    /// The log does not lead to the cache.
    #[error("replaying the log gives another state than the journal's cache: {0}")]
    ReplayDiffers(String),
    /// The thread that writes has ended.
    #[error("the journal was closed while it was being written to")]
    Closed,
}

/// One thing in which a journal and a configuration disagree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// What it is, for example `source instance`.
    pub what: String,
    /// What the journal is bound to; `None` when it knows nothing of the kind.
    pub journal: Option<String>,
    /// What was found now.
    pub found: Option<String>,
}

impl Error {
    /// For `map_err` on a rusqlite call. A file that SQLite finds broken half-way is damaged,
    /// whatever was being done with it; so is one whose schema does not fit our questions, or
    /// that holds a value of another type than the schema says.
    pub(crate) fn sqlite(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, TypeMismatch};
        move |source| {
            let code = source.sqlite_error_code();
            let broken = matches!(code, Some(DatabaseCorrupt | NotADatabase | TypeMismatch))
                || matches!(
                    source,
                    rusqlite::Error::SqlInputError { .. }
                        | rusqlite::Error::FromSqlConversionFailure(..)
                        | rusqlite::Error::InvalidColumnType(..)
                        | rusqlite::Error::IntegralValueOutOfRange(..)
                        | rusqlite::Error::Utf8Error(..)
                )
                // What was prepared may be prepared again when it runs, and fail only then.
                || matches!(
                    &source,
                    rusqlite::Error::SqliteFailure(_, Some(why)) if why.starts_with("no such ")
                );
            if broken {
                Self::Damaged(format!("SQLite could not {doing}: {source}"))
            } else {
                Self::Sqlite { doing, source }
            }
        }
    }
}
