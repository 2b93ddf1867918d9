//! Why a run stops before its end. Always resumable by the same command.

use crate::journal;

/// What is wrong with a remote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemoteTrouble {
    /// It does not accept our key (401, 403 on everything).
    Authentication,
    /// A limit of the plan or instance is used up.
    Quota,
    /// It could not be reached, or kept failing, past all retries.
    Unreachable,
    /// It answers something that is not its API.
    Protocol,
}

/// The end of a run that did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// A remote cannot be used.
    #[error("{remote}: {message}")]
    Remote {
        /// Which one, in words a person knows (`target Clerk instance`).
        remote: String,
        /// What sort of trouble.
        trouble: RemoteTrouble,
        /// What was seen.
        message: String,
        /// What to do.
        hint: String,
    },
    /// What was found contradicts what the run stands on (a source that changed shape, an
    /// instance other than the pinned one): going on would guess.
    #[error("{message}")]
    Refused {
        /// What was found.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The journal could not be read or written.
    #[error("the journal cannot be used")]
    Journal(#[from] journal::Error),
    /// A worker broke its own rules: a bug.
    #[error("internal error: {0}")]
    Bug(String),
}
