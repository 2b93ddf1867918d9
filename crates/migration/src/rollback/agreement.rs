//! What somebody has agreed to force, kept in the journal for as long as that rollback lasts.
//!
//! `--force N` names how many used accounts go, `--force-rows N` how many changed rows. A rollback
//! that is killed half-way has fewer of them before it when the same command goes on, and people
//! go on signing in meanwhile. So the journal keeps which ones were meant: the same command takes
//! what is left of those, and nothing that has come since.

use std::collections::{BTreeSet, HashSet};

use rehome_core::UnitId;
use rehome_core::journal::{self, Change, Journal, Reader};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Forced};

/// The word of the note.
pub(crate) const NOTE: &str = "forced";

/// Accounts and rows that go although they were used or changed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Agreement {
    /// Their users. Neither list survives a scrub, after which nothing is taken back any more.
    #[serde(default)]
    pub(super) users: BTreeSet<UnitId>,
    /// By table and key, in words.
    #[serde(default)]
    pub(super) rows: HashSet<(String, String)>,
}

impl Agreement {
    /// The one that holds; empty when none does.
    pub(super) fn standing(reader: &Reader) -> Result<Self, Error> {
        let Some((_, note)) = reader.note(NOTE)? else {
            return Ok(Self::default());
        };
        let agreement = Self::deserialize(note)
            .map_err(|error| journal::Error::Damaged(format!("a note of a force: {error}")))?;
        Ok(agreement)
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.rows.is_empty()
    }

    /// Whether what is found now may go: by what was agreed to before, or because it is as many
    /// as `given` says.
    ///
    /// # Errors
    /// [`Error::ForceCount`], [`Error::ForcedSince`].
    pub(super) fn allows_users(
        &self,
        given: Option<u64>,
        found: &BTreeSet<UnitId>,
    ) -> Result<(), Error> {
        let more = found.difference(&self.users).count() as u64;
        allows(Forced::Accounts, given, self.users.len() as u64, found.len() as u64, more)
    }

    /// The same for rows.
    ///
    /// # Errors
    /// [`Error::ForceCount`], [`Error::ForcedSince`].
    pub(super) fn allows_rows(
        &self,
        given: Option<u64>,
        found: &HashSet<(String, String)>,
    ) -> Result<(), Error> {
        let more = found.difference(&self.rows).count() as u64;
        allows(Forced::Rows, given, self.rows.len() as u64, found.len() as u64, more)
    }

    /// Journals it, unless it is no more than what holds already.
    pub(super) async fn keep(&self, journal: &Journal) -> Result<(), Error> {
        let standing = Self::standing(&journal.reader()?)?;
        if self.users.is_subset(&standing.users) && self.rows.is_subset(&standing.rows) {
            return Ok(());
        }
        let detail = serde_json::to_value(self).unwrap_or_default();
        journal.submit(vec![Change::Note { event: NOTE, detail }]).await?;
        Ok(())
    }

    /// Whoever forces next is asked again.
    pub(super) async fn end(journal: &Journal) -> Result<(), Error> {
        if !Self::standing(&journal.reader()?)?.is_empty() {
            let detail = serde_json::to_value(Self::default()).unwrap_or_default();
            journal.submit(vec![Change::Note { event: NOTE, detail }]).await?;
        }
        Ok(())
    }
}

fn allows(
    what: Forced,
    given: Option<u64>,
    agreed: u64,
    found: u64,
    more: u64,
) -> Result<(), Error> {
    match given {
        // What is given once more after its end finds nothing, and is done.
        None => Ok(()),
        Some(_) if found == 0 => Ok(()),
        Some(given) if agreed > 0 && given == agreed => match more {
            0 => Ok(()),
            more => Err(Error::ForcedSince { what, more }),
        },
        Some(given) if given == found => Ok(()),
        Some(given) => Err(Error::ForceCount { what, given, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(given: Option<u64>, agreed: u64, found: u64, more: u64) -> &'static str {
        match allows(Forced::Rows, given, agreed, found, more) {
            Ok(()) => "goes",
            Err(Error::ForceCount { .. }) => "count",
            Err(Error::ForcedSince { .. }) => "since",
            Err(_) => "other",
        }
    }

    #[test]
    fn what_was_agreed_to_goes_on_and_nothing_that_came_since() {
        assert_eq!(says(None, 0, 0, 0), "goes");
        assert_eq!((says(Some(3), 0, 3, 3), says(Some(2), 0, 3, 3)), ("goes", "count"));
        // Killed with one of three left; a second one has come since.
        assert_eq!((says(Some(3), 3, 1, 0), says(Some(3), 3, 2, 1)), ("goes", "since"));
        // As many as before, but another one is among them.
        assert_eq!(says(Some(3), 3, 3, 1), "since");
        // Everything went, and the command is given once more.
        assert_eq!((says(Some(3), 0, 0, 0), says(Some(3), 3, 0, 0)), ("goes", "goes"));
        // Another number is another agreement.
        assert_eq!((says(Some(1), 3, 1, 0), says(Some(2), 3, 1, 0)), ("goes", "count"));
    }
}
