//! What can go wrong in starting or steering the emulator itself (never what
//! it answers over HTTP: that is [`crate::refusal`]).

use std::net::SocketAddr;

/// Why the emulator could not be started or told something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The loopback address could not be bound.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The tape of requests could not be opened.
    #[error("cannot open the tape {path}")]
    Record {
        /// The file that was asked for.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Two instances were given the same secret key or id, so that a request
    /// could not be told apart.
    #[error("two instances share the key or id of {id}")]
    SameKey {
        /// The second instance's id.
        id: String,
    },
    /// A seed user claims an identifier that another user already has.
    #[error("{param} of the seed user is taken")]
    Taken {
        /// The API's name of the field, for example `email_address`.
        param: &'static str,
    },
    /// A fault plan that is not valid JSON of the documented form.
    #[error("the fault plan cannot be read")]
    FaultPlan(#[source] serde_json::Error),
    /// No instance has this label, id or key.
    #[error("no such instance")]
    NoSuchInstance,
}
