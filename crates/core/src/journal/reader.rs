//! Reading a journal: by the batch, by the key, never all at once.
//!
//! A reader has its own connection and sees what has been committed. It works in another process
//! while a run writes, which is how `status` does it.

mod knowledge;
mod listing;
mod log;
mod queues;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

pub use listing::{Counts, FailureRow, HistoryEntry, Mapping, Standing, WaitRow};
pub use log::{LogEntry, LogFilter, LogPage, events};

use super::cache::{parse, state_from_columns};
use super::change::{Detail, ExportedData};
use super::{Error, Owner, Setup, lock, schema, setup};
use crate::state::{Condition, Stage};
use crate::unit::{Effect, Failure, Kind, Origin, Unit, UnitId};

/// Which units a run moves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Selection {
    /// All of them.
    #[default]
    All,
    /// The first so many of one kind, in the order of their export; other kinds are not limited.
    First {
        /// The limited kind.
        kind: Kind,
        /// How many.
        count: u64,
    },
    /// Units of one kind by name: a source key, a target key, or an alias in the form in which
    /// it was exported. Other kinds are not limited.
    Only {
        /// The limited kind.
        kind: Kind,
        /// The names.
        names: Vec<String>,
    },
}

/// How far a source has been read.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Where to go on.
    pub cursor: serde_json::Value,
    /// Whether it was read to its end.
    pub done: bool,
    /// How many units it is thought to hold.
    pub total: Option<u64>,
}

/// A read-only view of a journal.
pub struct Reader {
    conn: Mutex<Connection>,
    selection: Selection,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("selection", &self.selection).finish_non_exhaustive()
    }
}

/// What every query for units selects; [`unit_from_row`] reads it.
const UNIT: &str = "SELECT u.id, u.kind, u.scope, u.source_key, u.target_key, u.origin, u.label,
        u.stage, u.condition, u.attempts, u.failure, e.detail, i.detail, u.exported_seq,
        u.done_seq, d.detail, o.detail, u.void = 1
    FROM unit u JOIN entry e ON e.seq = u.exported_seq
    LEFT JOIN entry i ON i.seq = coalesce(u.undo_seq, u.intent_seq)
    LEFT JOIN entry d ON d.seq = u.done_seq LEFT JOIN entry o ON o.seq = u.done_intent_seq";

