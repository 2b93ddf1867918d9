//! One exchange with a remote, and the only three ways in which it can end.
//!
//! The trait stands between the client and the network so that a whole migration can run against
//! something in memory, in virtual time; [`crate::http::HttpWire`] is the one that leaves the
//! machine.

use bytes::Bytes;
use futures::future::BoxFuture;

/// What may be asked. Nothing else of HTTP is needed yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// A read.
    Get,
    /// An effect that makes something.
    Post,
    /// An effect that changes parts of something.
    Patch,
    /// An effect that replaces something.
    Put,
    /// An effect that removes something.
    Delete,
}

/// One request, relative to the remote's base address.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Path and query, from the slash after the base on, percent-encoded.
    pub path: String,
    /// A JSON body.
    pub body: Option<Bytes>,
    /// An answer longer than this is not read to its end, in bytes.
    pub limit: usize,
}

/// An answer that was read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header as it came.
    pub retry_after: Option<String>,
    /// The `Date` header as it came.
    pub date: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// How one exchange ended.
#[derive(Clone, Debug)]
pub enum Exchange {
    /// With an answer.
    Answered(Answer),
    /// Before the request can have reached anybody: no connection came about.
    NotSent {
        /// What stood in the way.
        reason: String,
    },
    /// The request may have been served, and the answer is not known.
    Lost {
        /// What was seen instead.
        reason: String,
    },
}

/// Sends a request once.
pub trait Wire: Send + Sync {
    /// Sends `request` once and waits for the end of the exchange. Never repeats by itself.
    fn exchange(&self, request: Request) -> BoxFuture<'_, Exchange>;
}
