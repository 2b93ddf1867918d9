//! Rows whose parent in the target is somebody else's.
//!
//! A foreign key is satisfied by any row of that key, also by one of the application that only
//! happens to have it. Putting a row under it would give our user's data to a stranger. So a
//! parent that both databases have must be equal once the ids are exchanged (a reference within
//! a circle may still be empty). A parent that only the target has is the application's own
//! reference, and good as it is.

use std::collections::{BTreeSet, HashMap};

use futures::future::BoxFuture;
use rehome_core::{Halt, Stage};

use super::alike::same_thing;
use super::displace::completes;
use super::left_out::GENERATIONS;
use super::{Fate, Past, Planned, Purpose, Surveyor};
use crate::database::{ReadDatabase, Select, quote_name};
use crate::json_rows::chunks;
use crate::layout::{Form, Keying, ParentAt, pick};
use crate::rewrite::mentions;
use crate::span::SPAN;
use crate::target_rows::{existing, take_number};
use crate::value::Value;

/// Content of the parents that are compared at once, in bytes.
const BYTES: i64 = 500_000;

/// What a row refers to: in the source, and in the target.
pub(super) type Reference = (Vec<Value>, Vec<Value>);

/// The wait of a row whose parent is somebody else's.
pub(super) fn held(parent: &ParentAt) -> Fate {
    Fate::Held {
        code: "parent_conflict".to_owned(),
        kind: SPAN,
        key: None,
        scope: Some(parent.table.clone()),
        stage: Stage::Imported,
    }
}

impl Surveyor {
    /// Foretells which rows will be left out or held because of their parents, before any of
    /// those is in the target.
    pub(super) async fn foretell_parents(
        &self,
        form: &Form,
        planned: &mut [Planned],
    ) -> Result<(), Halt> {
        for parent in form.parents.iter().filter(|parent| parent.carried) {
            let numbers: Vec<usize> = (0..planned.len())
                .filter(|n| planned.get(*n).is_some_and(|plan| plan.fate.writes()))
                .collect();
            let plans: Vec<&Planned> = numbers.iter().filter_map(|n| planned.get(*n)).collect();
            let rows: Vec<_> = plans.iter().map(|plan| plan.source.clone()).collect();
            let references: Vec<Reference> = plans
                .iter()
                .map(|plan| (pick(&plan.source, &parent.columns), pick(&plan.row, &parent.columns)))
                .collect();
            let skipped = self.left_out(parent, &rows, Purpose::Plan).await?;
            let strange = self.strangers(parent, &references, Purpose::Plan, GENERATIONS).await?;
            for (place, number) in numbers.into_iter().enumerate() {
                if let Some(plan) = planned.get_mut(number) {
                    if skipped.contains(&place) {
                        plan.fate = Fate::Skipped;
                    } else if strange.contains(&place) && !(parent.circle && parent.nullable) {
                        plan.fate = held(parent);
                    }
                }
            }
        }
        Ok(())
    }

