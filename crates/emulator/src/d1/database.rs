//! One emulated database: runs the statements of a request in one transaction and reports on each.
//!
//! All or nothing: the first error rolls everything back, deferred foreign keys are checked at the
//! commit, and switches that a statement set are put back afterwards. What a request changed is
//! added to the counters, and moves the bookmark, only when it has committed.
#![allow(
    clippy::disallowed_methods,
    reason = "the emulated D1: a room where SQL is run, in real time"
)]

use std::collections::HashMap;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, StatementStatus};

use super::authorizer::{Gate, RESET_SWITCHES};
use super::bookmark::Position;
use super::complete;
use super::counters::{Effects, Pending};
use super::dump::{self, DumpOptions};
use super::errors::SqlError;
use super::history::{self, History};
use super::results::{self, Meta, Shape};
use super::statements;
use super::storage::{self, Changes};

/// One entry of a request: a text of one or more statements and the parameters of its last one.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) sql: String,
    pub(crate) params: Vec<Value>,
    /// Whether it is one statement already, and need not be cut.
    pub(crate) whole: bool,
}

/// An import that happened.
#[derive(Debug)]
pub(crate) struct Imported {
    /// How many statements it had.
    pub(crate) queries: usize,
    /// The figures of all of them together, as the API shows them.
    pub(crate) meta: serde_json::Value,
}

/// A database and everything that is counted about it.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
    pub(crate) path: PathBuf,
    connection: Mutex<Connection>,
    gate: Arc<Gate>,
    changes: Changes,
    effects: Mutex<Effects>,
    seen_data_version: Mutex<i64>,
    history: Mutex<History>,
    /// What a written row costs, in nanoseconds of a time that only the answers know.
    cost: AtomicU64,
}

/// After how long D1 ends a request (developers.cloudflare.com/d1/platform/limits).
const LONGEST_MILLISECONDS: f64 = 30_000.0;

/// A restore that happened.
#[derive(Debug)]
pub(crate) struct Restored {
    /// The bookmark of the moment before it, by which it can be undone.
    pub(crate) previous: String,
}

impl Database {
    /// Opens or creates the file at `path`.
    ///
    /// # Errors
    /// When SQLite cannot open or prepare it.
    pub(crate) fn open(uuid: String, name: String, path: PathBuf) -> rusqlite::Result<Self> {
        let gate = Arc::new(Gate::default());
        let changes = Changes::default();
        let connection = storage::open_guarded(&path, &gate, &changes)?;
        let database = Self {
            uuid,
            name,
            created_at: Timestamp::now(),
            path,
            connection: Mutex::new(connection),
            gate,
            changes,
            effects: Mutex::default(),
            seen_data_version: Mutex::default(),
            history: Mutex::default(),
            cost: AtomicU64::new(0),
        };
        let seen = database.gate.open(|| data_version(&lock(&database.connection)))?;
        *lock(&database.seen_data_version) = seen;
        Ok(database)
    }

    /// Runs a request.
    ///
    /// Returns the JSON array of its results, one per statement.
    ///
    /// # Errors
    /// The first statement's failure, or the commit's; nothing of the request is kept then.
    pub(crate) fn run(&self, entries: Vec<Entry>, shape: Shape) -> Result<String, SqlError> {
        let connection = lock(&self.connection);
        self.own(|| connection.execute_batch("BEGIN IMMEDIATE"))?;
        self.gate.take_transaction_refused();
        lock(&self.changes).clear();
        let outcome =
            self.statements(&connection, entries, shape).and_then(|(results, pending)| {
                self.own(|| connection.execute_batch("COMMIT"))?;
                Ok((results, pending))
            });
        if outcome.is_err() && !connection.is_autocommit() {
            self.own(|| connection.execute_batch("ROLLBACK"))?;
        }
        if self.gate.take_switched() {
            self.own(|| connection.execute_batch(RESET_SWITCHES))?;
        }
        match outcome {
            Ok((results, pending)) => {
                lock(&self.effects).commit(pending);
                Ok(results)
            }
            Err(error) => {
                lock(&self.effects).fail();
                Err(error)
            }
        }
    }