impl Reader {
    /// Opens a journal for reading.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotAJournal`], [`Error::TooNew`], or what SQLite said.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let conn = schema::open_reader(path)?;
        Ok(Self { conn: Mutex::new(conn), selection: Selection::All })
    }

    /// The same reader, seeing only the selected units as ready.
    #[must_use]
    pub fn select(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A connection stays usable after a panic elsewhere: statements are finalised on drop.
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one read, naming what it was for.
    fn read<T>(
        &self,
        doing: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        query(&self.lock()).map_err(Error::sqlite(doing))
    }

    /// Writes a copy of the whole journal to `path`, where nothing may be yet: as it is at this
    /// moment, also while a run writes. For rehearsals.
    ///
    /// # Errors
    /// When it cannot be read, or the copy not be written.
    #[allow(clippy::disallowed_methods, reason = "the journal is one of the rooms where SQL runs")]
    pub fn copy_to(&self, path: &Path) -> Result<(), Error> {
        let path = path.to_string_lossy();
        self.read("copy it", |conn| conn.execute("VACUUM INTO ?1", [path]).map(drop))
    }

    /// What the journal is bound to.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn setup(&self) -> Result<Option<Setup>, Error> {
        setup::read(&self.lock())
    }

    /// Who writes to it, or did when it was killed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn owner(&self) -> Result<Option<Owner>, Error> {
        lock::owner(&self.lock())
    }

    /// How far the source of a kind has been read.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn checkpoint(&self, kind: &Kind) -> Result<Option<Checkpoint>, Error> {
        let row: Option<(String, bool, Option<u64>)> = self.read("read a checkpoint", |conn| {
            conn.prepare_cached("SELECT cursor, done, total FROM checkpoint WHERE kind = ?1")?
                .query_row([kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()
        })?;
        row.map(|(cursor, done, total)| {
            let cursor = serde_json::from_str(&cursor)
                .map_err(|error| Error::Damaged(format!("the checkpoint of {kind}: {error}")))?;
            Ok(Checkpoint { cursor, done, total })
        })
        .transpose()
    }

    /// The units of these numbers, in their order; unknown ones are left out.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn load(&self, ids: &[UnitId]) -> Result<Vec<Unit>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        units(&self.lock(), &those(), params![serde_json::json!(ids).to_string()])
    }

    /// Units of a kind that stand at a stage or beyond, whatever their condition, with numbers
    /// above `after`: at most `limit`, and fewer when the journal has much to say of each, so that
    /// a page takes little memory. Only an empty page is the last.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn standing_at_least(
        &self,
        kind: &Kind,
        stage: Stage,
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<Unit>, Error> {
        let sql = format!(
            "{UNIT} WHERE +u.kind = ?1 AND u.stage >= ?2 AND u.id > ?3 ORDER BY u.id LIMIT ?4"
        );
        page(&self.lock(), &sql, params![kind.as_str(), stage.rank(), after.0, limit as i64])
    }

    /// One unit by its number.
    ///
    /// # Errors
    /// [`Error::UnknownUnit`], or when it cannot be read.
    pub fn unit(&self, id: UnitId) -> Result<Unit, Error> {
        let sql = format!("{UNIT} WHERE u.id = ?1");
        units(&self.lock(), &sql, params![id.0])?.pop().ok_or(Error::UnknownUnit(id.0))
    }

    /// Every unit that goes by one of these names: a source key, a target key, or an alias.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn find(&self, names: &[String]) -> Result<Vec<Unit>, Error> {
        let sql = format!(
            "{UNIT} WHERE u.id IN (
                SELECT id FROM unit WHERE source_key IN (SELECT value FROM json_each(?1))
                UNION SELECT id FROM unit WHERE target_key IN (SELECT value FROM json_each(?1))
                UNION SELECT unit FROM alias WHERE alias IN (SELECT value FROM json_each(?1))
             ) ORDER BY u.id"
        );
        units(&self.lock(), &sql, params![serde_json::json!(names).to_string()])
    }

    /// Of each of these units: what its export wrote, and what its latest effect left behind.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn remembered(
        &self,
        ids: &[UnitId],
    ) -> Result<Vec<(UnitId, serde_json::Value, Option<serde_json::Value>)>, Error> {
        let rows: Vec<(i64, i64, String, Option<String>)> =
            self.read("read what units left behind", |conn| {
                conn.prepare_cached(
                    "SELECT u.id, e.seq, e.detail, d.detail FROM json_each(?1) n
                     CROSS JOIN unit u ON u.id = n.value JOIN entry e ON e.seq = u.exported_seq
                     LEFT JOIN entry d ON d.seq = u.done_seq",
                )?
                .query_map([serde_json::json!(ids).to_string()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?
                .collect()
            })?;
        rows.into_iter()
            .map(|(id, seq, exported, done)| {
                let exported: ExportedData = parse(seq, Some(&exported))?;
                let done = match done {
                    Some(text) => parse::<Detail>(seq, Some(&text))?.data,
                    None => None,
                };
                Ok((UnitId(id), exported.data, done))
            })
            .collect()
    }

    /// The part of a query that keeps unselected units out, and what its `?2` is bound to; `?1` is the kind.
    fn filter(
        &self,
        conn: &Connection,
        kind: &Kind,
    ) -> Result<(&'static str, rusqlite::types::Value), Error> {
        use rusqlite::types::Value;
        Ok(match &self.selection {
            Selection::First { kind: limited, count } if limited == kind => {
                ("AND u.id <= ?2", Value::Integer(last_of_first(conn, kind, *count)?))
            }
            Selection::Only { kind: limited, names } if limited == kind => (
                "AND (u.source_key IN (SELECT value FROM json_each(?2))
                      OR u.target_key IN (SELECT value FROM json_each(?2))
                      OR u.id IN (SELECT a.unit FROM json_each(?2) n CROSS JOIN alias a
                                  ON a.kind = ?1 AND a.alias = n.value))",
                Value::Text(serde_json::json!(names).to_string()),
            ),
            Selection::All | Selection::First { .. } | Selection::Only { .. } => {
                ("AND ?2 IS NULL", Value::Null)
            }
        })
    }
}

/// The number of the `count`th unit of a kind; unlimited while fewer are known.
fn last_of_first(conn: &Connection, kind: &Kind, count: u64) -> Result<i64, Error> {
    let Some(offset) = count.checked_sub(1) else {
        return Ok(0);
    };
    conn.prepare_cached("SELECT id FROM unit WHERE kind = ?1 ORDER BY id LIMIT 1 OFFSET ?2")
        .and_then(|mut statement| {
            statement.query_row(params![kind.as_str(), offset], |row| row.get(0)).optional()
        })
        .map(|found| found.unwrap_or(i64::MAX))
        .map_err(Error::sqlite("find the last selected unit"))
}

