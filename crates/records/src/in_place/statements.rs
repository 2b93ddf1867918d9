//! The SQL that exchanges ids where they stand.
//!
//! A plain column is exchanged by one statement that finds its rows itself, so that a row which
//! the application puts in a moment before is caught as well. A document is read before, edited
//! byte by byte, and written only if it still is what was read.

use super::pairs::{Pair, Turn, exchanged, targets};
use super::places::{Place, Places, TablePlaces};
use super::standing::{Spared, only};
use crate::database::{ReadDatabase, Select, Statement, guard};
use crate::import::statements::{delete, unchanged, with};
use crate::json_rows::chunks;
use crate::layout::{Form, pick};
use crate::rewrite::rewrite;
use crate::undo::from_referrers;
use crate::value::Value;
use rehome_core::Halt;

/// Exchanges the ids of a plain column, but in rows that are spared.
pub(super) fn column(
    table: &TablePlaces,
    place: &Place,
    pairs: &[Pair],
    turn: Turn,
    spared: Option<&Spared>,
) -> Statement {
    let name = &place.name;
    let of = table.form.target_table();
    let mut params = vec![exchanged(pairs, turn)];
    // Joined without an index, the table would be read through for each pair. So it is read once,
    // and the new id is looked up in the parameter.
    let mut sql = if place.indexed {
        format!(
            "WITH m(o, n) AS MATERIALIZED (SELECT j.key, j.value FROM json_each(?1) AS j) \
             UPDATE OR ABORT {of} AS t SET {name} = m.n FROM m \
             WHERE t.{name} = m.o AND (t.{name} COLLATE BINARY) = m.o"
        )
    } else {
        format!(
            "UPDATE OR ABORT {of} AS t SET {name} = \
             coalesce(json_extract(?1, '$.' || json_quote(t.{name})), t.{name}) \
             WHERE t.{name} IN (SELECT j.key FROM json_each(?1) AS j) \
             AND (t.{name} COLLATE BINARY) IN (SELECT j.key FROM json_each(?1) AS j)"
        )
    };
    if let Some(spared) = spared {
        // Bounded when they were remembered, so one parameter holds them.
        for chunk in chunks(spared.keys.iter(), usize::MAX) {
            sql += &format!(
                " AND NOT EXISTS (SELECT 1 FROM json_each(?2) AS j WHERE {})",
                spared.matches("t", &chunk)
            );
            params.push(chunk.json);
        }
    }
    Statement { sql, params }
}

/// The statements that exchange the ids inside the documents of one column, for the documents as
/// they are now; spared rows keep theirs.
///
/// # Errors
/// When the database cannot be read.
pub(super) async fn documents(
    database: &dyn ReadDatabase,
    places: &Places,
    table: &TablePlaces,
    place: &Place,
    (pairs, turn): (&[Pair], Turn),
    spared: Option<&Spared>,
) -> Result<Vec<Statement>, Halt> {
    let form = &table.form;
    let key = form.target_key();
    let columns = key.iter().chain([&place.name]).map(|column| format!("t.{column}"));
    let question = Select::new(
        columns,
        format!("FROM {} AS t WHERE {}", form.target_table(), place.holds("t")),
    )
    .with(super::pairs::sought(pairs, turn));
    let rows = database.select(vec![question]).await?.pop().unwrap_or_default();
    let targets = targets(&places.kind, pairs, turn);
    let mut edited: Vec<Vec<Value>> = Vec::new();
    for mut row in rows {
        let Some(old) = row.pop() else { continue };
        if spared.is_some_and(|spared| spared.contains(&row)) {
            continue;
        }
        let mut whole = vec![Value::Null; form.target.len()];
        if let Some(cell) = whole.get_mut(place.column) {
            *cell = old.clone();
        }
        let new = rewrite(form, &only(&whole, place.column), &targets);
        if let Some(new) = new.get(place.column).filter(|new| **new != old) {
            row.extend([old, new.clone()]);
            edited.push(row);
        }
    }
    let mut out = Vec::new();
    for chunk in chunks(edited.iter(), database.limits().parameter) {
        let of = form.target_table();
        let by_key = chunk.matches("t", &key);
        let name = &place.name;
        let (old, new) = (chunk.column(key.len()), chunk.column(key.len() + 1));
        out.push(with(
            format!(
                "UPDATE OR ABORT {of} AS t SET {name} = {new} FROM json_each(?1) AS j \
                 WHERE {by_key} AND (t.{name} COLLATE BINARY) = {old}"
            ),
            &chunk,
        ));
        out.push(with(
            guard(&format!(
                "(SELECT count(*) FROM json_each(?1) AS j CROSS JOIN {of} AS t ON {by_key} \
                 WHERE (t.{name} COLLATE BINARY) = {new}) <> {}",
                chunk.rows.len()
            )),
            &chunk,
        ));
    }
    Ok(out)
}

/// Takes rows out of the way, if each still is as it was read and nothing refers to it.
pub(super) fn remove(form: &Form, rows: &[Vec<Value>], limit: usize) -> Vec<Statement> {
    let mut out = Vec::new();
    for chunk in chunks(rows.iter(), limit) {
        out.push(unchanged(form, &chunk));
    }
    let keys: Vec<_> = rows.iter().map(|row| pick(row, &form.key)).collect();
    for child in &form.children {
        for chunk in chunks(keys.iter(), limit) {
            let from = from_referrers(form, child, &chunk, false);
            out.push(with(guard(&format!("EXISTS (SELECT 1 {from})")), &chunk));
        }
    }
    for chunk in chunks(keys.iter(), limit) {
        out.push(delete(form, &chunk));
    }
    out
}

/// Puts rows back that made room.
pub(super) fn put_back(form: &Form, rows: &[Vec<Value>], limit: usize) -> Vec<Statement> {
    chunks(rows.iter(), limit)
        .into_iter()
        .map(|chunk| {
            let values: Vec<_> =
                (0..form.target.len()).map(|column| chunk.column(column)).collect();
            let sql = format!(
                "INSERT OR ABORT INTO {} ({}) SELECT {} FROM json_each(?1) AS j",
                form.target_table(),
                form.target.join(", "),
                values.join(", ")
            );
            with(sql, &chunk)
        })
        .collect()
}
