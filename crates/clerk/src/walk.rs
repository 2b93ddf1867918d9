//! Walks all users of an instance, oldest first, so that none is missed while the application
//! lives on.
//!
//! Pages are walked with `starting_after`: a user who signs up meanwhile comes at the end, and
//! one who is deleted meanwhile moves nobody else. When an instance does not know that cursor,
//! refuses it, or ignores it, the walk goes on by `offset`, and then has to prove on every page
//! that nothing was skipped: a page must overlap the one before it, and one that does not is
//! read again from further back.
//!
//! What no documentation says is whether the id of a user who was deleted is still a valid
//! cursor, and whether a dead one would be refused or answered with nothing. So several of the
//! last ids are kept to go on from, and "nothing" is only believed when the user whose id was
//! the cursor is seen to exist afterwards.
//!
//! The list of a living application has no end, only a place where it ends now. A walk by cursor
//! cannot pass anybody by: who comes later stands behind the cursor. So when `GetUsersCount`
//! counts more than were read, the same place is asked again for newcomers, a few times, and
//! then the end is one. A walk by offset is less sure, and is repeated until it agrees with the
//! count or with the walk before it. Either way a walk that came to its end can be taken up
//! there, at any later time, for those who have come since.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rehome_core::{Halt, RemoteTrouble};
use serde::{Deserialize, Serialize};

use crate::api::User;
use crate::reader::{From, LARGEST_PAGE, ReadError, Reader};

/// How many of the last ids are kept, to go on from when the last users are deleted.
const REMEMBERED: usize = 5;
/// How often one end is asked again for newcomers.
const MOST_LOOKS: u64 = 2;
/// How often a list that is walked by offset is walked anew, in one run of the program.
const MOST_RESTARTS: u32 = 3;

/// How the list is being walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Cursor,
    Offset,
}

/// Where the walk stands; journaled with every page.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Position {
    mode: Mode,
    /// The last ids that were read, the latest first.
    after: Vec<String>,
    /// How many users this walk has read.
    read: u64,
    /// Where the next page by offset begins.
    #[serde(default, skip_serializing_if = "is_zero")]
    offset: u64,
    /// How often this end was asked again for newcomers.
    #[serde(default, skip_serializing_if = "is_zero")]
    looks: u64,
    /// How many users the walk before this one read, when the list is walked anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<u64>,
    /// The end was reached before: what comes now has come since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
}

impl Position {
    /// Before the first user.
    pub(crate) const START: Self = Self {
        mode: Mode::Cursor,
        after: Vec::new(),
        read: 0,
        offset: 0,
        looks: 0,
        previous: None,
        ended: false,
    };

    /// The position at an end that is believed.
    fn at_end(self) -> Self {
        Self { looks: 0, previous: None, ended: true, ..self }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What one request brought, before it is known whether the list ends there.
struct Read {
    users: Vec<User>,
    /// How many of them are new to this walk; they stand at the end.
    new: usize,
    mode: Mode,
    offset: u64,
}

/// One step of a walk.
pub(crate) struct Stepped {
    /// The page. It may hold users of the page before once more.
    pub(crate) users: Vec<User>,
    /// Where to go on.
    pub(crate) next: Position,
    /// Whether that was the end.
    pub(crate) done: bool,
}

/// Walks the list of all users of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    reader: Reader,
    page: usize,
    /// Not journaled: who runs the program again, because the list did not hold still, gets as
    /// many walks as the first time.
    restarts: Arc<AtomicU32>,
}

impl Walk {
    /// A walk by pages of `page` users (2 to [`LARGEST_PAGE`]).
    pub(crate) fn new(reader: Reader, page: usize) -> Self {
        Self { reader, page: 0, restarts: Arc::default() }.with_page(page)
    }

    /// The same by pages of `page` users (2 to [`LARGEST_PAGE`]).
    pub(crate) fn with_page(mut self, page: usize) -> Self {
        self.page = page.clamp(2, LARGEST_PAGE);
        self
    }

    /// The instance that is walked.
    pub(crate) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Reads the page at `position`. That may be one where the walk had ended: then it goes on
    /// with those who came since.
    pub(crate) async fn step(&self, position: Position) -> Result<Stepped, Halt> {
        let read = match position.mode {
            Mode::Cursor => self.by_cursor(&position).await?,
            Mode::Offset => self.by_offset(&position).await?,
        };
        let ended = read.users.len() < self.page;
        let (next, done) = self.next(position, &read, ended).await?;
        Ok(Stepped { users: read.users, next, done })
    }

