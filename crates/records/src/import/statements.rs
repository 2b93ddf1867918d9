//! The one atomic request that writes rows of a span.
//!
//! In order: foreign keys deferred (never switched off: D1 would then commit violations); a guard
//! that every row which makes room is still as it was journaled, and that nothing refers to it;
//! the rows that go; the rows that change in place, those that give a unique value before those
//! that take it (see `crate::survey`); the new rows, as JSON through `json_each`;
//! the counter of AUTOINCREMENT; and at the end guards that all of them are there and that none refers to nothing. A guard that
//! does not hold rolls the whole back.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::digests::RowDigest;
use crate::database::{Limits, Statement, guard, qualified, quote_name};
use crate::json_rows::{Chunk, chunks};
use crate::layout::{Form, pick};
use crate::quiet::quietly;
use crate::rewrite::Mention;
use crate::survey::Slot;
use crate::undo::from_referrers;
use crate::value::{Row, Value};

/// One row to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WriteRow {
    /// Its key.
    pub(crate) key: Vec<Value>,
    /// Its values.
    pub(crate) row: Row,
    /// How it comes in.
    pub(crate) way: Way,
    /// Whom it names, and who is not complete without it.
    pub(crate) mentions: Arc<[Mention]>,
    /// What stands there of ours already.
    pub(crate) ours: Option<Ours>,
    /// When it is changed, if not with all others that take a value from nobody.
    pub(crate) slot: Option<Box<Slot>>,
}

/// A row of ours that is to be changed, or to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ours {
    /// What it is now.
    pub(crate) digest: RowDigest,
    /// Whether it has a reference empty.
    pub(crate) open: bool,
}

/// How a row comes in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Way {
    /// It is new.
    Insert,
    /// It was so, and becomes ours.
    Update(Vec<Value>),
    /// It is new, and these go.
    Displace(Vec<Vec<Value>>),
    /// It is so, and goes.
    Remove(Vec<Value>),
}

/// The statements that write these rows.
pub(crate) fn statements(form: &Form, rows: &[WriteRow], limits: Limits) -> Vec<Statement> {
    let limit = limits.parameter;
    let mut out = vec![Statement::new("PRAGMA defer_foreign_keys = on")];
    let mut changing: Vec<&Vec<Value>> = Vec::new();
    let mut going: Vec<&Vec<Value>> = Vec::new();
    let mut seen: HashSet<&Vec<Value>> = HashSet::new();
    let mut updated: BTreeMap<u32, Vec<&[Value]>> = BTreeMap::new();
    let mut emptied: BTreeMap<&[usize], Vec<Vec<Value>>> = BTreeMap::new();
    let mut inserted: Vec<&[Value]> = Vec::new();
    for row in rows {
        match &row.way {
            Way::Insert => inserted.push(&row.row),
            Way::Update(earlier) => {
                changing.push(earlier);
                let turn = row.slot.as_ref().map_or(0, |slot| slot.turn);
                updated.entry(turn).or_default().push(&row.row);
                if let Some(slot) = row.slot.as_ref().filter(|slot| !slot.emptied.is_empty()) {
                    emptied.entry(&slot.emptied).or_default().push(pick(earlier, &form.key));
                }
            }
            Way::Displace(earlier) => {
                for row in earlier {
                    // Two rows of ours may need the room of one.
                    if seen.insert(row) {
                        going.push(row);
                    }
                }
                inserted.push(&row.row);
            }
            Way::Remove(earlier) => {
                if seen.insert(earlier) {
                    going.push(earlier);
                }
            }
        }
    }

    let as_journaled: Vec<_> = changing.iter().chain(&going).copied().collect();
    for chunk in chunks(as_journaled, limit) {
        out.push(unchanged(form, &chunk));
    }
    let keys: Vec<_> = going.iter().map(|row| pick(row, &form.key)).collect();
    for child in &form.children {
        for chunk in chunks(keys.iter(), limit) {
            let from = from_referrers(form, child, &chunk, true);
            out.push(with(guard(&format!("EXISTS (SELECT 1 {from})")), &chunk));
        }
    }
    for chunk in chunks(keys.iter(), limit) {
        out.push(delete(form, &chunk));
    }
    for (columns, keys) in emptied {
        for chunk in chunks(&keys, limit) {
            out.push(empty(form, columns, &chunk));
        }
    }
    for chunk in updated.into_values().flat_map(|rows| chunks(rows, limit)) {
        out.extend(update(form, &chunk));
    }
    for chunk in chunks(inserted, limit) {
        let values: Vec<_> = (0..form.target.len()).map(|column| chunk.column(column)).collect();
        // OR ABORT wins over an `ON CONFLICT REPLACE` of the schema, which would overwrite.
        let sql = format!(
            "INSERT OR ABORT INTO {} ({}) SELECT {} FROM json_each(?1) AS j",
            form.target_table(),
            form.target.join(", "),
            values.join(", ")
        );
        out.push(Statement { sql, params: chunk.into_params() });
    }
    out.extend(counter(form));
    let stays = |row: &&WriteRow| !matches!(row.way, Way::Remove(_));
    let keys: Vec<_> = rows.iter().filter(stays).map(|row| &row.key).collect();
    for chunk in chunks(keys, limit) {
        out.extend(settled(form, &chunk));
    }
    quietly(form, out)
}

