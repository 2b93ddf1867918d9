//! `journal log`: the history as it was written, narrowed to what somebody asks about.

use jiff::Timestamp;
use rehome_clerk::USER;
use rehome_core::Kind;
use rehome_core::journal::{self, LogEntry, LogFilter, Reader};
use rehome_records::in_place::LOT;
use rehome_records::span::SPAN;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rebuild;
use crate::config::Config;
use crate::error::Error;
use crate::{bookmark, downtime, ledger, rollback};

/// The kinds of units that a journal of this program can hold.
pub static KINDS: [Kind; 3] = [USER, SPAN, LOT];

/// Every word that an entry of such a journal can have as its event.
pub fn events() -> Vec<&'static str> {
    let notes = [
        bookmark::NOTE,
        downtime::NOTE,
        rollback::NOTE,
        rollback::FORCED,
        rebuild::NOTE,
        ledger::REQUESTS,
    ];
    let mut words = journal::events();
    words.extend(notes);
    words
}

/// How many entries are looked at at once. An entry of a span may hold hundreds of rows.
const PAGE: usize = 200;

/// Which entries are wanted. Everything that is set has to hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogQuery {
    /// Only the story of the units that go by this name (source id, target id or address).
    pub key: Option<String>,
    /// Only units of this kind, one of [`KINDS`].
    pub kind: Option<String>,
    /// Only this event, one of [`events`].
    pub event: Option<String>,
    /// Only what happened then or later.
    pub since: Option<Timestamp>,
    /// Only what happened before.
    pub until: Option<Timestamp>,
    /// Only failures and holds with this code.
    pub code: Option<String>,
    /// At most so many entries.
    pub limit: Option<u64>,
    /// The latest first.
    pub reverse: bool,
}

/// One line of `journal log --json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogDoc {
    /// Its place in the log.
    pub seq: i64,
    /// When, RFC 3339.
    pub at: String,
    /// What happened.
    pub event: String,
    /// The unit's kind; null for what is about the migration as a whole.
    pub kind: Option<String>,
    /// The unit's id in the source.
    pub source_id: Option<String>,
    /// From which stage.
    pub from: Option<String>,
    /// To which stage.
    pub to: Option<String>,
    /// Which attempt it belongs to.
    pub attempt: u32,
    /// With what, as the journal has it. For an export null: `show` has the unit itself.
    pub detail: serde_json::Value,
}

/// Reads the log, entry by entry, until `each` says stop by returning `false`. Memory does not
/// grow with the log.
///
/// # Errors
/// [`Error::UnknownKey`] when no unit goes by the name that was asked for; when there is no
/// journal, or it cannot be read.
pub fn log(
    config: &Config,
    query: &LogQuery,
    each: &mut dyn FnMut(LogDoc) -> bool,
) -> Result<(), Error> {
    let reader = Reader::open(&config.journal_path())?;
    let units = match &query.key {
        Some(key) => {
            let units = reader.find(&ledger::names(key))?;
            if units.is_empty() {
                return Err(Error::UnknownKey(key.clone()));
            }
            Some(units.into_iter().map(|unit| unit.id).collect())
        }
        None => None,
    };
    let filter = LogFilter {
        units,
        kind: query.kind.clone().map(Kind::from_name),
        event: query.event.clone(),
        since: query.since.map(Timestamp::as_millisecond),
        until: query.until.map(Timestamp::as_millisecond),
        code: query.code.clone(),
        newest_first: query.reverse,
    };
    let mut left = query.limit.unwrap_or(u64::MAX);
    let mut from = None;
    while left > 0 {
        let page = reader.log(&filter, from, PAGE)?;
        for entry in page.entries {
            if left == 0 || !each(doc(entry)) {
                return Ok(());
            }
            left -= 1;
        }
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

fn doc(entry: LogEntry) -> LogDoc {
    let (kind, source_id) = entry.unit.unzip();
    LogDoc {
        seq: entry.seq,
        at: Timestamp::from_millisecond(entry.at)
            .map_or_else(|_| String::new(), |at| at.to_string()),
        event: entry.event,
        kind: kind.map(|kind| kind.to_string()),
        source_id,
        from: entry.from.map(|stage| stage.to_string()),
        to: entry.to.map(|stage| stage.to_string()),
        attempt: entry.attempt,
        detail: entry.detail,
    }
}
