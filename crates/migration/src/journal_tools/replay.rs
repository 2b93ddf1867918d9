//! `journal replay`: does the log lead to the state that the journal claims?

use std::path::Path;

use rehome_core::journal::{Replayed, compare_replay, repair_cache};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::Error;

/// `journal replay --json`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReplayDoc {
    /// The journal.
    pub journal: String,
    /// Entries of its log, all of which were replayed.
    pub entries: u64,
    /// Units that they lead to.
    pub units: u64,
    /// Whether the journal's cache is what its log says.
    pub equal: bool,
    /// The first place where it is not.
    pub difference: Option<DivergenceDoc>,
}

/// A place where the cache is not what the log says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DivergenceDoc {
    /// The cached table.
    pub table: String,
    /// The row, by its key.
    pub row: String,
    /// The column; null when the whole row is on one side only.
    pub column: Option<String>,
    /// What the cache has; null when it lacks the row.
    pub cache: Option<String>,
    /// What the log leads to; null when it knows no such row.
    pub log: Option<String>,
    /// The same in a sentence.
    pub message: String,
}

/// Replays the whole log into a temporary file and compares. Works while a run is on; what is
/// written meanwhile is not looked at.
///
/// # Errors
/// [`rehome_core::journal::Error::Damaged`] when the log itself cannot be read or cannot have
/// happened; when there is no journal, or no room for temporary files.
pub fn replay(config: &Config) -> Result<ReplayDoc, Error> {
    let path = config.journal_path();
    let replayed = aside(&path)?;
    Ok(ReplayDoc {
        journal: path.display().to_string(),
        entries: replayed.replay.entries,
        units: replayed.replay.units,
        equal: replayed.difference.is_none(),
        difference: replayed.difference.map(|found| DivergenceDoc {
            message: found.to_string(),
            table: found.table.to_owned(),
            row: found.row,
            column: found.column,
            cache: found.cache,
            log: found.log,
        }),
    })
}

/// Derives what the journal says anew from its log, and compares again.
///
/// # Errors
/// [`rehome_core::journal::Error::Locked`] while a run is on; otherwise as for [`replay`].
pub fn repair(config: &Config) -> Result<ReplayDoc, Error> {
    repair_cache(&config.journal_path())?;
    replay(config)
}

/// SQLite's name for a database of its own making: a temporary file that has no name from the
/// moment it is opened, so nothing of it is left behind whatever happens. What is replayed names
/// people (<https://sqlite.org/inmemorydb.html>, "temp databases").
const NAMELESS: &str = "";

/// Replays into a file that nobody else can look into.
fn aside(path: &Path) -> Result<Replayed, Error> {
    Ok(compare_replay(path, Path::new(NAMELESS))?)
}