    /// Which of these references lead to a row of the target that is not the source's.
    pub(super) fn strangers<'a>(
        &'a self,
        parent: &'a ParentAt,
        references: &'a [Reference],
        purpose: Purpose,
        generations: usize,
    ) -> BoxFuture<'a, Result<BTreeSet<usize>, Halt>> {
        Box::pin(async move {
            let mut strange = BTreeSet::new();
            let above = self
                .layout
                .form(&parent.table, Keying::Primary)
                .or_else(|| self.layout.form(&parent.table, Keying::Rowid));
            let (Some(above), Some(generations)) = (above, generations.checked_sub(1)) else {
                return Ok(strange);
            };
            let mut who: HashMap<&Reference, Vec<usize>> = HashMap::new();
            let mut distinct: Vec<&Reference> = Vec::new();
            for (number, reference) in references.iter().enumerate() {
                if reference.0.iter().any(Value::is_null) {
                    continue;
                }
                let numbers = who.entry(reference).or_default();
                if numbers.is_empty() {
                    distinct.push(reference);
                }
                numbers.push(number);
            }
            for lot in self.lots(above, parent, &distinct).await? {
                for place in self.compare_lot(above, parent, &lot, purpose, generations).await? {
                    let numbers = lot.get(place).and_then(|reference| who.get(*reference));
                    strange.extend(numbers.into_iter().flatten());
                }
            }
            Ok(strange)
        })
    }

    /// The references whose row the source has, in lots of bounded content.
    pub(super) async fn lots<'a>(
        &self,
        above: &Form,
        parent: &ParentAt,
        references: &[&'a Reference],
    ) -> Result<Vec<Vec<&'a Reference>>, Halt> {
        let size: Vec<_> =
            above.source.iter().map(|c| format!("ifnull(octet_length(t.{c}),0)+2")).collect();
        let keys: Vec<_> = references.iter().map(|reference| reference.0.clone()).collect();
        let source = self.source.as_ref();
        let sizes = under(source, &above.table, parent, &[size.join("+")], &keys).await?;
        let mut lots = Vec::new();
        let mut lot = Vec::new();
        let mut bytes: i64 = 0;
        for (number, row) in sizes {
            let Some(reference) = references.get(number) else {
                continue;
            };
            let size = row.first().and_then(Value::as_integer).unwrap_or(0);
            if !lot.is_empty() && bytes.saturating_add(size) > BYTES {
                lots.push(std::mem::take(&mut lot));
                bytes = 0;
            }
            lot.push(*reference);
            bytes = bytes.saturating_add(size);
        }
        if !lot.is_empty() {
            lots.push(lot);
        }
        Ok(lots)
    }

    async fn compare_lot(
        &self,
        above: &Form,
        parent: &ParentAt,
        lot: &[&Reference],
        purpose: Purpose,
        generations: usize,
    ) -> Result<BTreeSet<usize>, Halt> {
        let (from, to): (Vec<_>, Vec<_>) = lot.iter().map(|one| (*one).clone()).unzip();
        let ours =
            under(self.source.as_ref(), &above.table, parent, &of_t(&above.source), &from).await?;
        let table = &above.target_table;
        let there: HashMap<usize, Vec<Value>> =
            under(self.target.as_ref(), table, parent, &of_t(&above.target), &to)
                .await?
                .into_iter()
                .collect();
        let named: Vec<_> = ours.iter().flat_map(|(_, row)| mentions(above, row)).collect();
        let resolved = self.resolve(named).await?;
        let mut strange = BTreeSet::new();
        let mut differ: Vec<(usize, Planned)> = Vec::new();
        let mut absent: Vec<(usize, Vec<Value>, Vec<Value>)> = Vec::new();
        for (place, source) in ours {
            let row = resolved.rewrite(above, &source);
            match there.get(&place) {
                None => absent.push((place, source, row)),
                Some(there) if *there == row || completes(above, there, &row) => {}
                // It was left out in favour of that row, which is the same thing.
                Some(there) if above.yields() && same_thing(above, &row, there) => {}
                Some(_) => {
                    let plan = Planned::of(above, source, row, Fate::Insert);
                    differ.push((place, plan));
                }
            }
        }
        match purpose {
            // Parents were written before: what differs now is not ours, or not ours any more.
            Purpose::Import => strange.extend(differ.into_iter().map(|(place, _)| place)),
            // What a webhook made will be replaced before; the rest will stay.
            Purpose::Plan => {
                let (places, mut plans): (Vec<_>, Vec<_>) = differ.into_iter().unzip();
                if !plans.is_empty() {
                    let rows: Vec<_> = plans.iter().map(|plan| plan.row.clone()).collect();
                    let found = existing(self.target.as_ref(), above, &rows).await?;
                    self.compare(above, &mut plans, &found, &Past::default()).await?;
                }
                for (place, plan) in places.into_iter().zip(plans) {
                    if matches!(plan.fate, Fate::Failed { .. }) {
                        strange.insert(place);
                    }
                }
                for grandparent in above.parents.iter().filter(|parent| parent.carried) {
                    let references: Vec<Reference> = absent
                        .iter()
                        .map(|(_, source, row)| {
                            (pick(source, &grandparent.columns), pick(row, &grandparent.columns))
                        })
                        .collect();
                    if references.is_empty() || (grandparent.circle && grandparent.nullable) {
                        continue;
                    }
                    let up = self.strangers(grandparent, &references, purpose, generations).await?;
                    strange.extend(up.iter().filter_map(|n| absent.get(*n).map(|one| one.0)));
                }
            }
        }
        Ok(strange)
    }
}

pub(super) fn of_t(columns: &[String]) -> Vec<String> {
    columns.iter().map(|column| format!("t.{column}")).collect()
}

/// The parents that these references lead to in one database, by the reference's number.
pub(super) async fn under(
    database: &dyn ReadDatabase,
    table: &str,
    parent: &ParentAt,
    columns: &[String],
    references: &[Vec<Value>],
) -> Result<Vec<(usize, Vec<Value>)>, Halt> {
    let mut queries = Vec::new();
    let mut ranges: Vec<Vec<usize>> = Vec::new();
    for chunk in chunks(references.iter(), database.limits().parameter) {
        let on = chunk.matches("t", &parent.parent_columns);
        ranges.push(chunk.rows.clone().collect());
        let columns = std::iter::once("j.key".to_owned()).chain(columns.iter().cloned());
        let from = format!("FROM json_each(?1) AS j CROSS JOIN {} AS t ON {on}", quote_name(table));
        queries.push(Select::new(columns, from).with(chunk.json));
    }
    let mut found = Vec::new();
    if queries.is_empty() {
        return Ok(found);
    }
    for (numbers, answer) in ranges.into_iter().zip(database.select(queries).await?) {
        for mut row in answer {
            if let Some(number) = take_number(&mut row, &numbers) {
                found.push((number, row));
            }
        }
    }
    Ok(found)
}
