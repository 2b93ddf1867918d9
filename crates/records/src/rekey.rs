//! New keys for tables whose integers mean something else in the target (`rekey`).
//!
//! Row 5 of one database is not row 5 of the other. Where a person says so, all rows of a table
//! move beyond everything that the target has: `new = old + by`, one number for the whole table,
//! decided once, before its first row is written, and kept in the journal with the pages of spans
//! (see [`crate::span`]). No row needs an entry of its own: whoever meets an old key, be it the
//! row's own or a reference to it, adds the number of its table. Which columns hold such keys is
//! worked out from the schema (see [`KeyColumns`]).
//!
//! The target lives on meanwhile, and its application may take a key that was meant for a row of
//! ours. The request that would write ours is then refused as a whole, and the span moves on its
//! own, beyond everything that is there by then, provided nothing of it has been written. How far
//! it moved stands in its intent, and as the span's own key in the target once it is there: one
//! number per collision. Collisions are made rare: by a gap; by raising the target's AUTOINCREMENT
//! counter with the first rows; and, where there is none, by writing a table's last rows first,
//! because SQLite numbers new rows from the largest key on.

mod columns;
mod room;

pub use columns::{KeyColumn, KeyColumns};
pub(crate) use room::{beyond, shifts};

use std::collections::BTreeMap;

use rehome_core::Halt;
use serde::{Deserialize, Serialize};

use crate::layout::{Form, KeyAt};
use crate::span::{SpanData, key_from_json};
use crate::value::Value;

/// How far the keys of one table move. Written as `[by, first, last]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, i64, i64)", into = "(i64, i64, i64)")]
pub struct Shift {
    /// What is added.
    pub by: i64,
    /// The smallest key of the source when that was decided; 1 when it had no row.
    pub first: i64,
    /// The largest one; 0 when it had no row.
    pub last: i64,
}

impl From<(i64, i64, i64)> for Shift {
    fn from((by, first, last): (i64, i64, i64)) -> Self {
        Self { by, first, last }
    }
}

impl From<Shift> for (i64, i64, i64) {
    fn from(shift: Shift) -> Self {
        (shift.by, shift.first, shift.last)
    }
}

/// How far each table's keys move, by the table as the source spells it.
pub type Shifts = BTreeMap<String, Shift>;

/// Where the keys of a range of rows went that had to move on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relocated {
    pub(crate) table: String,
    /// The old key after which the range begins.
    pub(crate) lo: Option<i64>,
    /// The last old key.
    pub(crate) hi: i64,
    pub(crate) by: i64,
}

impl Relocated {
    /// The rows of a span, moved by so much; `None` for a span that has no integer key.
    pub(crate) fn span(span: &SpanData, by: i64) -> Result<Option<Self>, Halt> {
        let one = |key: &[serde_json::Value]| -> Result<Option<i64>, Halt> {
            Ok(key_from_json(key)?.first().and_then(Value::as_integer))
        };
        let lo = span.lo.as_deref().map(one).transpose()?.flatten();
        let table = span.table.clone();
        Ok(one(&span.hi)?.map(|hi| Self { table, lo, hi, by }))
    }

    /// As it stands in the journal as the key of a span in the target: `posts 2500..5000+9000`.
    pub(crate) fn words(&self) -> String {
        let lo = self.lo.map(|lo| lo.to_string()).unwrap_or_default();
        format!("{} {lo}..{}+{}", self.table, self.hi, self.by)
    }

    /// The reverse of [`Relocated::words`].
    fn from_words(words: &str) -> Option<Self> {
        let (table, range) = words.rsplit_once(' ')?;
        let (lo, rest) = range.split_once("..")?;
        let (hi, by) = rest.split_once('+')?;
        let lo = if lo.is_empty() { None } else { Some(lo.parse().ok()?) };
        let (hi, by) = (hi.parse().ok()?, by.parse().ok()?);
        Some(Self { table: table.to_owned(), lo, hi, by })
    }

    /// The same range, moved by so much.
    pub(crate) fn by(&self, by: i64) -> Self {
        Self { by, ..self.clone() }
    }

    pub(crate) fn holds(&self, key: i64) -> bool {
        self.lo.is_none_or(|lo| key > lo) && key <= self.hi
    }

    /// The largest key of the range in the target.
    pub(crate) fn end(&self) -> i64 {
        self.hi.saturating_add(self.by)
    }
}

/// Where every old key goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves {
    pub(crate) shifts: Shifts,
    moved: Vec<Relocated>,
}

