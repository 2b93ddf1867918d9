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
//! last ids are kept to go on from, and the end is only believed when as many users were read as
//! `GetUsersCount` counts; if not, the list is walked again, a few times.

use rehome_core::Halt;
use serde::{Deserialize, Serialize};

use crate::api::User;
use crate::reader::{From, LARGEST_PAGE, ReadError, Reader};

/// How many of the last ids are kept, to go on from when the last users are deleted.
const REMEMBERED: usize = 5;
/// How often the end may turn out not to be one.
const MOST_WALKS: u32 = 4;

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
    /// How often the end was not believed.
    #[serde(default, skip_serializing_if = "is_zero")]
    walks: u64,
}

impl Position {
    /// Before the first user.
    pub(crate) const START: Self =
        Self { mode: Mode::Cursor, after: Vec::new(), read: 0, offset: 0, walks: 0 };
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
}

impl Walk {
    /// A walk by pages of `page` users (2 to [`LARGEST_PAGE`]).
    pub(crate) fn new(reader: Reader, page: usize) -> Self {
        Self { reader, page: page.clamp(2, LARGEST_PAGE) }
    }

    /// Reads the page at `position`.
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
                // A cursor is never part of the page after it, unless it was ignored.
                Ok(users) if users.iter().any(|user| user.id == *id) => break,
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
        if read.mode == Mode::Cursor {
            after.append(&mut next.after);
            after.truncate(REMEMBERED);
        }
        if !after.is_empty() {
            next.after = after;
        }
        let page_end = read.offset + read.users.len() as u64;
        next.offset = match read.mode {
            Mode::Cursor => 0,
            Mode::Offset => page_end.saturating_sub(self.overlap()),
        };
        if !ended {
            return Ok((next, false));
        }

        let count = self.reader.count().await?;
        if next.read >= count {
            return Ok((next, true));
        }
        next.walks += 1;
        if next.walks >= u64::from(MOST_WALKS) {
            return Err(Halt::Refused {
                message: format!(
                    "{}: counts {count} users, but its list shows only {}, also when read again",
                    self.reader.name(),
                    next.read
                ),
                hint: "wait until no users are being deleted or created in bulk, then run the same command again".to_owned(),
            });
        }
        // The first time someone may just have signed up: the same place is asked again. Then
        // the list is read from its start, by the way that trusts no cursor.
        if next.walks > 1 {
            next = Position {
                mode: Mode::Offset,
                after: Vec::new(),
                read: 0,
                offset: 0,
                walks: next.walks,
            };
        }
        Ok((next, false))
    }

    /// By how much pages overlap when they are walked by offset: so many may be deleted between
    /// two requests without a second look.
    fn overlap(&self) -> u64 {
        (self.page as u64 / 10).max(1)
    }
}
