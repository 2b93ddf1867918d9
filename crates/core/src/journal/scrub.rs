//! Personal data out of a finished journal.
//!
//! The log is append-only, so nothing in it is ever changed: a *new* journal is written beside
//! the old one, with the same entries at the same places, but without what they say about
//! people. It is replayed and compared with the old one's units, and only then takes the old
//! one's name, in one rename. The old file and its write-ahead log are overwritten with zeros
//! after that, because a file that is only removed leaves its pages on the disk.
//!
//! What stays: which unit was where when, every pair of ids, every event with its stages, attempt
//! and time, the codes of failures, counts. What goes: labels, aliases, what the export knew, what
//! intents and outcomes hold, messages, reasons, cursors. A failure's message may name anybody, so
//! none is kept.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::change::{Called, Detail, ExportedDetail, PAGE, PageDetail};
use super::setup::{self, SCRUBBED};
use super::{Error, cache, lock, replay, schema, vacancy};
use crate::clock::Clock;
use crate::unit::Kind;

/// What is kept of what an export knew about a unit.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Kept {
    /// How a person recognises the unit without learning about anybody.
    pub label: Option<String>,
    /// What readers of the journal cannot do without.
    pub data: Value,
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scrubbed {
    /// Entries of the log, all of which are still there, without the one that tells of this.
    pub entries: u64,
    /// Units.
    pub units: u64,
    /// How long the file and its write-ahead log were, in bytes.
    pub before: u64,
    /// How long it is now.
    pub after: u64,
}

/// The event word of the entry that tells of it.
pub(super) const NOTE: &str = "scrubbed";
/// What stands in place of a message.
const REMOVED: &str = "removed by `journal scrub`";
const DOING: &str = "write the scrubbed journal";

/// Scrubs the journal at `path`. `keep` says, by a unit's kind and what its export knew, what
/// stays of that. Whether the migration has come to its end is the caller's to know.
///
/// # Errors
/// [`Error::Locked`] when a run holds the journal, [`Error::Read`] when another process has it
/// open, [`Error::Scrubbed`] when it was scrubbed before, [`Error::ReplayDiffers`] or
/// [`Error::Damaged`] when it is not sound; file errors. After each of them the journal is as it
/// was, but for an error while the old pages are overwritten.
pub fn scrub(
    path: &Path,
    clock: &dyn Clock,
    keep: &dyn Fn(&Kind, &Value) -> Kept,
) -> Result<Scrubbed, Error> {
    if !path.exists() {
        return Err(vacancy::absent(path));
    }
    let lock = lock::Lock::take(path)?;
    let old = schema::open_writer(path)?;
    setup::refuse_scrubbed(&old)?;
    // Nothing is thrown away for a file that does not hold what it claims to.
    replay::check(path, Path::new(""))?;
    let wal_path = schema::beside(path, "-wal");
    let writable = |path: &Path| {
        OpenOptions::new().write(true).open(path).map_err(|source| Error::File {
            doing: "open",
            path: path.to_owned(),
            source,
        })
    };
    let pages = writable(path)?;
    let wal = if wal_path.exists() { Some(writable(&wal_path)?) } else { None };

    let made = schema::beside(path, ".scrubbed");
    let (entries, units) = write(&old, &made, clock, keep)?;
    // The last connection folds the write-ahead log into the file and removes it.
    old.close().map_err(|(_, source)| Error::Sqlite { doing: "close it", source })?;
    if wal_path.exists() {
        schema::remove(&made)?;
        return Err(Error::Read(path.to_owned()));
    }
    let before = length(&pages)? + wal.as_ref().map_or(Ok(0), length)?;
    schema::take_place(&made, path)?;
    for mut file in std::iter::once(pages).chain(wal) {
        overwrite(&mut file).map_err(|source| Error::File {
            doing: "overwrite the old pages of",
            path: path.to_owned(),
            source,
        })?;
    }
    let after = std::fs::metadata(path).map_or(0, |file| file.len());
    drop(lock);
    Ok(Scrubbed { entries, units, before, after })
}

fn length(file: &File) -> Result<u64, Error> {
    file.metadata().map(|file| file.len()).map_err(|source| Error::File {
        doing: "measure",
        path: "the journal".into(),
        source,
    })
}

/// Zeros over the whole length of a file that has lost its name.
fn overwrite(file: &mut File) -> std::io::Result<()> {
    let zeros = [0; 64 * 1024];
    let mut left = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all(zeros.get(..part).unwrap_or_default())?;
        left -= part as u64;
    }
    file.sync_all()
}

