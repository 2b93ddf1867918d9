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
//!
//! A single row can stand apart from its range, at two numbers in the journal, in the same place:
//!
//! - Somebody may have a row in both databases where there can be one only: an account in both, and
//!   a row in both `users` tables. The target's row then stays and stands for ours, and whoever
//!   refers to ours attaches to it: its old key leads to the target's own.
//! - A row may come late into a range of which a part has been written, and find its key taken. It
//!   goes elsewhere alone.

mod columns;
mod room;

pub use columns::{KeyColumn, KeyColumns};
pub use room::room_for;
pub(crate) use room::{beyond, shifts};

use std::collections::BTreeMap;

use rehome_core::Halt;
use serde::{Deserialize, Serialize};

use crate::json_edit;
use crate::json_path::JsonPath;
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

/// Old keys that do not move with their table or their range, with their keys in the target.
pub(crate) type Apart = BTreeMap<i64, i64>;

/// What the journal says of the keys of one span, as the span's own key in the target:
/// `posts 2500..5000+9000` where its rows moved on their own, `users ..90@5>77,9>81` where some rows
/// stand apart, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The range of old keys, and by how much it moved if it moved on its own.
    pub(crate) range: Relocated,
    pub(crate) alone: bool,
    pub(crate) apart: Apart,
}

impl Told {
    /// As the journal has it; `None` when there is nothing to tell.
    pub(crate) fn words(&self) -> Option<String> {
        if !self.alone && self.apart.is_empty() {
            return None;
        }
        let Relocated { table, lo, hi, by } = &self.range;
        let lo = lo.map(|lo| lo.to_string()).unwrap_or_default();
        let mut words = format!("{table} {lo}..{hi}");
        if self.alone {
            words += &format!("+{by}");
        }
        let pairs: Vec<_> = self.apart.iter().map(|(old, new)| format!("{old}>{new}")).collect();
        if !pairs.is_empty() {
            words += &format!("@{}", pairs.join(","));
        }
        Some(words)
    }

    /// The reverse of [`Told::words`].
    fn from_words(words: &str) -> Option<Self> {
        let (table, rest) = words.rsplit_once(' ')?;
        let (rest, pairs) = rest.split_once('@').map_or((rest, None), |(r, p)| (r, Some(p)));
        let (lo, rest) = rest.split_once("..")?;
        let (hi, by) = rest.split_once('+').map_or((rest, None), |(hi, by)| (hi, Some(by)));
        let lo = if lo.is_empty() { None } else { Some(lo.parse().ok()?) };
        let alone = by.is_some();
        let (hi, by) = (hi.parse().ok()?, by.map_or(Some(0), |by| by.parse().ok())?);
        let pair = |pair: &str| -> Option<(i64, i64)> {
            let (old, new) = pair.split_once('>')?;
            Some((old.parse().ok()?, new.parse().ok()?))
        };
        let apart: Apart = pairs
            .into_iter()
            .flat_map(|pairs| pairs.split(','))
            .map(pair)
            .collect::<Option<_>>()?;
        let range = Relocated { table: table.to_owned(), lo, hi, by };
        (alone || !apart.is_empty()).then_some(Self { range, alone, apart })
    }
}

/// Where every old key goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves {
    pub(crate) shifts: Shifts,
    moved: Vec<Relocated>,
    apart: BTreeMap<String, Apart>,
}

impl Moves {
    /// What the journal says: how far the tables move, and the target keys of spans of which there
    /// is more to tell.
    pub(crate) fn new(shifts: Shifts, spans: &[String]) -> Result<Self, Halt> {
        let mut moves = Self { shifts, ..Self::default() };
        for words in spans {
            let Told { range, alone, apart } = Told::from_words(words)
                .ok_or_else(|| Halt::Bug(format!("the journal's key of a span: {words:?}")))?;
            moves.set_apart(&range.table, &apart);
            if alone {
                moves.moved.push(range);
            }
        }
        Ok(moves)
    }

    /// Says where single keys go.
    pub(crate) fn set_apart(&mut self, table: &str, apart: &Apart) {
        if !apart.is_empty() {
            self.apart.entry(table.to_owned()).or_default().extend(apart);
        }
    }

    /// Those of a range.
    pub(crate) fn apart(&self, range: &Relocated) -> Apart {
        let of = self.apart.get(&range.table).into_iter().flatten();
        of.filter(|(old, _)| range.holds(**old)).map(|(old, new)| (*old, *new)).collect()
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
        let apart = self.apart.get(table).and_then(|of| of.values().copied().max());
        base.max(own).max(apart)
    }

    fn new_key(&self, at: &KeyAt, key: i64) -> Option<i64> {
        let shift = self.shifts.get(&at.table)?;
        if let Some(new) = self.apart.get(&at.table).and_then(|of| of.get(&key)) {
            return Some(*new);
        }
        // No table numbers its rows from 0 down by itself: where the source does not, such a
        // value in a column that no foreign key guards is a sign of the application's.
        if !at.enforced && key <= 0 && shift.first > 0 {
            return None;
        }
        let own = self.moved.iter().find(|one| one.table == at.table && one.holds(key));
        key.checked_add(own.map_or(shift.by, |one| one.by))
    }

