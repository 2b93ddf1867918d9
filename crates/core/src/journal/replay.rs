//! The log against the cache.
//!
//! Replays every entry, through the same code that wrote them, into a scratch file, then compares
//! table by table. Equal means that the journal's idea of where everything stands is what the
//! log says, no more and no less.

use std::path::Path;

use rusqlite::{Connection, params};

use super::cache::{self, Entry};
use super::{Error, schema};
use crate::state::Stage;

/// What was replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replay {
    /// Entries of the log.
    pub entries: u64,
    /// Units that they lead to.
    pub units: u64,
}

/// The cached tables, with the order in which their rows are compared.
const TABLES: [(&str, &str); 5] = [
    ("unit", "id"),
    ("alias", "kind, alias, unit"),
    ("wait", "unit, since, code, kind, key, scope"),
    ("block", "unit, kind, key"),
    ("checkpoint", "kind"),
];

/// Replays the journal at `path` into a scratch file at `scratch` (removed by the caller) and
/// compares.
///
/// # Errors
/// [`Error::ReplayDiffers`] with the first difference; [`Error::Illegal`] or [`Error::Damaged`]
/// when the log itself cannot have happened; file errors.
pub fn check(path: &Path, scratch: &Path) -> Result<Replay, Error> {
    let journal = schema::open_reader(path)?;
    let replayed = schema::open_scratch(scratch)?;
    let entries = replay(&journal, &replayed)?;
    for (table, order) in TABLES {
        compare(&journal, &replayed, table, order)?;
    }
    let units = replayed
        .query_row("SELECT count(*) FROM unit", [], |row| row.get(0))
        .map_err(Error::sqlite("count the replayed units"))?;
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
        let (seq, unit, event, from, to, attempt, detail) = read().map_err(Error::sqlite(doing))?;
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
        cache::apply(replayed, &entry)?;
        entries += 1;
    }
    Ok(entries)
}

fn compare(left: &Connection, right: &Connection, table: &str, order: &str) -> Result<(), Error> {
    let doing = "compare the replay with its cache";
    let sql = format!("SELECT * FROM {table} ORDER BY {order}");
    let (mut a, mut b) = (
        left.prepare(&sql).map_err(Error::sqlite(doing))?,
        right.prepare(&sql).map_err(Error::sqlite(doing))?,
    );
    let columns = a.column_count();
    let (mut a, mut b) = (
        a.query(params![]).map_err(Error::sqlite(doing))?,
        b.query(params![]).map_err(Error::sqlite(doing))?,
    );
    loop {
        let (x, y) =
            (a.next().map_err(Error::sqlite(doing))?, b.next().map_err(Error::sqlite(doing))?);
        let (x, y) = match (x, y) {
            (None, None) => return Ok(()),
            (Some(x), Some(y)) => (x, y),
            (Some(_), None) => {
                return Err(Error::ReplayDiffers(format!("{table}: the cache has more rows")));
            }
            (None, Some(_)) => {
                return Err(Error::ReplayDiffers(format!("{table}: the cache misses rows")));
            }
        };
        for column in 0..columns {
            let (cached, derived) = (
                x.get_ref(column).map_err(Error::sqlite(doing))?,
                y.get_ref(column).map_err(Error::sqlite(doing))?,
            );
            if cached != derived {
                let name = x.as_ref().column_name(column).unwrap_or("?").to_owned();
                return Err(Error::ReplayDiffers(format!(
                    "{table}.{name}: the cache says {cached:?}, the log says {derived:?}"
                )));
            }
        }
    }
}
