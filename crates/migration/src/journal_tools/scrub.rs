//! `journal scrub`: personal data out of a journal that has done its work.

use rehome_clerk::USER;
use rehome_core::Kind;
use rehome_core::clock::Clock;
use rehome_core::journal::{self, Kept, Reader, Setup};
use rehome_records::in_place::LOT;
use rehome_records::span::SPAN;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::Error;
use crate::ledger;
use crate::workers::carriers;

/// `journal scrub --json`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ScrubDoc {
    /// The journal.
    pub journal: String,
    /// Entries, all of which are still there.
    pub entries: u64,
    /// Units.
    pub units: u64,
    /// How long the file was, in bytes.
    pub bytes_before: u64,
    /// How long it is now.
    pub bytes_after: u64,
}

/// Why the migration still needs what a scrub removes; `None` at its end: the source was read
/// through, and each unit is verified, taken out or taken back. A migration that was taken back
/// as a whole is at its end, however much of the source it had read.
///
/// # Errors
/// When there is no journal, when it cannot be read, or when it is another migration's.
pub fn unfinished(config: &Config) -> Result<Option<String>, Error> {
    let reader = Reader::open(&config.journal_path())?;
    refuse_another(config, &reader)?;
    let counts = reader.counts()?;
    let mut kinds = vec![USER];
    if config.records.is_some() {
        kinds.push(carriers(config));
    }
    let (mut open, mut back, mut unread) = (0, 0, None);
    for kind in &kinds {
        let standing = ledger::unit_counts(&counts.get(kind).cloned().unwrap_or_default());
        let over = standing.verified + standing.skipped + standing.rolled_back;
        open += standing.total.saturating_sub(over);
        back += standing.rolled_back;
        if !reader.checkpoint(kind)?.is_some_and(|checkpoint| checkpoint.done) {
            unread = Some(kind);
        }
    }
    Ok(match unread {
        _ if open > 0 => {
            Some(format!("{open} units are neither verified, nor taken out, nor taken back"))
        }
        Some(kind) if back == 0 => Some(format!("not every {kind} of the source was read")),
        Some(_) | None => None,
    })
}

/// Refuses the journal of a migration of another name: what is removed does not come back. Whether
/// it belongs to the same instances and databases would take asking them.
fn refuse_another(config: &Config, reader: &Reader) -> Result<(), Error> {
    let Some(bound) = reader.setup()? else { return Ok(()) };
    let wanted = Setup { name: config.migration.name.clone(), pins: bound.pins.clone() };
    let differences = bound.differences(&wanted);
    if differences.is_empty() {
        return Ok(());
    }
    Err(journal::Error::OtherMigration { differences }.into())
}

/// Removes personal data; pairs of ids, states, events and their times stay.
///
/// # Errors
/// [`Error::Unfinished`] while the data is still needed, unless `force`; the journal's own
/// errors. The journal is as it was then.
pub fn scrub(config: &Config, force: bool, clock: &dyn Clock) -> Result<ScrubDoc, Error> {
    if let Some(what) = unfinished(config)?.filter(|_| !force) {
        return Err(Error::Unfinished { what });
    }
    let path = config.journal_path();
    let done = journal::scrub(&path, clock, &keep)?;
    Ok(ScrubDoc {
        journal: path.display().to_string(),
        entries: done.entries,
        units: done.units,
        bytes_before: done.before,
        bytes_after: done.after,
    })
}

/// What stays of an export: of a user nothing but the key, which is half of the mapping; of a
/// span its table and how many rows it had, but not where it begins and ends, which are keys of
/// rows and may be anything.
fn keep(kind: &Kind, data: &Value) -> Kept {
    if *kind == SPAN {
        let (table, rows) = (&data["table"], &data["rows"]);
        let label = table.as_str().map(|table| format!("{table} ({rows} rows)"));
        let kept = json!({
            "table": table, "keying": data["keying"], "lo": null, "hi": [], "rows": rows,
        });
        return Kept { label, data: kept };
    }
    if *kind == LOT {
        // Numbers of units, and counts.
        return Kept { label: None, data: data.clone() };
    }
    debug_assert!(*kind == USER, "a kind of which it was not decided what stays keeps nothing");
    Kept::default()
}
