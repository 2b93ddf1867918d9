//! What the journal alone can tell, and the two things a person may do to units. No remote is
//! asked, so all of this works without keys, and reading works while a run is on.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rehome_clerk::USER;
use rehome_clerk::alias;
use rehome_core::clock::Clock;
use rehome_core::journal::{self, Change, Detail, FailureRow, Journal, Reader, Standing};
use rehome_core::{Condition, Event, Kind, Stage, Unit, UnitId};
use rehome_records::in_place::{LOT, LotData};
use rehome_records::span::{SPAN, SpanData};

use crate::config::Config;
use crate::document::{
    FailureDoc, HistoryDoc, MapDoc, RequestCounts, Status, TableCounts, UnitCounts, UnitDoc,
};
use crate::error::Error;
use crate::workers::carriers;

/// The note that keeps [`RequestCounts`] of all runs.
pub(crate) const REQUESTS: &str = "requests";

/// How many units are read at once.
const BATCH: usize = 1000;

/// Every name under which the journal may know what a person calls `key`: an id as it is, an
/// address, number, username or wallet in the form in which users are indexed.
pub fn names(key: &str) -> Vec<String> {
    let aliases = [alias::email, alias::phone, alias::username, alias::wallet, alias::external_id];
    std::iter::once(key.to_owned()).chain(aliases.iter().map(|alias| alias(key))).collect()
}

