//! The log itself, a page at a time, narrowed to what somebody asks about.
//!
//! A page is bounded by the entries that are looked at, not by those that fit, so reading the
//! whole history of a large migration takes no more memory than reading its end, and never holds
//! a snapshot for longer than one page: a run that writes meanwhile is not held up.

use rusqlite::{Row, params};

use super::Reader;
use crate::journal::Error;
use crate::journal::change::PAGE;
use crate::journal::scrub::NOTE as SCRUB_NOTE;
use crate::state::{Event, Stage};
use crate::unit::{Kind, UnitId};

/// Which entries are wanted. Everything that is set has to hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogFilter {
    /// Only entries about these units.
    pub units: Option<Vec<UnitId>>,
    /// Only entries about units of this kind.
    pub kind: Option<Kind>,
    /// Only this event, by the word that the journal uses: [`crate::Event::as_str`], or the word
    /// of a note.
    pub event: Option<String>,
    /// Only entries made at this moment or later, in Unix milliseconds.
    pub since: Option<i64>,
    /// Only entries made before this moment, in Unix milliseconds.
    pub until: Option<i64>,
    /// Only entries of a failure or a wait with this code.
    pub code: Option<String>,
    /// From the latest entry to the first, instead of the order in which they happened.
    pub newest_first: bool,
}

/// One entry of the log, with the names of the unit that it is about.
#[derive(Clone, PartialEq, Debug)]
pub struct LogEntry {
    /// Its place in the log.
    pub seq: i64,
    /// When, in Unix milliseconds.
    pub at: i64,
    /// The unit's kind and source key; `None` for what is about the migration as a whole.
    pub unit: Option<(Kind, String)>,
    /// What happened.
    pub event: String,
    /// From which stage.
    pub from: Option<Stage>,
    /// To which stage.
    pub to: Option<Stage>,
    /// Which attempt it belongs to.
    pub attempt: u32,
    /// With what, as the journal has it, or `Null`. An export's own data is left out: it is the
    /// unit itself, and [`Reader::unit`] gives it.
    pub detail: serde_json::Value,
}

/// A page of the log.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LogPage {
    /// What was wanted of it.
    pub entries: Vec<LogEntry>,
    /// Where the next page goes on; `None` at the end of the log.
    pub next: Option<i64>,
}

/// The words that this crate writes as events: those of the state machine, and those of what is
/// about no unit. Callers' notes have words of their own.
pub fn events() -> Vec<&'static str> {
    let mut words: Vec<_> = Event::all().into_iter().map(Event::as_str).collect();
    words.dedup();
    words.extend([PAGE, SCRUB_NOTE]);
    words
}

impl Reader {
    /// A page of the log: those of the next `looked_at` entries that the filter wants. `from` is
    /// `None` for the first page, then [`LogPage::next`].
    ///
    /// # Errors
    /// When it cannot be read, or an entry of it cannot be understood.
    pub fn log(
        &self,
        filter: &LogFilter,
        from: Option<i64>,
        looked_at: usize,
    ) -> Result<LogPage, Error> {
        let units = filter.units.as_ref().map(|units| serde_json::json!(units).to_string());
        let rows: Vec<Raw> = self.read("read its log", |conn| {
            conn.prepare_cached(&sql(filter))?
                .query_map(
                    params![
                        from,
                        looked_at as i64,
                        units,
                        filter.event,
                        filter.since,
                        filter.until,
                        filter.kind.as_ref().map(Kind::as_str),
                        filter.code,
                    ],
                    Raw::from_row,
                )?
                .collect()
        })?;
        let mut page = LogPage::default();
        if rows.len() == looked_at {
            page.next = rows.last().map(|row| row.seq);
        }
        for row in rows {
            if !row.wanted {
                continue;
            }
            let entry = row.understand()?;
            if filter.code.as_ref().is_none_or(|code| has_code(&entry.detail, code)) {
                page.entries.push(entry);
            }
        }
        Ok(page)
    }
}

/// The query behind a page. Entries of named units come from the index on units, and each of them
/// counts; without names every entry of the log is looked at in its order. The code is only looked
/// for as text here, to leave the rest alone; whether it is one is seen when the entry is read.
fn sql(filter: &LogFilter) -> String {
    let (beyond, order) = if filter.newest_first {
        ("< coalesce(?1, 9223372036854775807)", "DESC")
    } else {
        ("> coalesce(?1, 0)", "ASC")
    };
    let units = if filter.units.is_some() {
        "e.unit IN (SELECT value FROM json_each(?3))"
    } else {
        "?3 IS NULL"
    };
    format!(
        "SELECT e.seq, e.at, e.event, e.from_stage, e.to_stage, e.attempt,
                CASE WHEN e.event = 'exported' THEN NULL ELSE e.detail END,
                u.kind, u.source_key, e.unit,
                (?4 IS NULL OR e.event = ?4) AND (?5 IS NULL OR e.at >= ?5)
                    AND (?6 IS NULL OR e.at < ?6) AND (?7 IS NULL OR u.kind = ?7)
                    AND (?8 IS NULL OR (e.event <> 'exported' AND instr(e.detail, ?8) > 0))
         FROM entry e LEFT JOIN unit u ON u.id = e.unit
         WHERE e.seq {beyond} AND {units}
         ORDER BY e.seq {order} LIMIT ?2"
    )
}

/// Whether a failure or a wait in a detail has this code.
fn has_code(detail: &serde_json::Value, code: &str) -> bool {
    let failure = std::iter::once(&detail["failure"]);
    let waits = detail["waits"].as_array().into_iter().flatten();
    failure.chain(waits).any(|one| one["code"] == code)
}

/// An entry before its JSON and its words are understood.
struct Raw {
    seq: i64,
    at: i64,
    event: String,
    from: Option<i64>,
    to: Option<i64>,
    attempt: u32,
    detail: Option<String>,
    kind: Option<String>,
    key: Option<String>,
    unit: Option<i64>,
    wanted: bool,
}

impl Raw {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            at: row.get(1)?,
            event: row.get(2)?,
            from: row.get(3)?,
            to: row.get(4)?,
            attempt: row.get(5)?,
            detail: row.get(6)?,
            kind: row.get(7)?,
            key: row.get(8)?,
            unit: row.get(9)?,
            wanted: row.get::<_, Option<bool>>(10)?.unwrap_or(false),
        })
    }

    fn understand(self) -> Result<LogEntry, Error> {
        let seq = self.seq;
        let damaged = |what: &str| Error::Damaged(format!("entry {seq}: {what}"));
        let detail = match self.detail.as_deref().map(serde_json::from_str) {
            None => serde_json::Value::Null,
            Some(Ok(detail)) => detail,
            Some(Err(error)) => return Err(damaged(&format!("it cannot be read: {error}"))),
        };
        let stage = |rank: Option<i64>| match rank {
            None => Ok(None),
            Some(rank) => Stage::from_rank(rank).map(Some).ok_or_else(|| damaged("no such stage")),
        };
        let unit = match (self.unit, self.kind, self.key) {
            (None, _, _) => None,
            (Some(_), Some(kind), Some(key)) => Some((Kind::from_name(kind), key)),
            (Some(unit), _, _) => {
                return Err(damaged(&format!("it is about unit {unit}, which is not there")));
            }
        };
        Ok(LogEntry {
            seq,
            at: self.at,
            unit,
            from: stage(self.from)?,
            to: stage(self.to)?,
            event: self.event,
            attempt: self.attempt,
            detail,
        })
    }
}
