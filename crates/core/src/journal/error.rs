//! What can go wrong with a journal, sorted by what a person can do about it.

/// A journal that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// SQLite, or the disk under it, refused.
    #[error("{doing}")]
    Sqlite {
        /// What was being done.
        doing: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}
