//! Rows whose parent is not in the target, or is there and not ours.
//!
//! A parent of the same batch will do, unless it does not come itself. Within a circle of
//! references (a table that refers to itself, two tables that refer to each other) a reference
//! that may be NULL is left empty for now and completed later, because spans are written one by
//! one. Otherwise the row waits for a row of the parent's table; or it fails, when the parent
//! will never come because the source lacks it too, or its table is not carried. A row whose
//! parent was left out is left out with it.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::future::BoxFuture;
use rehome_core::{Halt, Stage};

use super::strangers::{Reference, held};
use super::{Fate, Planned, Purpose, Surveyor, index_by, show_key};
use crate::database::Select;
use crate::json_rows::chunks;
use crate::layout::{Form, Keying, ParentAt, pick};
use crate::policy::{OnConflict, Unmapped};
use crate::resolve::resolve;
use crate::rewrite::mentions;
use crate::span::SPAN;
use crate::target_rows::{Existing, missing_parents, take_number};
use crate::value::Value;

/// How many generations are followed to find out why a parent was left out.
pub(super) const GENERATIONS: usize = 16;

impl Surveyor {
    pub(super) async fn parents(
        &self,
        form: &Form,
        planned: &mut [Planned],
        found: &Existing,
    ) -> Result<(), Halt> {
        // A row that does not come may leave another one of the batch without its parent, so
        // this goes on until nothing changes. Each round takes at least one row out or settles
        // one reference, so it ends.
        let strange = self.strange_parents(form, planned, found).await?;
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
                let rows: Vec<_> = numbers
                    .iter()
                    .filter_map(|n| planned.get(*n).map(|plan| plan.source.clone()))
                    .collect();
                let dangling = self.dangling(form, parent, &rows).await?;
                let skipped = self.left_out(form, parent, &rows, Purpose::Import).await?;
                for (place, number) in numbers.into_iter().enumerate() {
                    settled.insert((number, index));
                    let Some(plan) = planned.get_mut(number) else {
                        continue;
                    };
                    let reference = show_key(&pick(&plan.row, &parent.columns));
                    if dangling.contains(&place) || !parent.carried {
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
                    } else if parent.circle && parent.nullable {
                        for column in &parent.columns {
                            if let Some(cell) = plan.now.get_mut(*column) {
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
    ) -> Result<Vec<HashSet<usize>>, Halt> {
        let mut strange = vec![HashSet::new(); form.parents.len()];
        for ((parent, missing), strange) in
            form.parents.iter().zip(&found.no_parent).zip(&mut strange)
        {
            if !parent.carried {
                continue;
            }
            let (numbers, references): (Vec<usize>, Vec<Reference>) = planned
                .iter()
                .enumerate()
                .filter(|(number, plan)| plan.fate.writes() && !missing.contains(number))
                .map(|(number, plan)| {
                    let of = |row: &[Value]| pick(row, &parent.columns);
                    (number, (of(&plan.source), of(&plan.row)))
                })
                .unzip();
            let found = self.strangers(parent, &references, Purpose::Import, GENERATIONS).await?;
            strange.extend(found.iter().filter_map(|place| numbers.get(*place).copied()));
        }
        Ok(strange)
    }

    /// Which of these rows of the source refer to a parent that the source lacks too.
    async fn dangling(
        &self,
        form: &Form,
        parent: &ParentAt,
        rows: &[Vec<Value>],
    ) -> Result<BTreeSet<usize>, Halt> {
        let mut found = BTreeSet::new();
        if !parent.carried || rows.is_empty() {
            return Ok(found);
        }
        let limit = self.source.limits().parameter;
        let (numbers, queries): (Vec<_>, Vec<_>) =
            missing_parents(parent, rows, &parent.columns, limit).into_iter().unzip();
        tracing::debug!(table = form.table, rows = rows.len(), "rows without a parent");
        for (numbers, answer) in numbers.into_iter().zip(self.source.select(queries).await?) {
            for mut row in answer {
                found.extend(take_number(&mut row, &numbers));
            }
        }
        Ok(found)
    }

    /// Which of these rows of the source refer to a parent that is left out.
    pub(crate) async fn left_out(
        &self,
        form: &Form,
        parent: &ParentAt,
        rows: &[Vec<Value>],
        purpose: Purpose,
    ) -> Result<BTreeSet<usize>, Halt> {
        let some_are = self.policy.unmapped != Unmapped::Keep
            || self.layout.tables.iter().any(|table| table.on_conflict() == OnConflict::Skip);
        if !parent.carried || !some_are {
            return Ok(BTreeSet::new());
        }
        self.skipped_above(form, parent, rows, purpose, GENERATIONS).await
    }

    fn skipped_above<'a>(
        &'a self,
        form: &'a Form,
        parent: &'a ParentAt,
        rows: &'a [Vec<Value>],
        purpose: Purpose,
        generations: usize,
    ) -> BoxFuture<'a, Result<BTreeSet<usize>, Halt>> {
        Box::pin(async move {
            let mut skipped = BTreeSet::new();
            let above = self
                .layout
                .form(&parent.table, Keying::Primary)
                .or_else(|| self.layout.form(&parent.table, Keying::Rowid));
            let (Some(above), Some(generations)) = (above, generations.checked_sub(1)) else {
                return Ok(skipped);
            };
            let references: Vec<_> = rows.iter().map(|row| pick(row, &parent.columns)).collect();
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
            let mut starts = Vec::new();
            for chunk in chunks(references.iter(), self.source.limits().parameter) {
                let on = chunk.matches("t", &parent.parent_columns);
                let columns = std::iter::once("j.key".to_owned()).chain(read.iter().cloned());
                starts.push((chunk.rows.start..chunk.rows.end).collect::<Vec<_>>());
                queries.push(
                    Select::new(
                        columns,
                        format!(
                            "FROM json_each(?1) AS j CROSS JOIN {} AS t ON {on}",
                            above.source_table()
                        ),
                    )
                    .with(chunk.json),
                );
            }
            let mut parents: Vec<(usize, Vec<Value>)> = Vec::new();
            if queries.is_empty() {
                return Ok(skipped);
            }
            for (numbers, answer) in starts.into_iter().zip(self.source.select(queries).await?) {
                for mut row in answer {
                    if let Some(number) = take_number(&mut row, &numbers) {
                        parents.push((number, row));
                    }
                }
            }
            let named = parents.iter().flat_map(|(_, row)| mentions(above, row));
            let resolved = resolve(self.knowledge.as_ref(), named)?;
            let mut open = Vec::new();
            for (number, row) in parents {
                let named = mentions(above, &row);
                if self.unmapped(&named, &resolved, purpose)? == Some(Fate::Skipped) {
                    skipped.insert(number);
                } else {
                    open.push((number, row));
                }
            }
            if above.on_conflict == OnConflict::Skip {
                let of: Vec<_> =
                    open.iter().filter_map(|(n, _)| references.get(*n).cloned()).collect();
                let yielded = self.yielded(above, parent, &of, purpose).await?;
                skipped
                    .extend(yielded.iter().filter_map(|n| open.get(*n).map(|(number, _)| *number)));
            }
            for grandparent in &above.parents {
                let rows: Vec<_> = open.iter().map(|(_, row)| row.clone()).collect();
                if rows.is_empty() || !grandparent.carried {
                    continue;
                }
                let up =
                    self.skipped_above(above, grandparent, &rows, purpose, generations).await?;
                skipped.extend(up.iter().filter_map(|n| open.get(*n).map(|(number, _)| *number)));
            }
            tracing::debug!(
                table = form.table,
                skipped = skipped.len(),
                "rows left out with their parents"
            );
            Ok(skipped)
        })
    }
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