/// Writes the new file, whole and durable, and gives how many entries and units it has.
fn write(
    old: &Connection,
    made: &Path,
    clock: &dyn Clock,
    keep: &dyn Fn(&Kind, &Value) -> Kept,
) -> Result<(u64, u64), Error> {
    let now = clock.now();
    let written = schema::write_new(made, |new| {
        let tx = new.unchecked_transaction().map_err(Error::sqlite(DOING))?;
        let mut bound = setup::read(old)?
            .ok_or_else(|| Error::Damaged("it is bound to no migration".to_owned()))?;
        bound.pins.insert(SCRUBBED.to_owned(), format!("{now:.0}"));
        setup::bind(&tx, &bound, now.as_millisecond())?;
        let entries = copy(old, &tx, keep)?;
        let note = json!({ "entries": entries }).to_string();
        append(&tx, (None, now.as_millisecond(), NOTE, None, None, 0), Some(&note), None)?;
        compare(old, &tx)?;
        let units = tx
            .query_row("SELECT count(*) FROM unit", [], |row| row.get(0))
            .map_err(Error::sqlite(DOING))?;
        tx.commit().map_err(Error::sqlite(DOING))?;
        Ok((entries, units))
    });
    let checked = written.and_then(|written| {
        replay::check(made, Path::new(""))?;
        // A reader may have left its own files beside it.
        for suffix in ["-wal", "-shm"] {
            schema::remove(&schema::beside(made, suffix))?;
        }
        Ok(written)
    });
    if checked.is_err() {
        schema::remove(made)?;
    }
    checked
}

/// The columns of an entry without its place and its detail.
type Columns<'a> = (Option<i64>, i64, &'a str, Option<i64>, Option<i64>, i64);

/// Appends an entry and derives the cache from it, as the writer does. With `seq`, at that place.
#[allow(clippy::too_many_arguments, reason = "the columns of one row")]
fn append(
    conn: &Connection,
    (unit, at, event, from, to, attempt): Columns<'_>,
    detail: Option<&str>,
    seq: Option<i64>,
) -> Result<(), Error> {
    conn.prepare_cached(
        "INSERT INTO entry (seq, unit, at, event, from_stage, to_stage, attempt, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .and_then(|mut statement| {
        statement.execute(params![seq, unit, at, event, from, to, attempt, detail])
    })
    .map_err(Error::sqlite(DOING))?;
    let seq = seq.unwrap_or_else(|| conn.last_insert_rowid());
    let entry = cache::Entry {
        seq,
        unit,
        event,
        from: from.and_then(crate::state::Stage::from_rank),
        to: to.and_then(crate::state::Stage::from_rank),
        attempt,
        detail,
    };
    cache::apply(conn, &entry)
}

fn copy(
    old: &Connection,
    new: &Connection,
    keep: &dyn Fn(&Kind, &Value) -> Kept,
) -> Result<u64, Error> {
    let mut statement = old
        .prepare(
            "SELECT seq, unit, at, event, from_stage, to_stage, attempt, detail FROM entry
             ORDER BY seq",
        )
        .map_err(Error::sqlite(DOING))?;
    let mut rows = statement.query([]).map_err(Error::sqlite(DOING))?;
    let mut entries = 0;
    while let Some(row) = rows.next().map_err(Error::sqlite(DOING))? {
        let read = || -> rusqlite::Result<_> {
            let event: String = row.get(3)?;
            let detail: Option<String> = row.get(7)?;
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                event,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                detail,
            ))
        };
        let (seq, unit, at, event, from, to, attempt, detail) =
            read().map_err(Error::sqlite(DOING))?;
        let detail = match &detail {
            Some(text) => Some(without_people(new, seq, unit, &event, text, keep)?),
            None => None,
        };
        append(new, (unit, at, &event, from, to, attempt), detail.as_deref(), Some(seq))?;
        entries += 1;
    }
    Ok(entries)
}

/// The kind of a unit that is in the new journal already.
fn kind_of(new: &Connection, unit: i64) -> Result<Kind, Error> {
    Ok(Kind::from_name(cache::position(new, unit)?.kind))
}