    fn statements(
        &self,
        connection: &Connection,
        entries: Vec<Entry>,
        shape: Shape,
    ) -> Result<(String, Pending), SqlError> {
        let before = (connection.total_changes(), self.own(|| schema_version(connection))?);
        let mut out = String::from("[");
        let mut spent = 0.0;
        for entry in entries {
            let parts =
                if entry.whole { vec![entry.sql.as_str()] } else { statements::split(&entry.sql) };
            let Some((last, first)) = parts.split_last() else {
                return Err(SqlError::generic("No SQL statements detected."));
            };
            for sql in first {
                spent += self.statement(connection, sql, None, shape, &mut out)?;
            }
            spent += self.statement(connection, last, Some(entry.params), shape, &mut out)?;
        }
        out.push(']');
        if spent > LONGEST_MILLISECONDS {
            return Err(SqlError::too_slow());
        }
        let total = connection.total_changes().saturating_sub(before.0);
        let after = (connection.total_changes(), self.own(|| schema_version(connection))?);
        let changes = mem::take(&mut *lock(&self.changes));
        let pending = self.gate.open(|| Pending::resolve(connection, changes, total));
        if after != before {
            self.own(|| advance(connection))?;
        }
        Ok((out, pending))
    }

    /// Runs one statement and appends its result; `params` is `None` for all but the last of a text.
    /// Returns how many milliseconds it is said to have taken.
    fn statement(
        &self,
        connection: &Connection,
        sql: &str,
        params: Option<Vec<Value>>,
        shape: Shape,
        out: &mut String,
    ) -> Result<f64, SqlError> {
        let started = Instant::now();
        let size_before = self.own(|| size(connection))?;
        let changes_before = connection.total_changes();
        let rowid_before = connection.last_insert_rowid();
        let seen = lock(&self.changes).len();

        let mut statement = connection.prepare(sql).map_err(|error| {
            if self.gate.take_transaction_refused() {
                SqlError::transaction()
            } else {
                SqlError::from(error)
            }
        })?;
        let wanted = statement.parameter_count();
        match params {
            None if wanted > 0 => {
                return Err(SqlError::generic(
                    "When executing multiple SQL statements in a single call, only the last \
                     statement can have parameters.",
                ));
            }
            None => {}
            Some(params) => {
                if params.len() != wanted {
                    return Err(SqlError::generic(
                        "Wrong number of parameter bindings for SQL query.",
                    ));
                }
                for (at, value) in params.into_iter().enumerate() {
                    statement.raw_bind_parameter(at + 1, value)?;
                }
            }
        }
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str("{\"results\":");
        let delivered = results::rows(&mut statement, shape, out)?;
        let scanned =
            u64::try_from(statement.get_status(StatementStatus::FullscanStep)).unwrap_or(0);
        drop(statement);

        let written = self.rows_written(connection, seen, changes_before)?;
        let changes = connection.total_changes().saturating_sub(changes_before);
        let rowid = connection.last_insert_rowid();
        let size_after = self.own(|| size(connection))?;
        let cost = Duration::from_nanos(self.cost.load(Ordering::Relaxed).saturating_mul(written));
        let milliseconds = (started.elapsed() + cost).as_secs_f64() * 1000.0;
        let meta = Meta {
            milliseconds,
            changes,
            last_row_id: rowid,
            changed: changes > 0 || rowid != rowid_before || size_after != size_before,
            size_after,
            rows_read: delivered.max(scanned),
            rows_written: written,
        };
        meta.write(out);
        Ok(milliseconds)
    }

    /// Rows and index entries written by the last statement: each row counts once for its table and
    /// once for each of the table's indexes, as D1 bills it.
    fn rows_written(
        &self,
        connection: &Connection,
        seen: usize,
        changes_before: u64,
    ) -> Result<u64, SqlError> {
        let mut per_table: HashMap<String, u64> = HashMap::new();
        let mut named: u64 = 0;
        for change in lock(&self.changes).iter().skip(seen) {
            named += 1;
            match per_table.get_mut(&change.table) {
                Some(count) => *count += 1,
                None => drop(per_table.insert(change.table.clone(), 1)),
            }
        }
        let total = connection.total_changes().saturating_sub(changes_before);
        let mut written = total.saturating_sub(named);
        for (table, count) in per_table {
            let indexes: u32 = self.own(|| {
                connection.query_row(
                    "SELECT count(*) FROM pragma_index_list(?1)",
                    [&table],
                    |row| row.get(0),
                )
            })?;
            written += count * (1 + u64::from(indexes));
        }
        Ok(written)
    }

    /// The current bookmark, to which the database can be restored from then on. A write by a
    /// connection outside the emulator moves it too.
    ///
    /// # Errors
    /// When the position cannot be read, or the moment be kept.
    pub(crate) fn bookmark(&self) -> Result<String, SqlError> {
        let connection = lock(&self.connection);
        Ok(self.own(|| self.moment(&connection))?)
    }

    fn moment(&self, connection: &Connection) -> rusqlite::Result<String> {
        let seen = data_version(connection)?;
        let mut last = lock(&self.seen_data_version);
        if *last != seen {
            *last = seen;
            advance(connection)?;
        }
        let bookmark = position(connection)?.bookmark(&self.uuid);
        lock(&self.history).keep(&bookmark, connection)?;
        Ok(bookmark)
    }