    /// The document with the keys at a path exchanged, each as it is written there: a number, or a
    /// string of digits. `None` when there is none.
    fn within(&self, at: &KeyAt, path: &JsonPath, text: &str) -> Option<String> {
        let mut edits = Vec::new();
        for found in json_edit::scalars(text, path)? {
            if let Some(new) = whole_number(&found.text).and_then(|key| self.new_key(at, key)) {
                let raw = if found.quoted { format!("\"{new}\"") } else { new.to_string() };
                edits.push((found.range, raw));
            }
        }
        (!edits.is_empty()).then(|| json_edit::replace_raw(text, edits))
    }

    /// The keys inside the document of a row of the source, with where they go.
    pub(crate) fn in_document(&self, at: &KeyAt, row: &[Value]) -> Vec<(i64, i64)> {
        let text = row.get(at.column).and_then(Value::as_str);
        let found =
            text.zip(at.path.as_ref()).and_then(|(text, path)| json_edit::scalars(text, path));
        let keys = found.unwrap_or_default();
        let keys = keys.iter().filter_map(|found| whole_number(&found.text));
        keys.filter_map(|key| Some((key, self.new_key(at, key)?))).collect()
    }

    /// Exchanges the keys in a row.
    pub(crate) fn apply(&self, form: &Form, row: &mut [Value]) {
        for at in &form.keys {
            let Some(cell) = row.get_mut(at.column) else {
                continue;
            };
            if let Some(path) = &at.path {
                if let Some(text) = cell.as_str().and_then(|text| self.within(at, path, text)) {
                    *cell = Value::text(text);
                }
                continue;
            }
            let new = |key: i64| self.new_key(at, key);
            *cell = match &*cell {
                Value::Integer(key) => new(*key).map(Value::Integer),
                // A reference takes part in its parent's comparison, whatever it is kept as.
                Value::Text(_) => cell
                    .as_str()
                    .and_then(whole_number)
                    .and_then(new)
                    .map(|key| Value::text(key.to_string())),
                Value::Real(real) => whole(*real).and_then(new).map(|key| Value::Real(key as f64)),
                Value::Null | Value::Blob(_) => None,
            }
            .unwrap_or_else(|| cell.clone());
        }
    }
}

/// The integer that a text spells, where it spells it as SQLite would.
fn whole_number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|key: &i64| key.to_string() == text)
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
        KeyAt { column: 0, path: None, table: "posts".to_owned(), own: false, enforced }
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
    fn keys_inside_a_document_move_as_they_are_written() {
        let path = JsonPath::parse("$.posts[*]").unwrap();
        let keys = vec![KeyAt { path: Some(path), ..at(false) }];
        let form = Form { keys, ..Form::empty("t", "t") };
        let moved = |text: &str| {
            let mut row = vec![Value::text(text)];
            moves().apply(&form, &mut row);
            row.remove(0)
        };
        let before =
            r#"{ "posts" : [1, "11", 7.0, 07, "07", 0, -1, null, {"a":1}, true], "post": 1 }"#;
        assert_eq!(moved(before), Value::text(before), "what is no JSON is left alone");
        let before = before.replace("07, \"07\"", "\"07\"");
        let after =
            r#"{ "posts" : [1001, "5011", 7.0, "07", 0, -1, null, {"a":1}, true], "post": 1 }"#;
        assert_eq!(moved(&before), Value::text(after));
    }

    #[test]
    fn a_single_key_goes_where_it_is_said_to() {
        let shifts = Shifts::from([("posts".to_owned(), Shift { by: 1000, first: 1, last: 90 })]);
        let moves = Moves::new(shifts, &["posts ..20+5000@7>3,9>-1".to_owned()]).unwrap();
        let new = |key| moves.new_key(&at(false), key);
        assert_eq!([7, 8, 9, 21].map(new), [Some(3), Some(5008), Some(-1), Some(1021)]);
        let range = Relocated { table: "posts".to_owned(), lo: Some(7), hi: 20, by: 0 };
        assert_eq!(moves.apart(&range), Apart::from([(9, -1)]));
    }

    #[test]
    fn the_words_of_a_span_read_back() {
        for words in
            ["posts 10..20+5000", "a b ..-5+7", "x -9..-1+0", "x ..9@5>7", "x 1..9+2@5>7,6>-8"]
        {
            assert_eq!(Told::from_words(words).unwrap().words().unwrap(), words);
        }
        for wrong in [
            "",
            "posts",
            "posts 1-2",
            "posts 1..2",
            "posts a..2+3",
            "x ..9@",
            "x ..9@5",
            "x ..9+@5>6",
        ] {
            assert_eq!(Told::from_words(wrong), None, "{wrong}");
        }
    }
}