/// Whether a run has begun already: there is a journal that is bound to a migration.
///
/// # Errors
/// When there is a file by the journal's name that cannot be used: nobody is to mistake that for
/// a beginning.
pub fn has_begun(config: &Config) -> Result<bool, Error> {
    match Reader::open(&config.journal_path()) {
        Ok(reader) => Ok(reader.setup()?.is_some()),
        Err(journal::Error::Missing(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

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
        if unit.state.stage >= Stage::Imported {
            table.imported += rows;
        }
        Ok(())
    })?;
    lots(reader, &mut tables)?;
    Ok(tables)
}

/// In place a lot has rows of many tables.
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

/// Failed, held and skipped units, in the order of the journal; only those of one code, when
/// given.
///
/// # Errors
/// When there is no journal, or it cannot be read.
pub fn failures(
    config: &Config,
    code: Option<&str>,
    each: &mut dyn FnMut(FailureDoc),
) -> Result<(), Error> {
    let reader = Reader::open(&config.journal_path())?;
    each_failure(&reader, None, |row| {
        let doc = failure_doc(&row);
        if code.is_none_or(|code| code == doc.code) {
            each(doc);
        }
        Ok(())
    })
}

fn each_failure(
    reader: &Reader,
    condition: Option<Condition>,
    mut each: impl FnMut(FailureRow) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut after = UnitId(0);
    loop {
        let rows = reader.failures(condition, after, BATCH)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.id;
        rows.into_iter().try_for_each(&mut each)?;
    }
}

/// How many units failed, or are held, of those that a run as far as `until` moves. In a pilot, rows that only wait for users outside it do
/// not count: they are not the pilot's.
pub(crate) fn aside(reader: &Reader, pilot: bool, until: Stage) -> Result<u64, Error> {
    let mut aside = 0;
    each_failure(reader, None, |row| {
        if (row.kind == SPAN || row.kind == LOT) && until < Stage::Imported {
            return Ok(());
        }
        let outside = |wait: &journal::WaitRow| {
            wait.code == "user_unmapped" || wait.code == "parent_held" || wait.code == "rows_held"
        };
        aside += match row.state.condition {
            Condition::Held if pilot && row.waits.iter().all(outside) => 0,
            Condition::Failed | Condition::Held | Condition::Stuck => 1,
            Condition::Ready
            | Condition::Intended
            | Condition::InDoubt
            | Condition::Skipped
            | Condition::Undoing
            | Condition::UndoInDoubt
            | Condition::RolledBack => 0,
        };
        Ok(())
    })?;
    Ok(aside)
}

/// How many of the things that a unit waits for are told in words.
const TOLD: usize = 3;

fn failure_doc(row: &FailureRow) -> FailureDoc {
    let waits = || {
        let told: Vec<_> = row.waits.iter().take(TOLD).map(wait_in_words).collect();
        match row.waits.len().saturating_sub(TOLD) {
            0 => told.join("; "),
            more => format!("{}; and for {more} more", told.join("; ")),
        }
    };
    let (code, message, hint) = match (&row.failure, row.waits.first()) {
        (Some(failure), _) => (failure.code.clone(), failure.message.clone(), failure.hint.clone()),
        (None, Some(wait)) => (
            wait.code.clone(),
            waits(),
            Some("it goes on by itself in the next run, once that has come".to_owned()),
        ),
        (None, None) => (row.state.condition.as_str().to_owned(), String::new(), None),
    };
    FailureDoc {
        kind: row.kind.to_string(),
        source_id: row.source_key.clone(),
        email: row.label.clone().filter(|label| label.contains('@')),
        state: row.state.condition.as_str().to_owned(),
        stage: row.state.stage.to_string(),
        code,
        message,
        hint,
        attempts: row.attempts,
    }
}

fn wait_in_words(wait: &journal::WaitRow) -> String {
    let what = match (&wait.key, &wait.scope) {
        (Some(key), _) => format!("{} {key}", wait.kind),
        (None, Some(scope)) => format!("rows of {scope}"),
        (None, None) => format!("a {}", wait.kind),
    };
    if wait.key.is_none() && wait.scope.as_deref() == Some("") {
        let example = wait.example.as_deref().unwrap_or_default();
        return format!(
            "the rows of {} of its users keep their old ids: they have no counterpart yet \
             ({}), for example {example}",
            wait.parts, wait.code
        );
    }
    let parts = match wait.parts {
        1 => "1 row waits".to_owned(),
        parts => format!("{parts} rows wait"),
    };
    match &wait.example {
        Some(example) => format!("{parts} for {what} ({}), for example {example}", wait.code),
        None => format!("{parts} for {what} ({})", wait.code),
    }
}

/// Every unit that goes by a name, with its history.
///
/// # Errors
/// [`Error::UnknownKey`], or when the journal cannot be read.
pub fn show(config: &Config, key: &str) -> Result<Vec<UnitDoc>, Error> {
    let reader = Reader::open(&config.journal_path())?;
    let units = find(&reader, key)?;
    units.into_iter().map(|unit| unit_doc(&reader, unit)).collect()
}

fn find(reader: &Reader, key: &str) -> Result<Vec<Unit>, Error> {
    let units = reader.find(&names(key))?;
    if units.is_empty() { Err(Error::UnknownKey(key.to_owned())) } else { Ok(units) }
}

fn unit_doc(reader: &Reader, unit: Unit) -> Result<UnitDoc, Error> {
    let waits = reader.waits(unit.id)?;
    let history = reader.history(unit.id)?.into_iter().map(|entry| HistoryDoc {
        seq: entry.seq,
        at: Timestamp::from_millisecond(entry.at)
            .map_or_else(|_| String::new(), |at| at.to_string()),
        event: entry.event,
        from: entry.from.map(|stage| stage.to_string()),
        to: entry.to.map(|stage| stage.to_string()),
        attempt: entry.attempt,
        detail: serde_json::to_value(entry.detail).unwrap_or_default(),
    });
    let failure = unit.failure.is_some().then(|| {
        failure_doc(&FailureRow {
            id: unit.id,
            kind: unit.kind.clone(),
            source_key: unit.source_key.clone(),
            label: unit.label.clone(),
            state: unit.state,
            failure: unit.failure.clone(),
            waits: waits.clone(),
            attempts: unit.attempts,
        })
    });
    Ok(UnitDoc {
        kind: unit.kind.to_string(),
        source_id: unit.source_key,
        target_id: unit.target_key,
        origin: unit.origin.map(|origin| origin.as_str().to_owned()),
        label: unit.label,
        stage: unit.state.stage.to_string(),
        condition: unit.state.condition.as_str().to_owned(),
        failure,
        waits: waits.iter().map(wait_in_words).collect(),
        data: unit.data,
        history: history.collect(),
    })
}

/// Every proven pair of ids, in the order of the journal.
///
/// # Errors
/// When there is no journal, or it cannot be read.
pub fn map(config: &Config, each: &mut dyn FnMut(MapDoc)) -> Result<(), Error> {
    let reader = Reader::open(&config.journal_path())?;
    let mut after = UnitId(0);
    loop {
        let pairs = reader.mappings(&USER, after, BATCH)?;
        let Some(last) = pairs.last() else { return Ok(()) };
        after = last.id;
        for pair in pairs {
            each(MapDoc {
                kind: pair.kind.to_string(),
                source_id: pair.source_key,
                target_id: pair.target_key,
                origin: pair.origin.map_or("", rehome_core::Origin::as_str).to_owned(),
                email: pair.label.filter(|label| label.contains('@')),
            });
        }
    }
}

/// Which failed units to put back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// All that failed.
    All,
    /// Those of one code.
    Code(String),
    /// Those that go by these names; skipped ones too.
    Keys(Vec<String>),
}

