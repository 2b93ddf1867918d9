//! Every request to one instance goes through here: paced, counted, and its end sorted by what
//! may have happened to it.
//!
//! The sorting is the part that matters. A 429 and a connection that never came about are sure
//! to have changed nothing; a 2xx and a 4xx are the remote's word; everything else (5xx, a
//! redirect, a reset, a timeout, a truncated body) leaves the question open. Readers may repeat
//! any of them; for an effect, an open question goes to the journal.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rehome_core::clock::Clock;
use rehome_core::pacer::Pacer;
use rehome_core::{Halt, RemoteTrouble};

use crate::error;
use crate::remote_clock::RemoteClock;
use crate::retry_after;
use crate::wire::{Exchange, Method, Request, Wire};

/// The most that an answer with a list of users may weigh: 500 users with full metadata.
pub(crate) const LIST_LIMIT: usize = 64 << 20;
/// The most that any other answer may weigh.
pub(crate) const ONE_LIMIT: usize = 1 << 20;

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The remote answered with a status from 200 to 299 or from 400 to 499 (429 excepted).
    Answered {
        /// The status.
        status: u16,
        /// The body.
        body: Bytes,
    },
    /// 429: it did not look at the request.
    Throttled {
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// No connection came about.
    NotSent {
        /// What stood in the way.
        reason: String,
    },
    /// It may have been served.
    Lost {
        /// What was seen instead of an answer.
        reason: String,
    },
}

/// The way to one instance, shared by everything that talks to it.
pub struct Transport {
    name: String,
    wire: Box<dyn Wire>,
    pacer: Arc<Pacer>,
    clock: RemoteClock,
    requests: AtomicU64,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("name", &self.name)
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// A transport over `wire`. `name` is how a person knows the remote (`target Clerk
    /// instance`); `pacer` is the one of this remote; `clock` is this machine's, believed
    /// until the remote has told its own time.
    pub fn new(
        name: impl Into<String>,
        wire: Box<dyn Wire>,
        pacer: Arc<Pacer>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let clock = RemoteClock::new(clock);
        Self { name: name.into(), wire, pacer, clock, requests: AtomicU64::new(0) }
    }

    /// How a person knows this remote.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many requests were sent so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The present moment by the remote's own clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The end of a run on account of this remote.
    pub(crate) fn halt(
        &self,
        trouble: RemoteTrouble,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Halt {
        Halt::Remote {
            remote: self.name.clone(),
            trouble,
            message: message.into(),
            hint: hint.into(),
        }
    }

    pub(crate) async fn get(&self, path: String, limit: usize) -> Reply {
        self.send(Request { method: Method::Get, path, body: None, limit }).await
    }

    pub(crate) async fn post(&self, path: String, body: Bytes) -> Reply {
        self.send(Request { method: Method::Post, path, body: Some(body), limit: ONE_LIMIT }).await
    }

    pub(crate) async fn change(&self, method: Method, path: String, body: Option<Bytes>) -> Reply {
        self.send(Request { method, path, body, limit: ONE_LIMIT }).await
    }

    async fn send(&self, request: Request) -> Reply {
        self.pacer.turn().await;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let method = request.method;
        let reply = self.sort(self.wire.exchange(request).await);
        // No path: its query holds addresses.
        match &reply {
            Reply::Answered { status, .. } => tracing::trace!(remote = %self.name, ?method, status),
            Reply::Throttled { retry_after } => {
                tracing::debug!(remote = %self.name, ?method, ?retry_after, "throttled");
            }
            Reply::NotSent { reason } => {
                tracing::debug!(remote = %self.name, ?method, reason, "not sent");
            }
            Reply::Lost { reason } => {
                tracing::debug!(remote = %self.name, ?method, reason, "answer lost");
            }
        }
        reply
    }

    fn sort(&self, exchange: Exchange) -> Reply {
        let answer = match exchange {
            Exchange::Answered(answer) => answer,
            Exchange::NotSent { reason } => {
                self.pacer.trouble();
                return Reply::NotSent { reason };
            }
            Exchange::Lost { reason } => {
                self.pacer.trouble();
                return Reply::Lost { reason };
            }
        };
        self.clock.hear(answer.date.as_deref());
        match answer.status {
            200..=299 | 400..=428 | 430..=499 => {
                self.pacer.success();
                Reply::Answered { status: answer.status, body: answer.body }
            }
            429 => {
                let retry_after = answer
                    .retry_after
                    .as_deref()
                    .and_then(|value| retry_after::parse(value, self.clock.now()));
                if let Some(pause) = retry_after {
                    self.pacer.pause(pause);
                }
                self.pacer.trouble();
                Reply::Throttled { retry_after }
            }
            status => {
                self.pacer.trouble();
                let said = error::summary(&answer.body);
                Reply::Lost { reason: format!("answered {status}{said}") }
            }
        }
    }
}