    async fn by_cursor(&self, position: &Position) -> Result<Read, Halt> {
        if position.after.is_empty() {
            let users = self.reader.users_page(&From::Start, self.page).await;
            let users = users.map_err(|error| self.reader.fatal(error))?;
            return Ok(Read { new: users.len(), users, mode: Mode::Cursor, offset: 0 });
        }
        for id in &position.after {
            let page = self.reader.users_page(&From::After(id.clone()), self.page).await;
            match page {
                // Nobody who was read is part of the page after it, unless the cursor is ignored.
                Ok(users) if users.iter().any(|user| position.after.contains(&user.id)) => break,
                // The end, or a dead cursor. Who exists now existed when the answer was given.
                Ok(users) if users.is_empty() && self.reader.user(id).await?.is_none() => {
                    tracing::debug!(%id, "the user who was the cursor is gone");
                }
                Ok(users) => {
                    return Ok(Read { new: users.len(), users, mode: Mode::Cursor, offset: 0 });
                }
                // This user may be gone; the one before may still be there.
                Err(ReadError::Refused(refusal)) if !refusal.has("form_param_unknown") => {
                    tracing::debug!(%refusal, "a cursor was refused");
                }
                Err(ReadError::Refused(_)) => break,
                Err(ReadError::Halt(halt)) => return Err(halt),
            }
        }
        tracing::info!("the source takes no cursor here: going on by offset");
        let mut by_offset = position.clone();
        by_offset.offset = position.read.saturating_sub(self.overlap());
        self.by_offset(&by_offset).await
    }

    async fn by_offset(&self, position: &Position) -> Result<Read, Halt> {
        let mut offset = position.offset;
        loop {
            let page = self.reader.users_page(&From::Offset(offset), self.page).await;
            let users = page.map_err(|error| self.reader.fatal(error))?;
            let seam = users.iter().rposition(|user| position.after.contains(&user.id));
            let new = match seam {
                Some(seam) => users.len() - seam - 1,
                // From the very start on, nothing can have been skipped.
                None if offset == 0 => users.len(),
                // So many were deleted that the page begins behind the last user read.
                None => {
                    offset = offset.saturating_sub(self.page as u64);
                    continue;
                }
            };
            return Ok(Read { users, new, mode: Mode::Offset, offset });
        }
    }

    async fn next(
        &self,
        position: Position,
        read: &Read,
        ended: bool,
    ) -> Result<(Position, bool), Halt> {
        let mut next = position;
        next.mode = read.mode;
        next.read = match read.mode {
            // The walk began anew at this page.
            Mode::Offset if read.offset == 0 => read.users.len() as u64,
            Mode::Offset | Mode::Cursor => next.read + read.new as u64,
        };
        let mut after: Vec<_> =
            read.users.iter().rev().take(REMEMBERED).map(|user| user.id.clone()).collect();
        for id in std::mem::take(&mut next.after) {
            if after.len() < REMEMBERED && !after.contains(&id) {
                after.push(id);
            }
        }
        next.after = after;
        let page_end = read.offset + read.users.len() as u64;
        next.offset = match read.mode {
            Mode::Cursor => 0,
            Mode::Offset => page_end.saturating_sub(self.overlap()),
        };
        if !ended {
            return Ok((next, false));
        }

        // Behind an end there are only newcomers, of whom none is passed by: there is nothing to
        // compare with a count.
        if next.ended {
            return Ok((next.at_end(), true));
        }
        let count = self.reader.count().await?;
        if next.read >= count {
            return Ok((next.at_end(), true));
        }
        if next.looks < MOST_LOOKS {
            next.looks += 1;
            return Ok((next, false));
        }
        let agreed = match next.mode {
            Mode::Cursor => true,
            Mode::Offset => next.previous == Some(next.read),
        };
        if agreed {
            let read = next.read;
            tracing::info!(count, read, "the list ends before the count does");
            return Ok((next.at_end(), true));
        }
        if self.restarts.fetch_add(1, Ordering::Relaxed) >= MOST_RESTARTS {
            return Err(self.reader.halt(
                RemoteTrouble::Unreachable,
                format!(
                    "counts {count} users, but its list shows {}, and another number each time it is read",
                    next.read
                ),
                "wait for a time when fewer users sign up and are deleted, then run the same command again",
            ));
        }
        let previous = Some(next.read);
        Ok((Position { mode: Mode::Offset, previous, ..Position::START }, false))
    }

    /// By how much pages overlap when they are walked by offset: so many may be deleted between
    /// two requests without a second look.
    fn overlap(&self) -> u64 {
        (self.page as u64 / 10).max(1)
    }
}