/// Brings the table's AUTOINCREMENT to where it stands in the source, so that no key is given
/// again that a deleted row had. It is never lowered.
pub(crate) fn counter(form: &Form) -> Option<Statement> {
    let counter = form.counter.filter(|counter| *counter > 0)?;
    let name = Value::text(form.target_table.clone()).to_sql();
    Some(Statement::new(format!(
        "UPDATE sqlite_sequence SET seq = {counter} WHERE name = {name} AND seq < {counter}"
    )))
}

/// A statement with the chunk's strings bound.
pub(crate) fn with(sql: String, chunk: &Chunk) -> Statement {
    Statement { sql, params: chunk.params() }
}

/// Positions of the key inside a chunk of whole rows, as a condition.
fn by_key(form: &Form, chunk: &Chunk, alias: &str) -> String {
    let pairs: Vec<_> = form
        .key
        .iter()
        .filter_map(|column| {
            let name = form.target.get(*column)?;
            Some(format!("{alias}.{name} = {}", chunk.column(*column)))
        })
        .collect();
    pairs.join(" AND ")
}

/// A guard that each of these rows is there exactly so.
pub(crate) fn unchanged(form: &Form, chunk: &Chunk) -> Statement {
    let same: Vec<_> = form
        .target
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let value = chunk.column(column);
            format!("(t.{name} COLLATE BINARY IS {value} AND typeof(t.{name}) = typeof({value}))")
        })
        .collect();
    with(
        guard(&format!(
            "(SELECT count(*) FROM json_each(?1) AS j CROSS JOIN {} AS t ON {} WHERE {}) <> {}",
            form.target_table(),
            by_key(form, chunk, "t"),
            all_of(&same),
            chunk.rows.len()
        )),
        chunk,
    )
}

/// A conjunction as a balanced tree: a chain of a hundred terms is deeper than D1 allows.
fn all_of(terms: &[String]) -> String {
    match terms {
        [] => "1".to_owned(),
        [one] => one.clone(),
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            format!("({} AND {})", all_of(left), all_of(right))
        }
    }
}

/// That the key of a row `t` is one of the chunk's.
fn one_of(form: &Form, chunk: &Chunk) -> String {
    let key = form.target_key();
    let values: Vec<_> = (0..key.len()).map(|column| chunk.column(column)).collect();
    let left = match qualified("t", &key).as_slice() {
        [one] => one.clone(),
        many => format!("({})", many.join(", ")),
    };
    format!("{left} IN (SELECT {} FROM json_each(?1) AS j)", values.join(", "))
}

/// Deletes the rows of these keys.
pub(crate) fn delete(form: &Form, chunk: &Chunk) -> Statement {
    let (table, these) = (form.target_table(), one_of(form, chunk));
    with(format!("DELETE FROM {table} AS t WHERE {these}"), chunk)
}

/// Empties these columns of the rows of these keys.
fn empty(form: &Form, columns: &[usize], chunk: &Chunk) -> Statement {
    let set: Vec<_> =
        pick(&form.target, columns).iter().map(|name| format!("{name} = NULL")).collect();
    let (table, these) = (form.target_table(), one_of(form, chunk));
    with(format!("UPDATE OR ABORT {table} AS t SET {} WHERE {these}", set.join(", ")), chunk)
}

/// Gives the rows of these keys these values; `None` when they are all key.
pub(crate) fn update(form: &Form, chunk: &Chunk) -> Option<Statement> {
    let set: Vec<_> = form
        .target
        .iter()
        .enumerate()
        .filter(|(column, _)| !form.key.contains(column))
        .map(|(column, name)| format!("{name} = {}", chunk.column(column)))
        .collect();
    if set.is_empty() {
        return None;
    }
    Some(with(
        format!(
            "UPDATE OR ABORT {} AS t SET {} FROM json_each(?1) AS j WHERE {}",
            form.target_table(),
            set.join(", "),
            by_key(form, chunk, "t")
        ),
        chunk,
    ))
}

/// All keys of the chunk are there, and no foreign key of those rows points nowhere.
pub(crate) fn settled(form: &Form, chunk: &Chunk) -> Vec<Statement> {
    let table = form.target_table();
    let on = chunk.matches("t", &form.target_key());
    let mut out = vec![with(
        guard(&format!(
            "(SELECT count(*) FROM json_each(?1) AS j CROSS JOIN {table} AS t ON {on}) <> {}",
            chunk.rows.len()
        )),
        chunk,
    )];
    for parent in &form.parents {
        if !parent.enforced || parent.columns.len() != parent.parent_columns.len() {
            continue;
        }
        let child = pick(&form.target, &parent.columns);
        let refers: Vec<_> = child.iter().map(|column| format!("t.{column} IS NOT NULL")).collect();
        let meets: Vec<_> = child
            .iter()
            .zip(&parent.parent_columns)
            .map(|(column, above)| format!("p.{above} = t.{column}"))
            .collect();
        out.push(with(
            guard(&format!(
                "EXISTS (SELECT 1 FROM json_each(?1) AS j CROSS JOIN {table} AS t ON {on} \
                 WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {}))",
                refers.join(" AND "),
                quote_name(&parent.table),
                meets.join(" AND ")
            )),
            chunk,
        ));
    }
    out
}
