//! Writes to one instance. Each is sent exactly once: whether it may be sent again is decided by
//! the journal, not here.

use std::sync::Arc;
use std::time::Duration;

use rehome_core::Halt;
use serde::Deserialize;

use crate::amend::Amendment;
use crate::api::User;
use crate::create::CreateUser;
use crate::error::Refusal;
use crate::query;
use crate::reader::{self, Reader};
use crate::transport::{Reply, Transport};
use crate::wire::Method;

/// What became of one write.
#[derive(Debug)]
pub enum Attempt {
    /// It was done; the account as the API answered.
    Created(Box<Made>),
    /// The API refused it in its own words and did nothing.
    Refused(Refusal),
    /// 429: not looked at.
    Throttled {
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It did not leave, or nobody who could act on it took it.
    NotSent {
        /// What stood in the way.
        reason: String,
    },
    /// The key is not accepted: nothing was done, and nothing can be.
    Unauthorized(Halt),
    /// It may have been done.
    Unknown {
        /// What was seen instead of an answer.
        reason: String,
    },
}

/// What became of one change of an account, or of its deletion.
#[derive(Debug)]
pub enum Changed {
    /// It was done, by this request.
    Done,
    /// There is no such account (or address) any more.
    Gone,
    /// The API refused it in its own words and did nothing.
    Refused(Refusal),
    /// 429: not looked at.
    Throttled {
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It did not leave, or nobody who could act on it took it.
    NotSent {
        /// What stood in the way.
        reason: String,
    },
    /// The key is not accepted: nothing was done, and nothing can be.
    Unauthorized(Halt),
    /// It may have been done.
    Unknown {
        /// What was seen instead of an answer.
        reason: String,
    },
}

/// An account that a write made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its id.
    pub id: String,
    /// The whole of it, when that could be read.
    pub user: Option<User>,
}

#[derive(Deserialize)]
struct OnlyId {
    id: String,
}

/// Schema `DeletedObject`, as far as it says what was deleted.
#[derive(Deserialize)]
struct DeletedObject {
    id: String,
    deleted: bool,
}

/// Reads and writes one instance. Made from the transport, never from a [`Reader`]: who holds
/// only a reader has no way to one of these.
#[derive(Debug)]
pub struct Writer {
    reader: Reader,
    transport: Arc<Transport>,
}

impl Writer {
    /// A writer over `transport`, reading through `reader` (of the same instance).
    pub fn new(transport: Arc<Transport>, reader: Reader) -> Self {
        Self { reader, transport }
    }

    /// The reading half.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Creates an account (`CreateUser`). Sends once.
    pub async fn create_user(&self, form: &CreateUser) -> Attempt {
        let body = match serde_json::to_vec(form) {
            Ok(body) => body.into(),
            Err(error) => {
                return Attempt::NotSent {
                    reason: format!("the form cannot be written as JSON: {error}"),
                };
            }
        };
        let (status, body) = match self.transport.post("/users".to_owned(), body).await {
            Reply::Answered { status, body } => (status, body),
            Reply::Throttled { retry_after } => return Attempt::Throttled { retry_after },
            Reply::NotSent { reason } => return Attempt::NotSent { reason },
            Reply::Lost { reason } => return Attempt::Unknown { reason },
        };
        if (200..=299).contains(&status) {
            return match serde_json::from_slice::<OnlyId>(&body) {
                Ok(OnlyId { id }) => Attempt::Created(Box::new(Made {
                    id,
                    user: serde_json::from_slice(&body).ok(),
                })),
                Err(error) => Attempt::Unknown {
                    reason: format!("answered {status}, not understood: {error}"),
                },
            };
        }
        match Refusal::parse(status, &body) {
            Some(refusal) if status == 401 => {
                Attempt::Unauthorized(reader::unauthorized(&self.transport, &refusal.to_string()))
            }
            Some(refusal) => Attempt::Refused(refusal),
            // Not the API's own words: something in between. It may have passed the request on.
            None => {
                Attempt::Unknown { reason: format!("answered {status} without a word of Clerk's") }
            }
        }
    }

    /// Changes the account `id`. Sends once.
    pub async fn change(&self, id: &str, amendment: &Amendment) -> Changed {
        let (method, path, body) = amendment.request(id);
        let body = body.map(|body| body.to_string().into());
        // Each of these operations answers with an object; anything else is not the API's word.
        let answered = |body: &[u8]| match serde_json::from_slice::<OnlyId>(body) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("not understood: {error}")),
        };
        self.changed(self.transport.change(method, path, body).await, answered)
    }

    /// Deletes the account `id` (`DeleteUser`). Sends once.
    pub async fn delete_user(&self, id: &str) -> Changed {
        let path = format!("/users/{}", query::encode(id));
        let answered = |body: &[u8]| match serde_json::from_slice::<DeletedObject>(body) {
            Ok(object) if object.deleted && object.id == id => Ok(()),
            Ok(_) => Err(format!("but not that {id} is deleted")),
            Err(error) => Err(format!("not understood: {error}")),
        };
        self.changed(self.transport.change(Method::Delete, path, None).await, answered)
    }

    /// What an answer means; `answered` says whether a success is one, or what it is instead. A
    /// 404 counts as gone only in the API's own words (`resource_not_found`); a proxy's may stand
    /// for anything.
    fn changed(&self, reply: Reply, answered: impl FnOnce(&[u8]) -> Result<(), String>) -> Changed {
        let (status, body) = match reply {
            Reply::Answered { status, body } => (status, body),
            Reply::Throttled { retry_after } => return Changed::Throttled { retry_after },
            Reply::NotSent { reason } => return Changed::NotSent { reason },
            Reply::Lost { reason } => return Changed::Unknown { reason },
        };
        if (200..=299).contains(&status) {
            return match answered(&body) {
                Ok(()) => Changed::Done,
                Err(instead) => {
                    Changed::Unknown { reason: format!("answered {status}, {instead}") }
                }
            };
        }
        match Refusal::parse(status, &body) {
            Some(refusal) if status == 401 => {
                Changed::Unauthorized(reader::unauthorized(&self.transport, &refusal.to_string()))
            }
            Some(refusal) if status == 404 && refusal.has("resource_not_found") => Changed::Gone,
            Some(refusal) => Changed::Refused(refusal),
            None => {
                Changed::Unknown { reason: format!("answered {status} without a word of Clerk's") }
            }
        }
    }
}