/// Puts failed units back, so that the next run takes them up. Returns how many.
///
/// # Errors
/// [`Error::UnknownKey`], [`Error::NotNow`] for a named unit that neither failed nor was
/// skipped, or when the journal is locked by a run.
pub async fn retry(config: &Config, which: &Which, clock: Arc<dyn Clock>) -> Result<u64, Error> {
    let writing = config.wiring().journal();
    let journal = Journal::open_existing_with(&config.journal_path(), clock, writing)?;
    let reader = journal.reader()?;
    let mut units = Vec::new();
    match which {
        Which::All | Which::Code(_) => each_failure(&reader, Some(Condition::Failed), |row| {
            let wanted = match which {
                Which::Code(code) => row.failure.as_ref().is_some_and(|f| f.code == *code),
                Which::All | Which::Keys(_) => true,
            };
            if wanted {
                units.push(row.id);
            }
            Ok(())
        })?,
        Which::Keys(keys) => {
            for key in keys {
                for unit in find(&reader, key)? {
                    match unit.state.condition {
                        Condition::Failed | Condition::Skipped | Condition::Stuck => {
                            units.push(unit.id);
                        }
                        Condition::Ready
                        | Condition::Intended
                        | Condition::InDoubt
                        | Condition::Held
                        | Condition::Undoing
                        | Condition::UndoInDoubt
                        | Condition::RolledBack => {
                            return Err(not_now(key, "retried", &unit));
                        }
                    }
                }
            }
        }
    }
    let steps = units.iter().map(|unit| Change::step(*unit, Event::Retried)).collect();
    submit(&journal, steps).await
}

/// Takes units out of the migration, with a reason. Returns how many.
///
/// # Errors
/// [`Error::UnknownKey`], [`Error::NotNow`] for a unit with an effect under way or one that has
/// arrived already, or when the journal is locked by a run.
pub async fn skip(
    config: &Config,
    keys: &[String],
    reason: &str,
    clock: Arc<dyn Clock>,
) -> Result<u64, Error> {
    let writing = config.wiring().journal();
    let journal = Journal::open_existing_with(&config.journal_path(), clock, writing)?;
    let reader = journal.reader()?;
    let mut steps = Vec::new();
    for key in keys {
        for unit in find(&reader, key)? {
            let resting = match unit.state.condition {
                Condition::Ready | Condition::Failed | Condition::Held | Condition::RolledBack => {
                    true
                }
                Condition::Intended
                | Condition::InDoubt
                | Condition::Skipped
                | Condition::Undoing
                | Condition::UndoInDoubt
                | Condition::Stuck => false,
            };
            if !resting || unit.state.stage == Stage::Verified {
                return Err(not_now(key, "skipped", &unit));
            }
            let failure = rehome_core::Failure::new("skipped", reason)
                .with_hint(format!("`rehome retry {key}` takes it in again"));
            let detail = Detail { failure: Some(failure), ..Detail::default() };
            steps.push(Change::Step { unit: unit.id, event: Event::Skipped, detail });
        }
    }
    submit(&journal, steps).await
}

fn not_now(key: &str, wanted: &'static str, unit: &Unit) -> Error {
    Error::NotNow { key: key.to_owned(), wanted, state: unit.state.to_string() }
}

/// Records the steps in parts that a commit can hold, and says how many there were.
async fn submit(journal: &Journal, mut steps: Vec<Change>) -> Result<u64, Error> {
    let count = steps.len() as u64;
    while !steps.is_empty() {
        let rest = steps.split_off(steps.len().min(BATCH));
        journal.submit(std::mem::replace(&mut steps, rest)).await?;
    }
    Ok(count)
}