/// An entry's detail without anything about anybody. Units come into `new` before what happens to
/// them.
fn without_people(
    new: &Connection,
    seq: i64,
    unit: Option<i64>,
    event: &str,
    text: &str,
    keep: &dyn Fn(&Kind, &Value) -> Kept,
) -> Result<String, Error> {
    let written = match (unit, event) {
        (None, PAGE) => {
            let page: PageDetail = cache::parse(seq, Some(text))?;
            serde_json::to_string(&PageDetail { cursor: Value::Null, ..page })
        }
        (None, _) => {
            let note: Value = cache::parse(seq, Some(text))?;
            serde_json::to_string(&numbers(note))
        }
        (Some(_), "exported") => {
            let ExportedDetail { kind, scope, key, data, .. } = cache::parse(seq, Some(text))?;
            let Kept { label, data } = keep(&kind, &data);
            serde_json::to_string(&ExportedDetail {
                kind,
                scope,
                key,
                label,
                aliases: Vec::new(),
                data,
            })
        }
        (Some(unit), "reopened") => {
            let mut detail: Detail = cache::parse(seq, Some(text))?;
            let renewed = detail.data.take();
            let label = detail.called.is_some();
            let mut detail = anonymous(detail);
            if let Some(data) = renewed {
                let kept = keep(&kind_of(new, unit)?, &data);
                detail.called = label.then(|| Called { label: kept.label, ..Called::default() });
                // That there was any says where the export stands from then on.
                detail.data = Some(if kept.data.is_null() { json!({}) } else { kept.data });
            }
            serde_json::to_string(&detail)
        }
        (Some(_), _) => {
            let detail: Detail = cache::parse(seq, Some(text))?;
            serde_json::to_string(&anonymous(detail))
        }
    };
    written.map_err(|error| Error::Damaged(error.to_string()))
}

/// A step without anything about anybody. That there *was* data stays visible, because the cache
/// is derived from that.
fn anonymous(detail: Detail) -> Detail {
    let Detail { target, origin, failure, reason: _, waits, blocks, called, data } = detail;
    let failure = failure.map(|failure| crate::unit::Failure::new(failure.code, REMOVED));
    let waits = waits.into_iter().map(|wait| crate::unit::Wait { example: None, ..wait }).collect();
    let called = called.map(|_| Called::default());
    let data = data.map(|_| json!({}));
    Detail { target, origin, failure, reason: None, waits, blocks, called, data }
}

/// A note without its words: numbers and yes or no stay under their names.
fn numbers(note: Value) -> Value {
    match note {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| (name, numbers(value)))
                .filter(|(_, value)| !value.is_null())
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => note,
        Value::String(_) | Value::Array(_) => Value::Null,
    }
}

/// Every unit of the new file stands where it stood in the old one, with the same pair of ids.
fn compare(old: &Connection, new: &Connection) -> Result<(), Error> {
    let sql = "SELECT id, kind, scope, source_key, target_key, origin, stage, condition, attempts,
                      exported_seq, intent_seq, done_seq, done_intent_seq, undo_seq, void
               FROM unit ORDER BY id";
    let (mut old, mut new) = (
        old.prepare(sql).map_err(Error::sqlite(DOING))?,
        new.prepare(sql).map_err(Error::sqlite(DOING))?,
    );
    let columns = old.column_count();
    let (mut old, mut new) = (
        old.query([]).map_err(Error::sqlite(DOING))?,
        new.query([]).map_err(Error::sqlite(DOING))?,
    );
    loop {
        match (old.next().map_err(Error::sqlite(DOING))?, new.next().map_err(Error::sqlite(DOING))?)
        {
            (None, None) => return Ok(()),
            (Some(a), Some(b)) => {
                for column in 0..columns {
                    let (a, b) = (
                        a.get_ref(column).map_err(Error::sqlite(DOING))?,
                        b.get_ref(column).map_err(Error::sqlite(DOING))?,
                    );
                    if a != b {
                        return Err(Error::ReplayDiffers(format!(
                            "the scrubbed journal has {b:?} where {a:?} stood"
                        )));
                    }
                }
            }
            (Some(_), None) | (None, Some(_)) => {
                return Err(Error::ReplayDiffers(
                    "the scrubbed journal has another number of units".to_owned(),
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_stands_elsewhere_or_is_missing_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new] =
            ["old", "new"].map(|name| schema::open_scratch(&folder.path().join(name)).unwrap());
        let export = |conn: &Connection, unit: i64| {
            let detail = json!({ "kind": "user", "key": unit.to_string(), "data": {} });
            let entry = (Some(unit), 0, "exported", None, Some(1), 0);
            append(conn, entry, Some(&detail.to_string()), None).unwrap();
        };
        let advance = |conn: &Connection, target: &str| {
            let detail = json!({ "target": target }).to_string();
            append(conn, (Some(1), 0, "advanced", Some(1), Some(2), 0), Some(&detail), None)
        };
        let differs = || match compare(&old, &new) {
            Ok(()) => false,
            Err(Error::ReplayDiffers(_)) => true,
            Err(other) => panic!("{other:?}"),
        };
        export(&old, 1);
        assert!(differs(), "it is missing");
        export(&new, 1);
        assert!(!differs());
        advance(&old, "t1").unwrap();
        assert!(differs(), "it stands elsewhere");
        advance(&new, "t9").unwrap();
        assert!(differs(), "it has another counterpart");
    }
}
