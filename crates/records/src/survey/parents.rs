//! Rows whose parent is not in the target, or is there and not ours.
//!
//! A parent of the same batch will do, unless it does not come itself. Within a circle of
//! references (a table that refers to itself, two tables that refer to each other) a reference
//! that may be NULL is left empty for now and completed later, because spans are written one by
//! one; but not one to a row of the same batch that fails or waits. Otherwise the row waits for a row
//! of the parent's table; or it fails, when the parent will never come because the source lacks it
//! too, or its table is not carried. A row whose parent was left out is left out with it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rehome_core::{Halt, Stage};

use super::lots::Lot;
use super::strangers::held;
use super::{Fate, Planned, Purpose, Surveyor, index_by, show_key};
use crate::layout::{Form, ParentAt, pick};
use crate::span::SPAN;
use crate::target_rows::{Existing, missing_parents, without_parent};
use crate::value::{Row, Value};

impl Surveyor {
    pub(super) async fn parents(
        &self,
        form: &Form,
        planned: &mut [Planned],
        found: &Existing,
        lots: Vec<Lot<'_>>,
    ) -> Result<(), Halt> {
        // A row that does not come may leave another one of the batch without its parent, so
        // this goes on until nothing changes. Each round takes at least one row out or settles
        // one reference, so it ends.
        let strange = self.strange_parents(form, planned, found, lots).await?;
        let mut settled: HashSet<(usize, usize)> = HashSet::new();
        loop {
            let lost = lost(form, planned, found, &strange, &settled);
            if lost.is_empty() {
                return Ok(());
            }
            for (index, numbers) in lost {
                let Some(parent) = form.parents.get(index) else {
                    continue;
                };
                let rows: Vec<Row> = numbers
                    .iter()
                    .filter_map(|n| planned.get(*n).map(|plan| Row::clone(&plan.source)))
                    .collect();
                let dangling = self.dangling(form, parent, &rows).await?;
                // One that leads nowhere leads to nothing that could be left out.
                let (places, leading): (Vec<usize>, Vec<Row>) = rows
                    .into_iter()
                    .enumerate()
                    .filter(|(place, _)| !dangling.contains(place))
                    .unzip();
                let skipped: BTreeSet<usize> = self
                    .left_out(parent, &leading, Purpose::Import)
                    .await?
                    .into_iter()
                    .filter_map(|n| places.get(n).copied())
                    .collect();
                let below = below_who_stays_out(form, planned, parent, &numbers);
                for (place, number) in numbers.into_iter().enumerate() {
                    settled.insert((number, index));
                    let Some(plan) = planned.get_mut(number) else {
                        continue;
                    };
                    let reference = show_key(&pick(&plan.row, &parent.columns));
                    if dangling.contains(&place) && !parent.enforced {
                        // It leads nowhere in the source either, and nothing forbids that.
                    } else if dangling.contains(&place) || !parent.carried {
                        plan.fate = Fate::Failed {
                            code: "parent_missing",
                            message: format!(
                                "{} {} refers to {} {reference}, which {}",
                                form.target_table,
                                show_key(&plan.key),
                                parent.table,
                                if parent.carried {
                                    "neither database has"
                                } else {
                                    "the target lacks, and the table is not carried"
                                }
                            ),
                        };
                    } else if skipped.contains(&place) {
                        plan.fate = Fate::Skipped;
                    } else if parent.circle && parent.nullable && !below.contains(&number) {
                        for column in &parent.columns {
                            if let Some(cell) = Arc::make_mut(&mut plan.now).get_mut(*column) {
                                *cell = Value::Null;
                            }
                        }
                        plan.open = Some(parent.table.clone());
                    } else if strange.get(index).is_some_and(|set| set.contains(&number)) {
                        plan.fate = held(parent);
                    } else {
                        plan.fate = Fate::Held {
                            code: "parent_held".to_owned(),
                            kind: SPAN,
                            key: None,
                            scope: Some(parent.table.clone()),
                            stage: Stage::Imported,
                        };
                    }
                }
            }
        }
    }