impl Moves {
    /// What the journal says: how far the tables move, and the target keys of spans that moved on
    /// their own.
    pub(crate) fn new(shifts: Shifts, spans: &[String]) -> Result<Self, Halt> {
        let read = |words: &String| {
            Relocated::from_words(words)
                .ok_or_else(|| Halt::Bug(format!("the journal's key of a span: {words:?}")))
        };
        Ok(Self { shifts, moved: spans.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Puts a range where it is meant to go now, whatever was said of it before.
    pub(crate) fn put(&mut self, range: Relocated) {
        self.take_back(&range);
        self.moved.push(range);
    }

    /// Lets a range go with its table.
    pub(crate) fn take_back(&mut self, range: &Relocated) {
        self.moved.retain(|one| one.table != range.table || one.hi != range.hi);
    }

    /// The largest key that the rows of a table may have in the target, as far as is known.
    pub(crate) fn end(&self, table: &str) -> Option<i64> {
        let base = self.shifts.get(table).map(|shift| shift.last.saturating_add(shift.by));
        let own = self.moved.iter().filter(|one| one.table == table).map(Relocated::end).max();
        base.max(own)
    }

    fn new_key(&self, at: &KeyAt, key: i64) -> Option<i64> {
        let shift = self.shifts.get(&at.table)?;
        // No table numbers its rows from 0 down by itself: where the source does not, such a
        // value in a column that no foreign key guards is a sign of the application's.
        if !at.enforced && key <= 0 && shift.first > 0 {
            return None;
        }
        let own = self.moved.iter().find(|one| one.table == at.table && one.holds(key));
        key.checked_add(own.map_or(shift.by, |one| one.by))
    }

    /// Exchanges the keys in a row.
    pub(crate) fn apply(&self, form: &Form, row: &mut [Value]) {
        for at in &form.keys {
            let Some(cell) = row.get_mut(at.column) else {
                continue;
            };
            let new = |key: i64| self.new_key(at, key);
            *cell = match &*cell {
                Value::Integer(key) => new(*key).map(Value::Integer),
                // A reference takes part in its parent's comparison, whatever it is kept as.
                Value::Text(_) => cell
                    .as_str()
                    .and_then(|text| text.parse().ok().filter(|key: &i64| key.to_string() == text))
                    .and_then(new)
                    .map(|key| Value::text(key.to_string())),
                Value::Real(real) => whole(*real).and_then(new).map(|key| Value::Real(key as f64)),
                Value::Null | Value::Blob(_) => None,
            }
            .unwrap_or_else(|| cell.clone());
        }
    }
}

/// The integer that a real stands for, where doubles have no gaps.
fn whole(real: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (real.fract() == 0.0 && real.abs() < EXACT).then_some(real as i64)
}

/// What the cursor of spans says of shifts.
#[derive(Deserialize)]
struct OfCursor {
    #[serde(default)]
    shifts: Shifts,
}

/// The shifts that stand in the journaled cursor of spans.
pub(crate) fn of_cursor(cursor: serde_json::Value) -> Result<Shifts, Halt> {
    serde_json::from_value::<OfCursor>(cursor)
        .map(|cursor| cursor.shifts)
        .map_err(|error| Halt::Bug(format!("the cursor of spans: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves() -> Moves {
        let shifts = Shifts::from([("posts".to_owned(), Shift { by: 1000, first: 1, last: 90 })]);
        let spans = ["posts 10..20+5000".to_owned(), "a b ..-5+7".to_owned()];
        Moves::new(shifts, &spans).unwrap()
    }

    fn at(enforced: bool) -> KeyAt {
        KeyAt { column: 0, table: "posts".to_owned(), own: false, enforced }
    }

    fn applied(value: Value, enforced: bool) -> Value {
        let form = Form { keys: vec![at(enforced)], ..Form::empty("t", "t") };
        let mut row = vec![value];
        moves().apply(&form, &mut row);
        row.remove(0)
    }

    #[test]
    fn a_key_moves_with_its_table_or_with_its_range() {
        for (old, new) in [(1, 1001), (10, 1010), (11, 5011), (20, 5020), (21, 1021), (99, 1099)] {
            assert_eq!(applied(Value::Integer(old), true), Value::Integer(new));
        }
        assert_eq!(moves().end("posts"), Some(5020));
        assert_eq!(moves().end("users"), None);
    }

    #[test]
    fn a_reference_keeps_the_class_in_which_it_is_kept() {
        assert_eq!(applied(Value::text("7"), true), Value::text("1007"));
        assert_eq!(applied(Value::text("07"), true), Value::text("07"));
        assert_eq!(applied(Value::Real(7.0), true), Value::Real(1007.0));
        assert_eq!(applied(Value::Real(7.5), true), Value::Real(7.5));
        assert_eq!(applied(Value::Null, true), Value::Null);
        assert_eq!(applied(Value::Integer(i64::MAX), true), Value::Integer(i64::MAX));
    }

    #[test]
    fn zero_where_no_foreign_key_is_means_nobody() {
        assert_eq!(applied(Value::Integer(0), false), Value::Integer(0));
        assert_eq!(applied(Value::Integer(-1), false), Value::Integer(-1));
        assert_eq!(applied(Value::Integer(0), true), Value::Integer(1000));
        assert_eq!(applied(Value::Integer(3), false), Value::Integer(1003));
    }

    #[test]
    fn the_words_of_a_span_read_back() {
        for words in ["posts 10..20+5000", "a b ..-5+7", "x -9..-1+0"] {
            assert_eq!(Relocated::from_words(words).unwrap().words(), words);
        }
        for wrong in ["", "posts", "posts 1-2", "posts 1..2", "posts a..2+3"] {
            assert_eq!(Relocated::from_words(wrong), None, "{wrong}");
        }
    }
}
