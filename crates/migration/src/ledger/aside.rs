//! Units that stand aside: why, and the two things a person may do about them.

use std::sync::Arc;

use rehome_core::clock::Clock;
use rehome_core::journal::{self, Change, Detail, FailureRow, Journal, Reader};
use rehome_core::{Condition, Event, Stage, Unit, UnitId};
use rehome_records::in_place::LOT;
use rehome_records::span::SPAN;

use super::BATCH;
use super::names::find;
use crate::config::Config;
use crate::document::FailureDoc;
use crate::error::Error;

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

/// How many units failed, or are held, of those that a run as far as `until` moves. In a pilot,
/// rows that only wait for users outside it do not count: they are not the pilot's.
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

/// What to do about a wait.
fn advice(code: &str) -> &'static str {
    match code {
        "parent_held" => {
            "it goes on by itself in the next run, once that has come; where the target's application has \
             removed the row that it refers to, put that back, or take the reference out of the source"
        }
        "parent_conflict" => {
            "another row stands in the target where the one should be that it refers to: it goes on by \
             itself in the next run once that is settled"
        }
        _ => "it goes on by itself in the next run, once that has come",
    }
}

pub(super) fn failure_doc(row: &FailureRow) -> FailureDoc {
    let waits = || {
        let told: Vec<_> = row.waits.iter().take(TOLD).map(wait_in_words).collect();
        match row.waits.len().saturating_sub(TOLD) {
            0 => told.join("; "),
            more => format!("{}; and for {more} more", told.join("; ")),
        }
    };
    let (code, message, hint) = match (&row.failure, row.waits.first()) {
        (Some(failure), _) => (failure.code.clone(), failure.message.clone(), failure.hint.clone()),
        (None, Some(wait)) => (wait.code.clone(), waits(), Some(advice(&wait.code).to_owned())),
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

pub(super) fn wait_in_words(wait: &journal::WaitRow) -> String {
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