    /// Takes the whole database back to a bookmark that [`Database::bookmark`] gave; `None` for
    /// any other.
    ///
    /// # Errors
    /// When SQLite cannot.
    pub(crate) fn restore(&self, bookmark: &str) -> Result<Option<Restored>, SqlError> {
        let mut connection = lock(&self.connection);
        Ok(self.own(|| {
            let previous = self.moment(&connection)?;
            let Some(from) = lock(&self.history).find(bookmark).map(Path::to_owned) else {
                return Ok(None);
            };
            let before = position(&connection)?;
            history::give_back(&from, &mut connection)?;
            // The position came back too, and a bookmark must never mean two moments.
            store(&connection, before)?;
            advance(&connection)?;
            lock(&self.effects).restored();
            Ok(Some(Restored { previous }))
        })?)
    }

    /// Size of the file in bytes and number of the user's tables.
    ///
    /// # Errors
    /// When SQLite cannot tell.
    pub(crate) fn describe(&self) -> Result<(u64, u32), SqlError> {
        let connection = lock(&self.connection);
        Ok(self.own(|| {
            let tables = connection.query_row(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' \
                 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\'",
                [],
                |row| row.get(0),
            )?;
            rusqlite::Result::Ok((size(&connection)?, tables))
        })?)
    }

    /// Makes each written row (and index entry) cost so much, see [`super::D1::set_write_cost`].
    pub(crate) fn set_write_cost(&self, cost: Duration) {
        let nanoseconds = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
        self.cost.store(nanoseconds, Ordering::Relaxed);
    }

    /// Runs a file of SQL, all of it or nothing.
    ///
    /// # Errors
    /// As [`Database::run`].
    pub(crate) fn import(&self, sql: &str) -> Result<Imported, SqlError> {
        let entries: Vec<Entry> = complete::statements(sql)
            .into_iter()
            .map(|sql| Entry { sql: sql.to_owned(), params: Vec::new(), whole: true })
            .collect();
        let queries = entries.len();
        let results = self.run(entries, Shape::Raw)?;
        let results: Vec<serde_json::Value> = serde_json::from_str(&results).unwrap_or_default();
        let sum = |name: &str| -> f64 {
            results.iter().filter_map(|result| result["meta"][name].as_f64()).sum()
        };
        let last = |name: &str| {
            results.last().map_or(serde_json::Value::Null, |result| result["meta"][name].clone())
        };
        let meta = serde_json::json!({
            "duration": sum("duration"),
            "rows_read": sum("rows_read"),
            "rows_written": sum("rows_written"),
            "changes": sum("changes"),
            "last_row_id": last("last_row_id"),
            "size_after": last("size_after"),
            "changed_db": true,
        });
        Ok(Imported { queries, meta })
    }

    /// The dump that `/export` gives.
    ///
    /// # Errors
    /// As [`dump::dump`].
    pub(crate) fn dump(&self, options: &DumpOptions) -> Result<String, SqlError> {
        let connection = lock(&self.connection);
        self.gate.open(|| dump::dump(&connection, options))
    }

    /// What reached this database so far.
    pub(crate) fn effects(&self) -> Effects {
        lock(&self.effects).clone()
    }

    /// Runs the emulator's own SQL, past the authorizer.
    fn own<T>(&self, body: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.gate.open(body)
    }
}

/// A panic elsewhere leaves SQLite's own state consistent, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(connection: &Connection) -> rusqlite::Result<u64> {
    let pages: u32 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let page: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(u64::from(pages) * u64::from(page))
}

fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "schema_version", |row| row.get(0))
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// Reads the bookmark's position from Cloudflare's own table.
fn position(connection: &Connection) -> rusqlite::Result<Position> {
    let stored = connection
        .query_row(
            "SELECT value ->> 'sequence', value ->> 'day' FROM _cf_KV WHERE key = 'bookmark'",
            [],
            |row| Ok(Position { sequence: row.get(0)?, day: row.get(1)? }),
        )
        .optional()?;
    Ok(stored.unwrap_or(Position { sequence: 1, day: 0 }))
}

fn advance(connection: &Connection) -> rusqlite::Result<()> {
    let today = u32::try_from(Timestamp::now().as_second() / 86_400).unwrap_or(0);
    store(connection, position(connection)?.advance(today))
}

fn store(connection: &Connection, position: Position) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO _cf_KV (key, value) \
         VALUES ('bookmark', json_object('sequence', ?1, 'day', ?2))",
        (position.sequence, position.day),
    )?;
    Ok(())
}