    /// For each foreign key, the rows to be written whose parent in the target is not ours.
    async fn strange_parents(
        &self,
        form: &Form,
        planned: &[Planned],
        found: &Existing,
        lots: Vec<Lot<'_>>,
    ) -> Result<Vec<HashSet<usize>>, Halt> {
        let mut strange = vec![HashSet::new(); form.parents.len()];
        for lot in lots {
            let index = lot.number;
            let missing = found.no_parent.get(index);
            let matters = |number: &usize| {
                planned.get(*number).is_some_and(|plan| plan.fate.writes())
                    && !missing.is_some_and(|missing| missing.contains(number))
            };
            if !lot.who.iter().flatten().any(matters) {
                continue;
            }
            let below = self.below_strangers(lot).await?;
            if let Some(strange) = strange.get_mut(index) {
                strange.extend(below.into_iter().filter(matters));
            }
        }
        Ok(strange)
    }

    /// Which of these rows of the source refer to a parent that the source lacks too.
    async fn dangling(
        &self,
        form: &Form,
        parent: &ParentAt,
        rows: &[Row],
    ) -> Result<BTreeSet<usize>, Halt> {
        let mut found = BTreeSet::new();
        if !parent.carried || rows.is_empty() {
            return Ok(found);
        }
        let limit = self.source.limits().parameter;
        let (who, queries): (Vec<_>, Vec<_>) =
            missing_parents(parent, rows, &parent.columns, limit).into_iter().unzip();
        tracing::debug!(table = form.table, rows = rows.len(), "rows without a parent");
        for (who, answer) in who.iter().zip(self.source.select(queries).await?) {
            found.extend(without_parent(who, answer));
        }
        Ok(found)
    }
}

/// Which of these rows refer to a row of the batch that does not come: they wait for it, whether or
/// not their reference could be left empty meanwhile.
fn below_who_stays_out(
    form: &Form,
    planned: &[Planned],
    parent: &ParentAt,
    numbers: &[usize],
) -> HashSet<usize> {
    let columns = (parent.table == form.target_table)
        .then(|| positions(form, &parent.parent_columns))
        .flatten();
    let Some(columns) = columns else { return HashSet::new() };
    let batch = index_by(planned, &columns);
    let stays_out = |number: &&usize| {
        let reference = planned.get(**number).map(|plan| pick(&plan.row, &parent.columns));
        let above = reference.and_then(|reference| batch.get(&reference));
        above.is_some_and(|(_, above)| !above.fate.writes())
    };
    numbers.iter().filter(stays_out).copied().collect()
}

/// For each foreign key, the rows to be written whose parent is neither in the target, as ours,
/// nor comes with this batch.
fn lost(
    form: &Form,
    planned: &[Planned],
    found: &Existing,
    strange: &[HashSet<usize>],
    settled: &HashSet<(usize, usize)>,
) -> HashMap<usize, Vec<usize>> {
    let mut lost: HashMap<usize, Vec<usize>> = HashMap::new();
    for (index, parent) in form.parents.iter().enumerate() {
        let Some(missing) = found.no_parent.get(index) else {
            continue;
        };
        let here = (parent.table == form.target_table)
            .then(|| positions(form, &parent.parent_columns))
            .flatten();
        let batch = here.map(|columns| index_by(planned, &columns));
        let mut numbers: Vec<_> = missing
            .iter()
            .chain(strange.get(index).into_iter().flatten())
            .copied()
            .filter(|number| !settled.contains(&(*number, index)))
            .filter(|number| {
                let Some(plan) = planned.get(*number).filter(|plan| plan.fate.writes()) else {
                    return false;
                };
                let comes = batch
                    .as_ref()
                    .and_then(|batch| batch.get(&pick(&plan.row, &parent.columns)))
                    .is_some_and(|(_, parent)| parent.fate.writes());
                !comes
            })
            .collect();
        if !numbers.is_empty() {
            numbers.sort_unstable();
            lost.insert(index, numbers);
        }
    }
    lost
}

pub(super) fn positions(form: &Form, columns: &[String]) -> Option<Vec<usize>> {
    columns
        .iter()
        .map(|name| form.target.iter().rposition(|column| column.eq_ignore_ascii_case(name)))
        .collect()
}
