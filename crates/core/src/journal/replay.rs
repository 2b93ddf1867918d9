//! The log against the cache.
//!
//! Replays every entry, through the same code that wrote them, into a scratch file, then compares
//! table by table. Equal means that the journal's idea of where everything stands is what the
//! log says, no more and no less.
//!
//! All of it is read in one transaction, so a run that writes meanwhile changes neither side.

use std::fmt;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use super::cache::{self, Entry};
use super::{Error, lock, schema};
use crate::state::Stage;

/// What was replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replay {
    /// Entries of the log.
    pub entries: u64,
    /// Units that they lead to.
    pub units: u64,
}

/// A replay, and what it has to say about the cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// What was replayed.
    pub replay: Replay,
    /// The first place where the cache is not what the log says; `None` when they are equal.
    pub difference: Option<Divergence>,
}

/// A place where the cache is not what the log says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// The cached table.
    pub table: &'static str,
    /// The row, by its key: `id 7`.
    pub row: String,
    /// The column that differs; `None` when the whole row is on one side only.
    pub column: Option<String>,
    /// What the cache has; `None` when it lacks the row.
    pub cache: Option<String>,
    /// What the log leads to; `None` when it knows no such row.
    pub log: Option<String>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, row, column, cache, log } = self;
        match (column, cache, log) {
            (Some(column), Some(cache), Some(log)) => {
                write!(f, "{table}.{column} of {row}: the cache says {cache}, the log says {log}")
            }
            (_, None, _) => write!(f, "{table}: the cache lacks {row}"),
            (_, Some(_), _) => {
                write!(f, "{table}: the cache has {row}, which the log knows nothing of")
            }
        }
    }
}

/// A cached table with the columns that tell its rows apart.
type Table = (&'static str, &'static [&'static str]);

/// The cached tables.
const TABLES: [Table; 5] = [
    ("unit", &["id"]),
    ("alias", &["kind", "alias", "unit"]),
    ("wait", &["unit", "since", "code", "kind", "key", "scope"]),
    ("block", &["unit", "kind", "key"]),
    ("checkpoint", &["kind"]),
];

/// Replays the journal at `path` into a scratch file at `scratch` (made here, removed by the
/// caller) and compares.
///
/// # Errors
/// [`Error::ReplayDiffers`] with the first difference; else as for [`compare`].
pub fn check(path: &Path, scratch: &Path) -> Result<Replay, Error> {
    let Replayed { replay, difference } = compare(path, scratch)?;
    match difference {
        None => Ok(replay),
        Some(difference) => Err(Error::ReplayDiffers(difference.to_string())),
    }
}

/// The same, with a difference as an answer instead of an error.
///
/// # Errors
/// [`Error::Damaged`] when the log itself cannot have happened or cannot be read; file errors.
pub fn compare(path: &Path, scratch: &Path) -> Result<Replayed, Error> {
    let journal = schema::open_reader(path)?;
    // One snapshot: an entry that comes meanwhile is on neither side.
    let journal = journal.unchecked_transaction().map_err(Error::sqlite("read its log"))?;
    let replayed = schema::open_scratch(scratch)?;
    let entries = replay(&journal, &replayed)?;
    let units = replayed
        .query_row("SELECT count(*) FROM unit", [], |row| row.get(0))
        .map_err(Error::sqlite("count the replayed units"))?;
    let replay = Replay { entries, units };
    for table in TABLES {
        let difference = difference(&journal, &replayed, table)?;
        if difference.is_some() {
            return Ok(Replayed { replay, difference });
        }
    }
    Ok(Replayed { replay, difference: None })
}

/// Throws the cache of the journal at `path` away and derives it anew from the log, in one
/// transaction. For a cache that differs while the log is sound.
///
/// # Errors
/// [`Error::Locked`] when a run holds the journal; [`Error::Damaged`] when the log cannot have
/// happened; file errors. The journal is as it was then.
pub fn repair(path: &Path) -> Result<Replay, Error> {
    let _lock = lock::Lock::take(path)?;
    let conn = schema::open_writer(path)?;
    let tx = conn.unchecked_transaction().map_err(Error::sqlite("repair its cache"))?;
    let entries = rebuild_cache(&tx)?;
    let units = tx
        .query_row("SELECT count(*) FROM unit", [], |row| row.get(0))
        .map_err(Error::sqlite("count the replayed units"))?;
    tx.commit().map_err(Error::sqlite("repair its cache"))?;
    Ok(Replay { entries, units })
}

/// Derives the cache anew from the log, in the transaction of the caller.
pub(super) fn rebuild_cache(conn: &Connection) -> Result<u64, Error> {
    for (table, _) in TABLES {
        conn.prepare(&format!("DELETE FROM {table}"))
            .and_then(|mut statement| statement.execute([]))
            .map_err(Error::sqlite("empty its cache"))?;
    }
    apply_all(conn, conn)
}

fn replay(journal: &Connection, replayed: &Connection) -> Result<u64, Error> {
    let doing = "replay its log";
    let tx = replayed.unchecked_transaction().map_err(Error::sqlite(doing))?;
    let entries = apply_all(journal, &tx)?;
    tx.commit().map_err(Error::sqlite(doing))?;
    Ok(entries)
}

/// Applies every entry of one file's log to the cache of another, or of the same.
fn apply_all(journal: &Connection, replayed: &Connection) -> Result<u64, Error> {
    let doing = "replay its log";
    let mut statement = journal
        .prepare(
            "SELECT seq, unit, event, from_stage, to_stage, attempt, detail FROM entry
             ORDER BY seq",
        )
        .map_err(Error::sqlite(doing))?;
    let mut rows = statement.query([]).map_err(Error::sqlite(doing))?;
    let mut entries = 0;
    while let Some(row) = rows.next().map_err(Error::sqlite(doing))? {
        let read = || -> rusqlite::Result<_> {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, Option<i64>>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, Option<i64>>(3)?,
                row.get::<_, Option<i64>>(4)?,
                row.get::<_, i64>(5)?,
                row.get::<_, Option<String>>(6)?,
            ))
        };
        let (seq, unit, event, from, to, attempt, detail) = read().map_err(|error| {
            Error::Damaged(format!("entry {}, counted from the first: {error}", entries + 1))
        })?;
        let entry = Entry {
            seq,
            unit,
            event: &event,
            from: from.and_then(Stage::from_rank),
            to: to.and_then(Stage::from_rank),
            attempt,
            detail: detail.as_deref(),
        };
        // The cache joins entries for their data; the scratch file needs no copies of them.
        cache::apply(replayed, &entry).map_err(|error| impossible(seq, error))?;
        entries += 1;
    }
    Ok(entries)
}

