//! Values that survive D1's JSON.
//!
//! Each column comes as one string whose first letter is its storage class: `i` and the decimal
//! digits, `r` and SQLite's 17 digits (`quote`), `x` and the bytes of a blob, `t` and the bytes
//! of a text, both in hexadecimal; NULL stays null. One column per value, so that a table with
//! the 100 columns that D1 allows fits its limit of 100 result columns.
//!
//! A string may not be larger than 2,000,000 bytes, so a value of more than 900,000 announces
//! its length only (`X`, `T`) and is fetched in pieces.

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
    Large { text: bool, bytes: usize },
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

/// The cells of the answers to [`statements`].
pub(super) fn cells(query: &Select, parts: Vec<QueryResult>) -> Result<Vec<Vec<Cell>>, String> {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        if number > 0 && part.rows.len() != rows.len() {
            return Err("two answers of one request differ in their rows".to_owned());
        }
        for (index, raw) in part.rows.iter().enumerate() {
            if number == 0 {
                rows.push(Vec::with_capacity(query.columns.len()));
            }
            let Some(row) = rows.get_mut(index) else {
                continue;
            };
            for value in raw {
                row.push(decode(value)?);
            }
        }
    }
    match rows.iter().find(|row| row.len() != query.columns.len()) {
        Some(row) => Err(format!("{} values for {} columns", row.len(), query.columns.len())),
        None => Ok(rows),
    }
}

fn decode(raw: &serde_json::Value) -> Result<Cell, String> {
    let text = match raw {
        serde_json::Value::Null => return Ok(Cell::Whole(Value::Null)),
        serde_json::Value::String(text) => text,
        serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => return Err("a value that is not a string".to_owned()),
    };
    let mut letters = text.chars();
    let tag = letters.next();
    let body = letters.as_str();
    let cell = match tag {
        Some('i') => body.parse().ok().map(|n| Cell::Whole(Value::Integer(n))),
        Some('r') => body.parse().ok().map(|n| Cell::Whole(Value::Real(n))),
        Some('x') => unhex(body).map(|bytes| Cell::Whole(Value::Blob(bytes))),
        Some('t') => unhex(body).map(|bytes| Cell::Whole(Value::Text(bytes))),
        Some(large @ ('X' | 'T')) => {
            body.parse().ok().map(|bytes| Cell::Large { text: large == 'T', bytes })
        }
        Some(_) | None => None,
    };
    cell.ok_or_else(|| "a value without its storage class".to_owned())
}

/// A piece of one large value: of the `row`th row, of one column, from byte `offset` on.
pub(super) fn piece(query: &Select, row: usize, column: usize, offset: usize) -> Statement {
    let expression = query.columns.get(column).map_or("NULL", String::as_str);
    Statement {
        // The offset skips rows of one span only, whose number is bounded.
        sql: format!(
            "SELECT hex(substr(v, {}, {WHOLE})) FROM \
             (SELECT cast({expression} as blob) AS v {} ) LIMIT 1 OFFSET {row}",
            offset + 1,
            query.rest
        ),
        params: query.param.iter().cloned().collect(),
    }
}

/// The bytes that [`piece`] asked for.
pub(super) fn decode_piece(results: &[QueryResult]) -> Result<Vec<u8>, String> {
    results
        .first()
        .and_then(|result| result.rows.first())
        .and_then(|row| row.first())
        .and_then(serde_json::Value::as_str)
        .and_then(unhex)
        .ok_or_else(|| "a piece of a value that is not hexadecimal".to_owned())
}
