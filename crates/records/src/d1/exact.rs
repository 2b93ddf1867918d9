//! Values that survive D1's JSON.
//!
//! Each column comes as one string whose first letter is its storage class: `i` and the decimal
//! digits, `r` and SQLite's 17 digits (`quote`), `x` and the bytes of a blob, `t` and the bytes
//! of a text, both in hexadecimal; NULL stays null. One column per value, so that a table with
//! the 100 columns that D1 allows fits its limit of 100 result columns.
//!
//! A string may not be larger than 2,000,000 bytes, so a value of more than 900,000 announces
//! its length only (`X`, `T`) and is fetched in pieces.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::answer::QueryResult;
use crate::database::{Select, Statement};
use crate::value::{Value, unhex};

/// The largest value that comes in one string.
const WHOLE: usize = 900_000;
/// D1's limit of result columns.
const COLUMNS: usize = 100;

/// A value, or the announcement of a large one.
#[derive(Debug, PartialEq)]
pub(super) enum Cell {
    Whole(Value),
    Large {
        text: bool,
        bytes: usize,
    },
    /// Anything that was not asked for in this way.
    Odd,
}

impl Cell {
    /// The cell that this string writes.
    fn of(text: &str) -> Self {
        let mut letters = text.chars();
        let tag = letters.next();
        let body = letters.as_str();
        let cell = match tag {
            Some('i') => body.parse().ok().map(|n| Self::Whole(Value::Integer(n))),
            Some('r') => body.parse().ok().map(|n| Self::Whole(Value::Real(n))),
            Some('x') => unhex(body).map(|bytes| Self::Whole(Value::Blob(bytes.into()))),
            Some('t') => unhex(body).map(|bytes| Self::Whole(Value::Text(bytes.into()))),
            Some(large @ ('X' | 'T')) => {
                body.parse().ok().map(|bytes| Self::Large { text: large == 'T', bytes })
            }
            Some(_) | None => None,
        };
        cell.unwrap_or(Self::Odd)
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

/// Reads a cell out of JSON. What is no string and not null is passed over: the answer to a
/// statement that writes may hold anything.
struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Cell;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Cell, E> {
        Ok(Cell::Whole(Value::Null))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cell, E> {
        Ok(Cell::of(text))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Cell, E> {
        Ok(Cell::Odd)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Cell, E> {
        Ok(Cell::Odd)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Cell, E> {
        Ok(Cell::Odd)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Cell, E> {
        Ok(Cell::Odd)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Cell, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Cell::Odd)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Cell, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Odd)
    }
}

fn tagged(c: &str) -> String {
    format!(
        "CASE typeof({c}) WHEN 'null' THEN NULL \
         WHEN 'integer' THEN 'i'||cast({c} as text) \
         WHEN 'real' THEN 'r'||quote({c}) \
         WHEN 'blob' THEN CASE WHEN length({c})>{WHOLE} THEN 'X'||length({c}) ELSE 'x'||hex({c}) END \
         ELSE CASE WHEN octet_length({c})>{WHOLE} THEN 'T'||octet_length({c}) \
         ELSE 't'||hex(cast({c} as blob)) END END"
    )
}

/// How many statements answer this question.
pub(super) fn parts(query: &Select) -> usize {
    query.columns.len().div_ceil(COLUMNS).max(1)
}

/// Those statements. They share a request, so they see the same rows.
pub(super) fn statements(query: &Select) -> Vec<Statement> {
    query
        .columns
        .chunks(COLUMNS)
        .map(|columns| {
            let list: Vec<_> = columns.iter().map(|column| tagged(column)).collect();
            Statement {
                sql: format!("SELECT {} {}", list.join(", "), query.rest),
                params: query.param.iter().cloned().collect(),
            }
        })
        .collect()
}

/// The rows of the answers to [`statements`].
pub(super) fn cells(query: &Select, parts: Vec<QueryResult>) -> Result<Vec<Vec<Cell>>, String> {
    let mut parts = parts.into_iter().map(|part| part.rows);
    let mut rows = parts.next().unwrap_or_default();
    for part in parts {
        if part.len() != rows.len() {
            return Err("two answers of one request differ in their rows".to_owned());
        }
        for (row, more) in rows.iter_mut().zip(part) {
            row.extend(more);
        }
    }
    let columns = query.columns.len();
    if let Some(row) = rows.iter().find(|row| row.len() != columns) {
        return Err(format!("{} values for {columns} columns", row.len()));
    }
    if rows.iter().flatten().any(|cell| *cell == Cell::Odd) {
        return Err("a value without its storage class".to_owned());
    }
    Ok(rows)
}

/// A piece of one large value: of the `row`th row, of one column, from byte `offset` on.
pub(super) fn piece(query: &Select, row: usize, column: usize, offset: usize) -> Statement {
    let expression = query.columns.get(column).map_or("NULL", String::as_str);
    Statement {
        // The offset skips rows of one span only, whose number is bounded.
        sql: format!(
            "SELECT 'x'||hex(substr(v, {}, {WHOLE})) FROM \
             (SELECT cast({expression} as blob) AS v {} ) LIMIT 1 OFFSET {row}",
            offset + 1,
            query.rest
        ),
        params: query.param.iter().cloned().collect(),
    }
}

/// The bytes that [`piece`] asked for.
pub(super) fn decode_piece(results: Vec<QueryResult>) -> Result<Arc<[u8]>, String> {
    let cell = results.into_iter().next().and_then(|result| result.rows.into_iter().next());
    match cell.and_then(|row| row.into_iter().next()) {
        Some(Cell::Whole(Value::Blob(bytes))) => Ok(bytes),
        Some(Cell::Whole(_) | Cell::Large { .. } | Cell::Odd) | None => {
            Err("a piece of a value that is none".to_owned())
        }
    }
}
