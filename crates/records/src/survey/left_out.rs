//! Rows that are left out because one to which they refer is: by policy, because a person took out
//! whom it names, or in favour of a row of the target.
//!
//! What was left out is nowhere recorded, so the source is asked, from the rows up through those to
//! which they refer. Rows meet again on the way (two references to one parent, a circle), and each
//! is looked at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rehome_core::Halt;

use super::{Fate, Purpose, Surveyor};
use crate::database::Select;
use crate::json_rows::chunks;
use crate::layout::{Form, ParentAt, pick};
use crate::policy::{OnConflict, Unmapped};
use crate::resolve::resolve;
use crate::rewrite::mentions;
use crate::target_rows::take_number;
use crate::value::Value;

/// How many generations are followed to find out why a parent was left out.
pub(super) const GENERATIONS: usize = 16;

/// A number and the values of a reference.
type Numbered = (usize, Vec<Value>);

/// A table, and columns of it that are referred to.
type Place<'a> = (&'a str, &'a [String]);

/// The way up from some rows.
#[derive(Default)]
struct Way<'a> {
    /// Everything that was referred to, by table, columns and values.
    known: HashMap<(&'a str, &'a [String], Vec<Value>), usize>,
    /// For each, which others refer to it.
    below: Vec<Vec<usize>>,
    /// What has to be looked at next: by table and columns.
    next: BTreeMap<Place<'a>, (&'a ParentAt, Vec<Numbered>)>,
    out: Vec<usize>,
}

impl<'a> Way<'a> {
    /// The number of what a reference leads to; `None` when it leads nowhere by its NULL.
    fn ask(&mut self, parent: &'a ParentAt, row: &[Value], from: Option<usize>) -> Option<usize> {
        let reference = pick(row, &parent.columns);
        if reference.iter().any(Value::is_null) || !parent.carried {
            return None;
        }
        let group = (parent.table.as_str(), parent.parent_columns.as_slice());
        let new = self.below.len();
        let number = *self.known.entry((group.0, group.1, reference.clone())).or_insert(new);
        if number == new {
            self.below.push(Vec::new());
            let wanted = self.next.entry(group).or_insert_with(|| (parent, Vec::new()));
            wanted.1.push((number, reference));
        }
        if let (Some(from), Some(below)) = (from, self.below.get_mut(number)) {
            below.push(from);
        }
        Some(number)
    }

    /// Everything that is left out, with what refers to it.
    fn all_out(mut self) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        while let Some(number) = self.out.pop() {
            if all.insert(number) {
                self.out.extend(self.below.get(number).into_iter().flatten());
            }
        }
        all
    }
}

impl Surveyor {
    /// Which of these rows of the source refer to a parent that is left out.
    pub(crate) async fn left_out(
        &self,
        parent: &ParentAt,
        rows: &[impl AsRef<[Value]> + Sync],
        purpose: Purpose,
    ) -> Result<BTreeSet<usize>, Halt> {
        let some_are = self.policy.unmapped != Unmapped::Keep
            || self.layout.tables.iter().any(|table| table.on_conflict() == OnConflict::Skip);
        if !some_are {
            return Ok(BTreeSet::new());
        }
        let mut way = Way::default();
        let asked: Vec<Option<usize>> =
            rows.iter().map(|row| way.ask(parent, row.as_ref(), None)).collect();
        for _ in 0..GENERATIONS {
            if way.next.is_empty() {
                break;
            }
            for (parent, wanted) in std::mem::take(&mut way.next).into_values() {
                if let Some(above) = self.above(parent) {
                    Box::pin(self.one_up(above, parent, wanted, purpose, &mut way)).await?;
                }
            }
        }
        let out = way.all_out();
        let is_out = |one: &Option<usize>| one.is_some_and(|number| out.contains(&number));
        Ok((0..rows.len()).filter(|n| asked.get(*n).is_some_and(is_out)).collect())
    }

    /// Looks at the rows of one table to which references lead.
    async fn one_up<'a>(
        &'a self,
        above: &'a Form,
        parent: &'a ParentAt,
        wanted: Vec<Numbered>,
        purpose: Purpose,
        way: &mut Way<'a>,
    ) -> Result<(), Halt> {
        // Only what names somebody or leads further up is read; contents may be large.
        let telling = |column: usize| {
            above.ids.iter().any(|id| id.column == column)
                || above.parents.iter().any(|parent| parent.columns.contains(&column))
        };
        let read: Vec<String> = above
            .source
            .iter()
            .enumerate()
            .map(|(n, name)| if telling(n) { format!("t.{name}") } else { "NULL".to_owned() })
            .collect();
        let mut queries = Vec::new();
        let mut numbers = Vec::new();
        let limit = self.source.limits().parameter;
        for chunk in chunks(wanted.iter().map(|(_, reference)| reference), limit) {
            let on = chunk.matches("t", &parent.parent_columns);
            let columns = std::iter::once("j.key".to_owned()).chain(read.iter().cloned());
            let from =
                format!("FROM json_each(?1) AS j CROSS JOIN {} AS t ON {on}", above.source_table());
            numbers.push(chunk.rows.clone().collect::<Vec<_>>());
            queries.push(Select::new(columns, from).with(chunk.json));
        }
        let mut rows: Vec<(usize, Vec<Value>)> = Vec::new();
        for (numbers, answer) in numbers.into_iter().zip(self.source.select(queries).await?) {
            for mut row in answer {
                if let Some(place) = take_number(&mut row, &numbers) {
                    rows.push((place, row));
                }
            }
        }
        let named = rows.iter().flat_map(|(_, row)| mentions(above, row));
        let resolved = resolve(self.knowledge.as_ref(), named)?;
        let mut open = Vec::new();
        for (place, row) in rows {
            let Some((number, reference)) = wanted.get(place) else {
                continue;
            };
            let named = mentions(above, &row);
            if self.unmapped(&named, &resolved, purpose)? == Some(Fate::Skipped) {
                way.out.push(*number);
            } else {
                open.push((*number, reference.clone(), row));
            }
        }
        if above.on_conflict == OnConflict::Skip {
            let references: Vec<_> =
                open.iter().map(|(_, reference, _)| reference.clone()).collect();
            let yielded = self.yielded(above, parent, &references, purpose).await?;
            way.out.extend(yielded.iter().filter_map(|place| open.get(*place).map(|one| one.0)));
        }
        for grandparent in &above.parents {
            for (number, _, row) in &open {
                way.ask(grandparent, row, Some(*number));
            }
        }
        tracing::debug!(table = above.table, "looked for rows that are left out");
        Ok(())
    }
}
