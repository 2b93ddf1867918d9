//! A plan before it is made: whose accounts are to go.
//!
//! Rows and accounts decide about each other. A row stays with an account that stays; an account
//! stays with a row that names it and stays. So the accounts come first, into the plan's working
//! file, and [`super::RowPlan::make`] says at its end which of them are kept by rows.

use std::path::Path;

use rehome_core::{Halt, Kind, UnitId};
use rusqlite::params;

use super::scratch::Scratch;

/// The working file of a plan, with the accounts that are to go.
pub struct Draft {
    scratch: Scratch,
    kind: Kind,
}

impl Draft {
    /// An empty one in a new file at `scratch`, which is overwritten. `kind` is that of the
    /// units that have accounts.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(scratch: &Path, kind: Kind) -> Result<Self, Halt> {
        Ok(Self { scratch: Scratch::create(scratch)?, kind })
    }

    /// Notes accounts that are to go: the unit, and its id in the target.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn leaving<'a>(
        &self,
        accounts: impl IntoIterator<Item = (UnitId, &'a str)>,
    ) -> Result<(), Halt> {
        self.scratch.work(|file| {
            let mut note = file
                .prepare_cached("INSERT OR IGNORE INTO leaving (unit, account) VALUES (?1, ?2)")?;
            for (unit, account) in accounts {
                note.execute(params![unit.0, account])?;
            }
            Ok(())
        })
    }

    /// Notes accounts of this migration's making that are not there any more.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn departed<'a>(&self, accounts: impl IntoIterator<Item = &'a str>) -> Result<(), Halt> {
        self.scratch.work(|file| {
            let mut note = file.prepare_cached("INSERT OR IGNORE INTO departed VALUES (?1)")?;
            for account in accounts {
                note.execute([account])?;
            }
            Ok(())
        })
    }

    /// Whether the account of this unit is to go.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn leaves(&self, unit: UnitId) -> Result<bool, Halt> {
        self.scratch.work(|file| {
            file.prepare_cached("SELECT 1 FROM leaving WHERE unit = ?1")?.exists([unit.0])
        })
    }

    /// What the units are.
    pub(super) const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whether one of these accounts is to go, or is gone.
    pub(super) fn any_leaves<'a>(
        &self,
        mut accounts: impl Iterator<Item = &'a String>,
    ) -> Result<bool, Halt> {
        self.scratch.work(|file| {
            let mut ask = file.prepare_cached(
                "SELECT 1 FROM leaving WHERE account = ?1
                 UNION ALL SELECT 1 FROM departed WHERE account = ?1",
            )?;
            accounts.try_fold(false, |found, account| Ok(found || ask.exists([account])?))
        })
    }

    /// Accounts that are to go, of units with numbers above `after`.
    pub(super) fn page(&self, after: UnitId, limit: usize) -> Result<Vec<(UnitId, String)>, Halt> {
        self.scratch.work(|file| {
            file.prepare_cached(
                "SELECT unit, account FROM leaving WHERE unit > ?1 ORDER BY unit LIMIT ?2",
            )?
            .query_map(params![after.0, limit as i64], |row| {
                Ok((UnitId(row.get(0)?), row.get(1)?))
            })?
            .collect()
        })
    }

    pub(super) const fn scratch(&self) -> &Scratch {
        &self.scratch
    }
}