/// Live, a step that cannot happen is a bug and refused; in a log it is damage, because nothing
/// that was refused is in it.
fn impossible(seq: i64, error: Error) -> Error {
    let constraint = |source: &rusqlite::Error| {
        source.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
    };
    let why = match &error {
        Error::Illegal { unit, source } => format!("unit {unit}: {source}"),
        Error::Sqlite { source, .. } if constraint(source) => source.to_string(),
        Error::TargetTaken { .. } | Error::UnknownUnit(_) => error.to_string(),
        _ => return error,
    };
    Error::Damaged(format!("entry {seq} cannot have happened: {why}"))
}

/// The first difference between two versions of a cached table.
fn difference(
    cache: &Connection,
    log: &Connection,
    (table, key): Table,
) -> Result<Option<Divergence>, Error> {
    let doing = "compare the replay with its cache";
    let failed = || Error::sqlite(doing);
    let sql = format!("SELECT * FROM {table} ORDER BY {}", key.join(", "));
    let mut left = cache.prepare(&sql).map_err(failed())?;
    let mut right = log.prepare(&sql).map_err(failed())?;
    let columns: Vec<String> = left.column_names().map(str::to_owned).collect();
    let (mut left, mut right) =
        (left.query(params![]).map_err(failed())?, right.query(params![]).map_err(failed())?);
    let whole = |row: &Row<'_>, cached: bool| -> Result<Divergence, Error> {
        let there = Some("a row".to_owned());
        let (cache, log) = if cached { (there, None) } else { (None, there) };
        let row = name(row, key).map_err(failed())?;
        Ok(Divergence { table, row, column: None, cache, log })
    };
    loop {
        let (x, y) = (left.next().map_err(failed())?, right.next().map_err(failed())?);
        let (x, y) = match (x, y) {
            (None, None) => return Ok(None),
            (Some(x), Some(y)) => (x, y),
            (Some(x), None) => return whole(x, true).map(Some),
            (None, Some(y)) => return whole(y, false).map(Some),
        };
        for (index, column) in columns.iter().enumerate() {
            let (cached, derived) =
                (x.get_ref(index).map_err(failed())?, y.get_ref(index).map_err(failed())?);
            if cached == derived {
                continue;
            }
            if key.contains(&column.as_str()) {
                // One of the two rows has no counterpart; the other side is asked which.
                let is_extra = !is_there(log, table, key, x).map_err(failed())?;
                return if is_extra { whole(x, true) } else { whole(y, false) }.map(Some);
            }
            return Ok(Some(Divergence {
                table,
                row: name(x, key).map_err(failed())?,
                column: Some(column.clone()),
                cache: Some(words(cached)),
                log: Some(words(derived)),
            }));
        }
    }
}

/// Whether a table has a row with the key of `row`.
fn is_there(conn: &Connection, table: &str, key: &[&str], row: &Row<'_>) -> rusqlite::Result<bool> {
    let conditions: Vec<_> = key.iter().map(|column| format!("{column} IS ?")).collect();
    let sql = format!("SELECT 1 FROM {table} WHERE {}", conditions.join(" AND "));
    let values: Vec<rusqlite::types::Value> =
        key.iter().map(|column| row.get(*column)).collect::<Result<_, _>>()?;
    conn.prepare(&sql)?.exists(rusqlite::params_from_iter(values))
}

/// A row by its key, for a person.
fn name(row: &Row<'_>, key: &[&str]) -> rusqlite::Result<String> {
    let parts: Vec<_> = key
        .iter()
        .map(|column| Ok(format!("{column} {}", words(row.get_ref(*column)?))))
        .collect::<rusqlite::Result<_>>()?;
    Ok(parts.join(", "))
}

/// A value, for a person.
fn words(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "nothing".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_while_the_log_is_replayed_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let log = schema::open_scratch(&folder.path().join("log")).unwrap();
        let exported = format!(r#"{{"kind":"user","key":"{}","data":{{}}}}"#, "k".repeat(100_000));
        log.prepare(
            "INSERT INTO entry (unit, at, event, from_stage, to_stage, attempt, detail)
             VALUES (1, 0, 'exported', NULL, 1, 0, ?1)",
        )
        .and_then(|mut statement| statement.execute([exported]))
        .unwrap();
        let scratch = schema::open_scratch(&folder.path().join("scratch")).unwrap();
        let pages: i64 = scratch.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        scratch.pragma_update(None, "max_page_count", pages + 2).unwrap();
        let error = replay(&log, &scratch).unwrap_err();
        let Error::Sqlite { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    }
}
