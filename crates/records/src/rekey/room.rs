//! How far keys have to move so that they stand beyond everything that the target has.

use rehome_core::Halt;

use super::{Shift, Shifts};
use crate::database::{ReadDatabase, Select, quote_name};
use crate::layout::{Form, Layout};
use crate::value::Value;

/// How many keys of the target's own may come between what is there and what is to come, before
/// the first collision.
const GAP: i64 = 1_000;

/// Shifts are multiples of this, so that a person sees the old key in the new one.
const ROUND: i64 = 1_000;

/// What has to be added to keys from `first` on, so that they begin beyond `highest` with a gap;
/// nothing when the target has no key. `None` when there is no room left.
fn place(first: i64, highest: Option<i64>) -> Option<i64> {
    let Some(highest) = highest else {
        return Some(0);
    };
    let needed = highest.checked_add(GAP + 1)?.checked_sub(first)?;
    if needed <= 0 {
        return Some(0);
    }
    needed.checked_add(ROUND - 1).map(|up| up / ROUND * ROUND)
}

/// The question for the largest key of a table, and for where its counter stands.
fn highest(form: &Form) -> Vec<Select> {
    let key = form.target_key().concat();
    let mut queries =
        vec![Select::new([format!("max(t.{key})")], format!("FROM {} AS t", form.target_table()))];
    if form.counter.is_some() {
        let name = Value::text(form.target_table.clone()).to_sql();
        queries.push(Select::new(
            ["max(s.seq)"],
            format!("FROM sqlite_sequence AS s WHERE s.name = {name}"),
        ));
    }
    queries
}

fn numbers(rows: &[Vec<Value>]) -> Vec<Option<i64>> {
    rows.first().map(|row| row.iter().map(Value::as_integer).collect()).unwrap_or_default()
}

/// What has to be added to keys of a table from `first` to `last`, so that they stand beyond its
/// rows and its counter in the target, and beyond `taken`; `None` when there is no room left.
pub(crate) async fn beyond(
    target: &dyn ReadDatabase,
    form: &Form,
    (first, last): (i64, i64),
    taken: Option<i64>,
) -> Result<Option<i64>, Halt> {
    let answers = target.select(highest(form)).await?;
    let there = answers.iter().flat_map(|rows| numbers(rows)).flatten().max();
    let by = place(first, there.max(taken));
    Ok(by.filter(|by| last.checked_add(*by).is_some()))
}

/// Whether every rekeyed table of the layout finds room in the target.
///
/// # Errors
/// [`Halt::Refused`], with the reason, when one does not; or when a database cannot be read.
pub async fn room_for(
    layout: &Layout,
    source: &dyn ReadDatabase,
    target: &dyn ReadDatabase,
) -> Result<(), Halt> {
    shifts(layout, source, target).await.map(drop)
}

/// Why keys from `first` to `last` find no room: already beyond a target that has hardly any, or only
/// beyond this one.
fn no_room((first, last): (i64, i64)) -> String {
    let fits = place(first, Some(0)).is_some_and(|by| last.checked_add(by).is_some());
    if fits {
        return "the largest one of the target leaves no room".to_owned();
    }
    format!("those of the source reach from {first} to {last}, and leave no room")
}

/// How far each rekeyed table of the layout has to move, as both databases stand now.
pub(crate) async fn shifts(
    layout: &Layout,
    source: &dyn ReadDatabase,
    target: &dyn ReadDatabase,
) -> Result<Shifts, Halt> {
    let mut shifts = Shifts::new();
    let forms: Vec<&Form> = layout.tables.iter().filter_map(|table| table.rekeyed()).collect();
    if forms.is_empty() {
        return Ok(shifts);
    }
    let ranges = forms
        .iter()
        .map(|form| {
            let key = form.source_key().concat();
            let ends = [format!("min(t.{key})"), format!("max(t.{key})")];
            Select::new(ends, format!("FROM {} AS t", quote_name(&form.table)))
        })
        .collect();
    let ranges = source.select(ranges).await?;
    for (form, range) in forms.into_iter().zip(ranges) {
        let (first, last) = match numbers(&range).as_slice() {
            [Some(first), Some(last)] => (*first, *last),
            _ => (1, 0),
        };
        let by = beyond(target, form, (first, last), None).await?.ok_or_else(|| Halt::Refused {
            message: format!("{} cannot get new keys: {}", form.table, no_room((first, last))),
            hint: "choose another answer for it in [records.on_conflict]".to_owned(),
        })?;
        shifts.insert(form.table.clone(), Shift { by, first, last });
    }
    Ok(shifts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_to_stand_beyond_with_a_gap_and_readable() {
        assert_eq!(place(1, None), Some(0));
        assert_eq!(place(1, Some(3)), Some(2000));
        assert_eq!(place(1, Some(0)), Some(1000));
        assert_eq!(place(5000, Some(3)), Some(0));
        assert_eq!(place(1004, Some(3)), Some(0));
        assert_eq!(place(1003, Some(3)), Some(1000));
        assert_eq!(place(-7, Some(-9)), Some(1000));
        assert_eq!(place(1, Some(i64::MAX)), None);
        assert_eq!(place(i64::MIN, Some(5)), None);
    }

    #[test]
    fn the_reason_for_no_room_is_the_true_one() {
        for source in [(1, i64::MAX), (i64::MIN, 5), (1, i64::MAX - 3)] {
            assert!(no_room(source).contains("of the source"), "{source:?}");
        }
        assert!(no_room((1, 500)).contains("of the target"));
    }
}
