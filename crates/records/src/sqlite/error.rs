//! Why a file cannot be opened, and what to do about it.

use rusqlite::ErrorCode;

use super::{LOCKED, is_locked, unfinished};

/// Why a file cannot be used as a database.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file, or it may not be read.
    #[error("the database file {path} cannot be read")]
    File {
        /// The path as it was given.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The path names something other than a file.
    #[error("{path} is not a file")]
    NotAFile {
        /// The path as it was given.
        path: String,
    },
    /// The file is not a SQLite database, or SQLite cannot open it.
    #[error("{path} cannot be opened as a SQLite database")]
    Sqlite {
        /// The path as it was given.
        path: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// Another program holds the file.
    #[error("another program holds {path} locked")]
    Locked {
        /// The path as it was given.
        path: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// Another program did not finish a transaction, and SQLite may not take it back.
    #[error(
        "{path} holds a transaction that another program did not finish, and it cannot be taken back"
    )]
    Unfinished {
        /// The path as it was given.
        path: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The database keeps its text in UTF-16.
    #[error("{path} keeps its text as {encoding}; only UTF-8 databases are carried")]
    Encoding {
        /// The path as it was given.
        path: String,
        /// The encoding found.
        encoding: String,
    },
}

impl OpenError {
    pub(super) fn of(path: &str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        if is_locked(&source) {
            return Self::Locked { path, source };
        }
        Self::Sqlite { path, source }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Sqlite { source, .. } if may_not(source) => {
                "make the folder writable for whoever runs this: SQLite keeps files of its own \
                 beside a database that has a write-ahead log"
            }
            Self::File { .. } | Self::NotAFile { .. } | Self::Sqlite { .. } => {
                "correct its `path` in the configuration"
            }
            Self::Locked { .. } => LOCKED,
            Self::Unfinished { .. } => unfinished::HINT,
            Self::Encoding { .. } => "copy it into a database that was made with UTF-8",
        }
    }

    /// Whether the same command may find it otherwise, with nothing corrected in the configuration.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Locked { .. } | Self::Unfinished { .. } => true,
            Self::File { .. }
            | Self::NotAFile { .. }
            | Self::Sqlite { .. }
            | Self::Encoding { .. } => false,
        }
    }
}

/// Whether the system would not let SQLite have a file that it needs.
fn may_not(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}
