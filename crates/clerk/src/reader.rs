//! Reads of one instance. A read changes nothing, so it is repeated here, with backoff, until it
//! succeeds or the patience is over; callers see an answer, the API's refusal, or the end of the
//! run.
//!
//! This type has no method that writes and no way to the transport: who is given a `Reader`
//! cannot change the instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::try_join_all;
use rehome_core::backoff::Backoff;
use rehome_core::{Halt, RemoteTrouble};
use serde::de::DeserializeOwned;

use crate::api::{Instance, Page, TotalCount, User};
use crate::error::Refusal;
use crate::query::{self, Filter};
use crate::transport::{LIST_LIMIT, ONE_LIMIT, Reply, Transport};

/// `GetUserList` returns at most so many users at once.
pub const LARGEST_PAGE: usize = 500;
/// Being throttled is no failure, but a remote that answers nothing else is of no use either.
const MOST_THROTTLES: usize = 100;

/// A read that brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The instance cannot be read at all; the run ends.
    #[error(transparent)]
    Halt(#[from] Halt),
    /// It understood the question and refuses to answer it.
    #[error("Clerk refused the question")]
    Refused(#[source] Refusal),
}

/// Where a page of the list of all users, oldest first, begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum From {
    /// At the beginning.
    Start,
    /// After the user with this id (`starting_after`): one cost at any depth, and no user is
    /// skipped when another is deleted.
    After(String),
    /// After so many users (`offset`).
    Offset(u64),
}

/// Reads one instance.
#[derive(Clone, Debug)]
pub struct Reader {
    transport: Arc<Transport>,
    backoff: Backoff,
    // Gives each read its own jitter, the same ones in every run.
    seeds: Arc<AtomicU64>,
}

/// Why an attempt brought nothing, for the message when it was the last.
enum Trouble {
    Unreachable(String),
    Protocol(String),
}

impl Reader {
    /// A reader with the usual patience of about a minute per read.
    pub fn new(transport: Arc<Transport>) -> Self {
        Self::with_backoff(transport, Backoff::default())
    }

    /// A reader that waits between attempts as `backoff` says, and gives up after them.
    pub fn with_backoff(transport: Arc<Transport>, backoff: Backoff) -> Self {
        Self { transport, backoff, seeds: Arc::new(AtomicU64::new(0)) }
    }

    /// How a person knows this instance.
    pub fn name(&self) -> &str {
        self.transport.name()
    }

    /// How many requests were sent to it, by everybody who shares the transport.
    pub fn requests(&self) -> u64 {
        self.transport.requests()
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seeds.fetch_add(1, Ordering::Relaxed)
    }

    /// The instance that the key belongs to (`GetInstance`).
    ///
    /// # Errors
    /// [`Halt::Remote`] when it cannot be read.
    pub async fn instance(&self) -> Result<Instance, Halt> {
        let answer = self.get("/instance".to_owned(), ONE_LIMIT).await;
        answer.map_err(|error| self.fatal(error))
    }

    /// How many users there are (`GetUsersCount`).
    ///
    /// # Errors
    /// [`Halt::Remote`] when it cannot be read.
    pub async fn count(&self) -> Result<u64, Halt> {
        let answer = self.get("/users/count".to_owned(), ONE_LIMIT).await;
        let TotalCount { total_count } = answer.map_err(|error| self.fatal(error))?;
        Ok(total_count)
    }

    /// A page of at most `limit` (1 to [`LARGEST_PAGE`]) users, oldest first (`GetUserList`).
    /// Fewer than `limit` means that the list ends there.
    ///
    /// # Errors
    /// [`ReadError::Refused`] when the starting point is not accepted; [`ReadError::Halt`] when
    /// the instance cannot be read.
    pub async fn users_page(&self, from: &From, limit: usize) -> Result<Vec<User>, ReadError> {
        let limit = limit.clamp(1, LARGEST_PAGE);
        let mut path = format!("/users?limit={limit}&order_by=%2Bcreated_at");
        match from {
            From::Start => {}
            From::After(id) => path.push_str(&format!("&starting_after={}", query::encode(id))),
            From::Offset(offset) => path.push_str(&format!("&offset={offset}")),
        }
        let Page(users) = self.get(path, LIST_LIMIT).await?;
        Ok(users)
    }

    /// Every user that has one of these values (`GetUserList` with a filter). The requests
    /// hold up to 100 values each and run side by side, as the pacer lets them.
    ///
    /// # Errors
    /// [`Halt::Remote`] when the instance cannot be read.
    pub async fn users_by(&self, filter: Filter, values: &[String]) -> Result<Vec<User>, Halt> {
        let found = query::chunks(filter, values).into_iter().map(|chunk| self.all_pages(chunk));
        let found = try_join_all(found).await;
        Ok(found.map_err(|error| self.fatal(error))?.into_iter().flatten().collect())
    }

