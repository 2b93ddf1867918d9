//! What the configuration decides about rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that a person decides about rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowPolicy {
    /// Rows that name somebody who is not mapped.
    pub unmapped: Unmapped,
    /// Rows that were carried and that the source has no more.
    pub removed: Removed,
}

impl From<Unmapped> for RowPolicy {
    /// The defaults for everything else.
    fn from(unmapped: Unmapped) -> Self {
        Self { unmapped, ..Self::default() }
    }
}

/// What becomes of a row that this migration has put into the target, when the source has it no
/// more (`records.on_removed`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Removed {
    /// It stays.
    #[default]
    Keep,
    /// It goes, if it still is as it was written and no row that stays refers to it.
    Delete,
}

/// What becomes of a row that names somebody who is not mapped (`records.on_unmapped`).
/// A row that names somebody whom a person took out is left out under `Hold`, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unmapped {
    /// It waits.
    #[default]
    Hold,
    /// It is left out, and rows that refer to it too.
    Skip,
    /// It is carried with the old id.
    Keep,
}

/// What becomes of a row whose place in the target is taken by other content
/// (`records.on_conflict`): its key, or a value that is unique there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// It fails, and a person looks at it.
    #[default]
    Fail,
    /// The target's row stays, and ours is left out. Rows of ours that refer to it attach to the
    /// target's row when both are the same thing, and are left out with it when only a number
    /// happens to be the same.
    Skip,
    /// Ours takes its place; the earlier row is journaled first, and a rollback gives it back.
    Replace,
    /// All rows of the table get new keys, beyond those of the target, and whatever refers to them
    /// follows (see [`crate::rekey`]). A value that must be unique besides the key fails.
    Rekey,
}

/// [`OnConflict`] for every table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Conflicts {
    /// For tables that are not named.
    pub default: OnConflict,
    /// By table. The case of ASCII letters is ignored, as SQLite does.
    pub tables: BTreeMap<String, OnConflict>,
}

impl Conflicts {
    /// For the table of this name.
    pub fn of(&self, table: &str) -> OnConflict {
        let named = self.tables.iter().find(|(name, _)| name.eq_ignore_ascii_case(table));
        named.map_or(self.default, |(_, policy)| *policy)
    }
}
