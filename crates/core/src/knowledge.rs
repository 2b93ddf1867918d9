//! What a worker may ask the journal: only reading, only by key, never "everything".
//!
//! Workers get this trait, not the journal, so that they cannot write to it and can be tested
//! against a few lines of in-memory knowledge.

use std::collections::{HashMap, HashSet};

use crate::journal;
use crate::state::{Stage, State};
use crate::unit::{Kind, Origin, UnitId};

/// What is known of one unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Its number in the journal.
    pub id: UnitId,
    /// Its identity in the source.
    pub source_key: String,
    /// Its identity in the target, once there is one. The pair is proven from `mapped` on.
    pub target_key: Option<String>,
    /// Whether this migration created the counterpart.
    pub origin: Option<Origin>,
    /// Where it stands.
    pub state: State,
    /// Whether this run will move it at all (a pilot leaves most units alone).
    pub selected: bool,
}

/// Questions about units. Every answer is what the journal has acknowledged.
pub trait Knowledge: Send + Sync {
    /// Those of the units with these source keys that the journal knows, by source key.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn by_source(
        &self,
        kind: &Kind,
        source_keys: &[String],
    ) -> Result<HashMap<String, Known>, journal::Error>;

    /// Those of the units with these target keys that the journal knows, by target key.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn by_target(
        &self,
        kind: &Kind,
        target_keys: &[String],
    ) -> Result<HashMap<String, Known>, journal::Error>;

    /// The units of a kind with numbers above `after` and up to `last`, in their order, at most
    /// `limit` of them; also those that are not selected (see [`Known::selected`]).
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn between(
        &self,
        kind: &Kind,
        after: UnitId,
        last: UnitId,
        limit: usize,
    ) -> Result<Vec<Known>, journal::Error>;

    /// Every unit that claims one of these aliases: for each alias all its claimants.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn claimants(
        &self,
        kind: &Kind,
        aliases: &[String],
    ) -> Result<HashMap<String, Vec<Known>>, journal::Error>;

    /// Where the source of this kind has come to (see [`crate::Page::cursor`]); `None` before its
    /// first page.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn cursor(&self, kind: &Kind) -> Result<Option<serde_json::Value>, journal::Error>;

    /// The target keys of all units of a kind that have one. For kinds in which few do.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn target_keys(&self, kind: &Kind) -> Result<Vec<String>, journal::Error>;

    /// Whether the source of this kind has been read to its end.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn export_done(&self, kind: &Kind) -> Result<bool, journal::Error>;

    /// Those of the units that some held or failed unit still blocks (see [`crate::Block`]).
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn blocked(
        &self,
        kind: &Kind,
        source_keys: &[String],
    ) -> Result<HashSet<String>, journal::Error>;

    /// Whether a kind's source has been read to its end and no unit of it (in one scope, or in
    /// all) still moves below `stage`: each has reached it, or has failed, is held or skipped.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn settled(
        &self,
        kind: &Kind,
        scope: Option<&str>,
        stage: Stage,
    ) -> Result<bool, journal::Error>;
}
