//! How many units and rows stand where, by the journal.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rehome_clerk::USER;
use rehome_core::journal::{self, Reader, Standing};
use rehome_core::{Condition, Kind, Stage, Unit, UnitId};
use rehome_records::import::arrived;
use rehome_records::in_place::{LOT, LotData};
use rehome_records::span::{SPAN, SpanData};

use super::BATCH;
use crate::config::Config;
use crate::document::{RequestCounts, Status, TableCounts, UnitCounts};
use crate::error::Error;
use crate::workers::carriers;

/// The note that keeps [`RequestCounts`] of all runs.
pub(crate) const REQUESTS: &str = "requests";

/// Where everything stands.
///
/// # Errors
/// When there is no journal, or it cannot be read.
pub fn status(config: &Config, now: Timestamp) -> Result<Status, Error> {
    let path = config.journal_path();
    let reader = Reader::open(&path)?;
    let running = match (journal::is_running(&path), reader.owner()?) {
        (true, Some(owner)) => Some(format!("process {} on {}", owner.pid, owner.host)),
        (true, None) => Some("another process".to_owned()),
        (false, _) => None,
    };
    status_of(config, &reader, running, now)
}

/// The same for a reader that is open already.
pub(crate) fn status_of(
    config: &Config,
    reader: &Reader,
    running: Option<String>,
    now: Timestamp,
) -> Result<Status, Error> {
    let counts = reader.counts()?;
    let mut kinds = vec![USER];
    if config.records.is_some() {
        kinds.push(carriers(config));
    }
    let mut units = BTreeMap::new();
    let mut mapping = BTreeMap::new();
    let mut expected = BTreeMap::new();
    let mut complete = true;
    for kind in &kinds {
        let standing = counts.get(kind).cloned().unwrap_or_default();
        let checkpoint = reader.checkpoint(kind)?;
        complete &= checkpoint.as_ref().is_some_and(|found| found.done);
        if let Some(total) = checkpoint.filter(|found| !found.done).and_then(|found| found.total) {
            expected.insert(kind.to_string(), total);
        }
        let counted = unit_counts(&standing);
        complete &= counted.verified + counted.skipped == counted.total;
        units.insert(kind.to_string(), counted);
        mapping.insert(kind.to_string(), standing.mapped);
    }
    mapping.remove(SPAN.as_str());
    mapping.remove(LOT.as_str());
    let advanced_last_minute = reader.advanced_since(now.as_millisecond() - 60_000)?;
    let codes = reader
        .codes()?
        .into_iter()
        .map(|(kind, _, code, units)| (format!("{kind}/{code}"), units))
        .collect();
    let eta_seconds = eta(&units, expected.get(USER.as_str()), advanced_last_minute);
    Ok(Status {
        migration: config.migration.name.clone(),
        journal: config.journal_path().display().to_string(),
        complete,
        running,
        units,
        mapping,
        tables: tables(reader)?,
        expected,
        requests: requests(reader)?,
        advanced_last_minute,
        eta_seconds,
        codes,
    })
}

/// Seconds until the users are through, at the pace of the last minute. Each user advances four
/// times; what is left is counted in those steps.
fn eta(
    units: &BTreeMap<String, UnitCounts>,
    expected: Option<&u64>,
    advanced_last_minute: u64,
) -> Option<u64> {
    let users = units.get(USER.as_str())?;
    let unread = expected.map_or(0, |total| total.saturating_sub(users.total));
    let steps =
        (users.exported + unread) * 4 + users.created * 3 + users.mapped * 2 + users.imported;
    (steps > 0 && advanced_last_minute > 0).then(|| steps * 60 / advanced_last_minute)
}

pub(crate) fn unit_counts(standing: &Standing) -> UnitCounts {
    let at = |stage| standing.moving.get(&stage).copied().unwrap_or(0);
    let sum = |group: &BTreeMap<Stage, u64>| group.values().sum();
    UnitCounts {
        exported: at(Stage::Exported),
        created: at(Stage::Created),
        mapped: at(Stage::Mapped),
        imported: at(Stage::Imported),
        verified: at(Stage::Verified),
        failed: sum(&standing.failed),
        held: sum(&standing.held),
        skipped: sum(&standing.skipped),
        stuck: sum(&standing.stuck),
        rolled_back: standing.rolled_back,
        total: standing.total(),
        in_doubt: standing.in_doubt,
    }
}

fn tables(reader: &Reader) -> Result<BTreeMap<String, TableCounts>, Error> {
    let mut tables: BTreeMap<String, TableCounts> = BTreeMap::new();
    each_unit(reader, &SPAN, |unit| {
        let table = tables.entry(unit.scope.clone()).or_default();
        let rows = SpanData::of(&unit)?.rows;
        table.rows += rows;
        match unit.state.condition {
            Condition::Held | Condition::Failed | Condition::Stuck => table.waiting_spans += 1,
            Condition::Ready
            | Condition::Intended
            | Condition::InDoubt
            | Condition::Skipped
            | Condition::Undoing
            | Condition::UndoInDoubt
            | Condition::RolledBack => {}
        }
        table.imported += match arrived(&unit)? {
            Some(arrived) => arrived,
            // A scrub keeps how far a span has come, and not what was written of it.
            None if unit.state.stage >= Stage::Imported => rows,
            None => 0,
        };
        Ok(())
    })?;
    lots(reader, &mut tables)?;
    Ok(tables)
}

/// In place a lot has rows of many tables; which of them are whose, the journal does not know, so
/// they count when the lot is complete.
fn lots(reader: &Reader, tables: &mut BTreeMap<String, TableCounts>) -> Result<(), Error> {
    each_unit(reader, &LOT, |unit| {
        let waiting = match unit.state.condition {
            Condition::Held | Condition::Failed | Condition::Stuck => 1,
            Condition::Ready
            | Condition::Intended
            | Condition::InDoubt
            | Condition::Skipped
            | Condition::Undoing
            | Condition::UndoInDoubt
            | Condition::RolledBack => 0,
        };
        for (name, rows) in LotData::of(&unit)?.rows {
            let table = tables.entry(name).or_default();
            table.rows += rows;
            table.waiting_spans += waiting;
            if unit.state.stage >= Stage::Imported {
                table.imported += rows;
            }
        }
        Ok(())
    })
}

/// What earlier runs have sent.
pub(crate) fn requests(reader: &Reader) -> Result<RequestCounts, Error> {
    let note = reader.note(REQUESTS)?;
    Ok(note.and_then(|(_, counts)| serde_json::from_value(counts).ok()).unwrap_or_default())
}

fn each_unit(
    reader: &Reader,
    kind: &Kind,
    mut each: impl FnMut(Unit) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut after = UnitId(0);
    loop {
        let units = reader.standing_at_least(kind, Stage::Exported, after, BATCH)?;
        let Some(last) = units.last() else { return Ok(()) };
        after = last.id;
        units.into_iter().try_for_each(&mut each)?;
    }
}