    async fn all_pages(&self, chunk: String) -> Result<Vec<User>, ReadError> {
        let mut users: Vec<User> = Vec::new();
        loop {
            // An unverified address may belong to any number of accounts, hence pages. Such
            // lists are short, so an offset does no harm.
            let offset = match users.len() {
                0 => String::new(),
                read => format!("&offset={read}"),
            };
            let path =
                format!("/users?limit={LARGEST_PAGE}&order_by=%2Bcreated_at{offset}&{chunk}");
            let Page(page) = self.get(path, LIST_LIMIT).await?;
            let last = page.len() < LARGEST_PAGE;
            users.extend(page);
            if last {
                return Ok(users);
            }
        }
    }

    /// One user (`GetUser`), or `None` when there is none with this id.
    ///
    /// # Errors
    /// [`Halt::Remote`] when the instance cannot be read.
    pub async fn user(&self, id: &str) -> Result<Option<User>, Halt> {
        let path = format!("/users/{}", query::encode(id));
        match self.get(path, ONE_LIMIT).await {
            Ok(user) => Ok(Some(user)),
            Err(ReadError::Refused(refusal)) if refusal.status == 404 => Ok(None),
            Err(error) => Err(self.fatal(error)),
        }
    }

    /// The end of the run because of this instance.
    pub(crate) fn halt(&self, trouble: RemoteTrouble, message: String, hint: &str) -> Halt {
        self.transport.halt(trouble, message, hint)
    }

    /// Turns a refusal that nobody can act on into the end of the run.
    pub(crate) fn fatal(&self, error: ReadError) -> Halt {
        match error {
            ReadError::Halt(halt) => halt,
            ReadError::Refused(refusal) => self.transport.halt(
                RemoteTrouble::Protocol,
                format!("a read was refused: {refusal}"),
                "check that this is a Clerk Backend API of version 2026-05-12 or later",
            ),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: String, limit: usize) -> Result<T, ReadError> {
        let mut delays = self.backoff.delays(self.seed());
        let mut throttles = 0;
        loop {
            let trouble = match self.transport.get(path.clone(), limit).await {
                Reply::Answered { status: 200..=299, body } => {
                    match serde_json::from_slice(&body) {
                        Ok(value) => return Ok(value),
                        Err(error) => {
                            Trouble::Protocol(format!("the answer is not understood: {error}"))
                        }
                    }
                }
                Reply::Answered { status, body } => match Refusal::parse(status, &body) {
                    Some(refusal) if matches!(status, 401 | 403) => {
                        return Err(self.unauthorized(&refusal.to_string()).into());
                    }
                    Some(refusal) => return Err(ReadError::Refused(refusal)),
                    None if status == 401 => {
                        return Err(self.unauthorized("answered 401").into());
                    }
                    // Something in between answered, not the API.
                    None => {
                        Trouble::Protocol(format!("answered {status} without a word of Clerk's"))
                    }
                },
                Reply::Throttled { retry_after } => {
                    throttles += 1;
                    // The pacer holds everybody back for the time that was asked for.
                    if retry_after.is_some() && throttles < MOST_THROTTLES {
                        continue;
                    }
                    Trouble::Unreachable("answered 429 (too many requests)".to_owned())
                }
                Reply::NotSent { reason } | Reply::Lost { reason } => Trouble::Unreachable(reason),
            };
            match delays.next() {
                Some(delay) if throttles < MOST_THROTTLES => tokio::time::sleep(delay).await,
                Some(_) | None => return Err(self.given_up(trouble).into()),
            }
        }
    }

    fn given_up(&self, trouble: Trouble) -> Halt {
        match trouble {
            Trouble::Unreachable(reason) => self.transport.halt(
                RemoteTrouble::Unreachable,
                format!("kept failing: {reason}"),
                "check the network, the address and Clerk's status page, then run the same command again",
            ),
            Trouble::Protocol(reason) => self.transport.halt(
                RemoteTrouble::Protocol,
                reason,
                "check `api_url` and whether a proxy answers in Clerk's place, then run the same command again",
            ),
        }
    }

    fn unauthorized(&self, seen: &str) -> Halt {
        unauthorized(&self.transport, seen)
    }
}

/// The end of a run because the key is not accepted.
pub(crate) fn unauthorized(transport: &Transport, seen: &str) -> Halt {
    transport.halt(
        RemoteTrouble::Authentication,
        format!("the secret key is not accepted: {seen}"),
        "check that the key is complete, belongs to this instance and was not rotated, then run the same command again",
    )
}