/// A unit's row before its JSON and its words are understood.
struct RawUnit {
    id: i64,
    kind: String,
    scope: String,
    source_key: String,
    target_key: Option<String>,
    origin: Option<String>,
    label: Option<String>,
    stage: i64,
    condition: String,
    attempts: u32,
    failure: Option<String>,
    exported: Option<String>,
    intent: Option<String>,
    exported_seq: i64,
    done_seq: Option<i64>,
    done: Option<String>,
    done_intent: Option<String>,
    intent_void: bool,
}

impl RawUnit {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            kind: row.get(1)?,
            scope: row.get(2)?,
            source_key: row.get(3)?,
            target_key: row.get(4)?,
            origin: row.get(5)?,
            label: row.get(6)?,
            stage: row.get(7)?,
            condition: row.get(8)?,
            attempts: row.get(9)?,
            failure: row.get(10)?,
            exported: row.get(11)?,
            intent: row.get(12)?,
            exported_seq: row.get(13)?,
            done_seq: row.get(14)?,
            done: row.get(15)?,
            done_intent: row.get(16)?,
            intent_void: row.get(17)?,
        })
    }

    /// Characters of everything whose length depends on what a worker had to say.
    fn size(&self) -> usize {
        let said = [&self.exported, &self.intent, &self.done, &self.done_intent];
        said.into_iter().flatten().map(String::len).sum()
    }

    fn understand(self) -> Result<Unit, Error> {
        let exported: ExportedData = parse(self.exported_seq, self.exported.as_deref())?;
        let data = |text: &Option<String>| match text {
            Some(text) => Ok(parse::<Detail>(self.exported_seq, Some(text))?.data),
            None => Ok(None),
        };
        let intent = data(&self.intent)?;
        // By its entry: an effect of which there was nothing to say is an effect all the same.
        let effect = match self.done_seq {
            Some(_) => Some(Effect { intent: data(&self.done_intent)?, data: data(&self.done)? }),
            None => None,
        };
        Ok(Unit {
            id: UnitId(self.id),
            kind: Kind::from_name(self.kind),
            scope: self.scope,
            source_key: self.source_key,
            target_key: self.target_key,
            origin: self.origin.as_deref().and_then(Origin::from_word),
            label: self.label,
            state: state_from_columns(self.stage, &self.condition)?,
            attempts: self.attempts,
            failure: failure(self.failure.as_deref())?,
            data: exported.data,
            intent,
            intent_void: self.intent_void,
            effect,
        })
    }
}

/// The failure column.
fn failure(text: Option<&str>) -> Result<Option<Failure>, Error> {
    text.map(serde_json::from_str)
        .transpose()
        .map_err(|error| Error::Damaged(format!("a failure that cannot be read: {error}")))
}

/// The query for units of given numbers, which are its only parameter, as JSON.
fn those() -> String {
    format!("{UNIT} WHERE u.id IN (SELECT value FROM json_each(?1)) ORDER BY u.id")
}

/// All units that a query finds.
fn units(
    conn: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Unit>, Error> {
    units_until(conn, sql, parameters, usize::MAX)
}

/// The first of them, until enough has been read of what the journal keeps of each. A span names
/// thousands of keys: a page of a thousand spans would take more memory than all the rest.
fn page(
    conn: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Unit>, Error> {
    /// Characters of JSON, which take about ten times as much once they are understood.
    const ENOUGH: usize = 256 * 1024;
    units_until(conn, sql, parameters, ENOUGH)
}

fn units_until(
    conn: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    enough: usize,
) -> Result<Vec<Unit>, Error> {
    let trouble = || Error::sqlite("read units");
    let mut statement = conn.prepare_cached(sql).map_err(trouble())?;
    let mut rows = statement.query(parameters).map_err(trouble())?;
    let (mut found, mut size) = (Vec::new(), 0);
    while size < enough
        && let Some(row) = rows.next().map_err(trouble())?
    {
        let raw = RawUnit::from_row(row).map_err(trouble())?;
        size += raw.size();
        found.push(raw.understand()?);
    }
    Ok(found)
}

/// Whether a condition means that the unit does not move by itself.
const fn rests(condition: Condition) -> bool {
    match condition {
        Condition::Failed
        | Condition::Held
        | Condition::Skipped
        | Condition::Stuck
        | Condition::RolledBack => true,
        Condition::Ready
        | Condition::Intended
        | Condition::InDoubt
        | Condition::Undoing
        | Condition::UndoInDoubt => false,
    }
}
