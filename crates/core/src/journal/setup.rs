//! What a journal is bound to.
//!
//! The setup row is written once. It pins the ids of the two instances, the two databases, and
//! the settings that change what the entries mean. A run against anything else is refused, with
//! the differences named. Keys are never among the pins.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::Error;
use super::error::Difference;
use crate::boundary::{self, Boundary};

/// What a migration is bound to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Setup {
    /// The migration's name.
    pub name: String,
    /// By a name that a person understands (`source instance`): what it is.
    pub pins: BTreeMap<String, String>,
}

/// The pin of a journal from which personal data was removed: when that was.
pub(super) const SCRUBBED: &str = "scrubbed";

/// Refuses a journal that cannot lead a migration any more.
pub(super) fn refuse_scrubbed(conn: &Connection) -> Result<(), Error> {
    match read(conn)?.and_then(|setup| setup.scrubbed().map(str::to_owned)) {
        Some(at) => Err(Error::Scrubbed { at }),
        None => Ok(()),
    }
}

/// The setup row, when the journal has one.
pub(super) fn read(conn: &Connection) -> Result<Option<Setup>, Error> {
    let row: Option<(String, String)> = conn
        .query_row("SELECT name, pins FROM setup", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(Error::sqlite("read its setup"))?;
    row.map(|(name, pins)| {
        let pins = serde_json::from_str(&pins)
            .map_err(|error| Error::Damaged(format!("the setup row: {error}")))?;
        Ok(Setup { name, pins })
    })
    .transpose()
}

/// Binds a new journal, or checks that an old one is bound to the same.
#[allow(clippy::disallowed_methods, reason = "the journal is one of the rooms where SQL is run")]
pub(super) fn bind(conn: &Connection, wanted: &Setup, now: i64) -> Result<(), Error> {
    let Some(bound) = read(conn)? else {
        let pins = serde_json::to_string(&wanted.pins)
            .map_err(|error| Error::Damaged(error.to_string()))?;
        boundary::reach(Boundary::SetupDue);
        conn.execute(
            "INSERT INTO setup (id, name, created_at, pins) VALUES (1, ?1, ?2, ?3)",
            params![wanted.name, now, pins],
        )
        .map_err(Error::sqlite("write its setup"))?;
        boundary::reach(Boundary::SetupDurable);
        return Ok(());
    };
    bound.accepts(wanted)
}

impl Setup {
    /// When personal data was removed from the journal (RFC 3339); `None` when it was not.
    pub fn scrubbed(&self) -> Option<&str> {
        self.pins.get(SCRUBBED).map(String::as_str)
    }

    /// Whether a migration that is wanted now may go on with the journal that is bound to `self`.
    ///
    /// # Errors
    /// [`Error::Scrubbed`] and [`Error::OtherMigration`].
    pub fn accepts(&self, wanted: &Self) -> Result<(), Error> {
        if let Some(at) = self.scrubbed() {
            return Err(Error::Scrubbed { at: at.to_owned() });
        }
        let differences = self.differences(wanted);
        if differences.is_empty() { Ok(()) } else { Err(Error::OtherMigration { differences }) }
    }

    /// In what a migration that is wanted now differs from the one that the journal is bound to.
    pub fn differences(&self, wanted: &Self) -> Vec<Difference> {
        let bound = self;
        let mut found = Vec::new();
        if bound.name != wanted.name {
            found.push(Difference {
                what: "name".into(),
                journal: Some(bound.name.clone()),
                found: Some(wanted.name.clone()),
            });
        }
        let names: std::collections::BTreeSet<_> =
            bound.pins.keys().chain(wanted.pins.keys()).collect();
        for name in names {
            let (journal, now) = (bound.pins.get(name), wanted.pins.get(name));
            if journal != now {
                found.push(Difference {
                    what: name.clone(),
                    journal: journal.cloned(),
                    found: now.cloned(),
                });
            }
        }
        found
    }
}
