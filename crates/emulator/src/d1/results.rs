//! Results as D1 prints them: rows in one of two shapes, then the figures about the statement.
//!
//! The text is written directly, because JavaScript's spelling of numbers is part of what is emulated
//! and no JSON library for Rust spells them so.

use std::fmt::Write as _;

use rusqlite::types::ValueRef;

use super::errors::SqlError;
use super::values;

/// How `results` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `/query`: an array of objects.
    Objects,
    /// `/raw`: `{columns, rows}`.
    Raw,
}

/// Steps a statement to its end and appends its rows; returns how many there were.
pub(crate) fn rows(
    statement: &mut rusqlite::Statement<'_>,
    shape: Shape,
    out: &mut String,
) -> Result<u64, SqlError> {
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let (order, labels): (Vec<usize>, Vec<String>) = match shape {
        Shape::Raw => ((0..names.len()).collect(), Vec::new()),
        Shape::Objects => {
            let order = values::object_order(&names);
            let labels = order
                .iter()
                .map(|&position| {
                    let mut label = String::new();
                    values::write_string(
                        &mut label,
                        names.get(position).map_or("", String::as_str),
                    );
                    label.push(':');
                    label
                })
                .collect();
            (order, labels)
        }
    };
    if shape == Shape::Raw {
        out.push_str("{\"columns\":[");
        for (at, name) in names.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            values::write_string(out, name);
        }
        out.push_str("],\"rows\":");
    }
    let (open, close) = match shape {
        Shape::Raw => ('[', ']'),
        Shape::Objects => ('{', '}'),
    };
    out.push('[');
    let mut delivered = 0;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        if delivered > 0 {
            out.push(',');
        }
        delivered += 1;
        out.push(open);
        for (at, &position) in order.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(labels.get(at).map_or("", String::as_str));
            values::write_value(out, row.get_ref(position)?);
        }
        out.push(close);
    }
    out.push(']');
    if shape == Shape::Raw {
        out.push('}');
    }
    Ok(delivered)
}

/// The figures D1 adds to each result.
pub(crate) struct Meta {
    /// Time the statement took.
    pub(crate) milliseconds: f64,
    /// Rows changed, triggers included.
    pub(crate) changes: u64,
    /// SQLite's last rowid.
    pub(crate) last_row_id: i64,
    /// Whether anything changed.
    pub(crate) changed: bool,
    /// Size of the database, in bytes.
    pub(crate) size_after: u64,
    /// Rows delivered or steps of full scans, whichever is more. D1 counts inside the engine; this
    /// is close for pages by key and for scans.
    pub(crate) rows_read: u64,
    /// Rows and index entries written.
    pub(crate) rows_written: u64,
}

impl Meta {
    /// Appends the rest of a result, from `success` on.
    pub(crate) fn write(&self, out: &mut String) {
        let mut duration = String::new();
        values::write_number(&mut duration, self.milliseconds);
        let mut last_row_id = String::new();
        // The same loss as for any integer of a row.
        values::write_value(&mut last_row_id, ValueRef::Integer(self.last_row_id));
        let Self { changes, changed, size_after, rows_read, rows_written, .. } = self;
        // Writing into a String cannot fail.
        let _infallible = write!(
            out,
            ",\"success\":true,\"meta\":{{\"served_by\":\"rehome-emulator\",\
             \"served_by_region\":\"WEUR\",\"served_by_colo\":\"AMS\",\"served_by_primary\":true,\
             \"timings\":{{\"sql_duration_ms\":{duration}}},\"duration\":{duration},\
             \"changes\":{changes},\"last_row_id\":{last_row_id},\"changed_db\":{changed},\
             \"size_after\":{size_after},\"rows_read\":{rows_read},\
             \"rows_written\":{rows_written},\"total_attempts\":1}}}}",
        );
    }
}
