//! The one atomic request that takes rows back.
//!
//! In order: foreign keys deferred; guards that every row is as it was read a moment ago; guards
//! that no row refers to those that go but those that go with them, *before* anything is deleted,
//! so that an ON DELETE CASCADE or SET NULL cannot hide what it would reach; the rows that go;
//! the rows that become others; the rows that are put back; and guards that all of it is so and
//! that no reference leads nowhere. A guard that does not hold rolls the whole back. No trigger fires
//! (see [`crate::quiet`]).

use super::look::from_referrers;
use crate::database::{Limits, Statement, guard};
use crate::import::statements::{delete, settled, unchanged, update, with};
use crate::json_rows::chunks;
use crate::layout::{Form, pick};
use crate::quiet::quietly;
use crate::value::Value;

/// What happens to rows of one table.
#[derive(Default)]
pub(super) struct Undoing {
    /// Whole rows as they were read, which go.
    pub(super) remove: Vec<Vec<Value>>,
    /// Whole rows as they were read, and what they become.
    pub(super) update: Vec<(Vec<Value>, Vec<Value>)>,
    /// Whole rows that come.
    pub(super) insert: Vec<Vec<Value>>,
}

impl Undoing {
    /// Whether nothing happens.
    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.update.is_empty() && self.insert.is_empty()
    }
}

/// The first statement of every request.
pub(super) fn deferred() -> Statement {
    Statement::new("PRAGMA defer_foreign_keys = on")
}

/// The statements for one table.
pub(super) fn statements(form: &Form, undoing: &Undoing, limits: Limits) -> Vec<Statement> {
    let limit = limits.parameter;
    let Undoing { remove, update: changing, insert } = undoing;
    let keys = |rows: &[Vec<Value>]| -> Vec<Vec<Value>> {
        rows.iter().map(|row| pick(row, &form.key)).collect()
    };
    let mut out = Vec::new();
    for chunk in chunks(remove.iter().chain(changing.iter().map(|(was, _)| was)), limit) {
        out.push(unchanged(form, &chunk));
    }
    let going = keys(remove);
    for child in &form.children {
        for chunk in chunks(going.iter(), limit) {
            let from = from_referrers(form, child, &chunk, true);
            out.push(with(guard(&format!("EXISTS (SELECT 1 {from})")), &chunk));
        }
        // Whoever refers to a value that changes would be changed with it, or torn off.
        let moving: Vec<_> = changing
            .iter()
            .filter(|(was, becomes)| pick(was, &child.columns) != pick(becomes, &child.columns))
            .map(|(was, _)| pick(was, &form.key))
            .collect();
        for chunk in chunks(moving.iter(), limit) {
            let from = from_referrers(form, child, &chunk, false);
            out.push(with(guard(&format!("EXISTS (SELECT 1 {from})")), &chunk));
        }
    }
    for chunk in chunks(going.iter(), limit) {
        out.push(delete(form, &chunk));
    }
    for chunk in chunks(changing.iter().map(|(_, becomes)| becomes), limit) {
        out.extend(update(form, &chunk));
    }
    for chunk in chunks(insert.iter(), limit) {
        let values: Vec<_> = (0..form.target.len()).map(|column| chunk.column(column)).collect();
        out.push(with(
            format!(
                "INSERT OR ABORT INTO {} ({}) SELECT {} FROM json_each(?1) AS j",
                form.target_table(),
                form.target.join(", "),
                values.join(", ")
            ),
            &chunk,
        ));
    }
    let coming = keys(insert);
    let away: Vec<_> = going.iter().filter(|key| !coming.contains(key)).collect();
    for chunk in chunks(away, limit) {
        let on = chunk.matches("t", &form.target_key());
        out.push(with(
            guard(&format!(
                "EXISTS (SELECT 1 FROM json_each(?1) AS j CROSS JOIN {} AS t ON {on})",
                form.target_table()
            )),
            &chunk,
        ));
    }
    for chunk in chunks(changing.iter().map(|(_, becomes)| becomes).chain(insert), limit) {
        out.push(unchanged(form, &chunk));
    }
    let stay: Vec<_> =
        changing.iter().map(|(_, becomes)| pick(becomes, &form.key)).chain(coming).collect();
    for chunk in chunks(stay.iter(), limit) {
        out.extend(settled(form, &chunk));
    }
    quietly(form, out)
}
