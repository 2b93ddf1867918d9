//! Rows whose parent in the target is somebody else's.
//!
//! A foreign key is satisfied by any row of that key, also by one of the application that only
//! happens to have it. Putting a row under it would give our user's data to a stranger. So a
//! parent that both databases have must be equal once the ids are exchanged (a reference within
//! a circle may still be empty). A parent that only the target has is the application's own
//! reference, and good as it is.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::future::BoxFuture;
use rehome_core::{Halt, Stage};

use super::alike::same_thing;
use super::displace::completes;
use super::left_out::GENERATIONS;
use super::lots::{Lot, Reference, of_t, under};
use super::recorded::still_that;
use super::{Fate, Past, Planned, Purpose, Surveyor};
use crate::layout::{Form, ParentAt, pick};
use crate::rewrite::mentions;
use crate::span::SPAN;
use crate::target_rows::existing;
use crate::value::{Row, Value};

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
            let rows: Vec<_> = plans.iter().map(|plan| Row::clone(&plan.source)).collect();
            let references: Vec<Reference> = plans
                .iter()
                .map(|plan| (pick(&plan.source, &parent.columns), pick(&plan.row, &parent.columns)))
                .collect();
            let skipped = self.left_out(parent, &rows, Purpose::Plan).await?;
            let strange = self.strangers(parent, &references, GENERATIONS).await?;
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

    /// Which rows refer to a row of this lot that is not the source's in the target. Parents were
    /// written before: what differs now and was not written by us is somebody else's. One that we
    /// wrote has changed since, here or there.
    pub(super) async fn below_strangers(&self, mut lot: Lot<'_>) -> Result<Vec<usize>, Halt> {
        let there = self.there(&mut lot).await?;
        let Compared { mut differ, absent: _ } =
            self.compare_lot(lot.above, lot.parent, &lot.references, there).await?;
        let keys = differ.iter().map(|one| one.plan.key.clone()).collect();
        let recorded = self.recorded(lot.above, &keys)?;
        differ.retain(|Differing { plan, there, .. }| {
            !recorded.contains(&plan.key) || !still_that(lot.above, &plan.row, there)
        });
        let below = differ.iter().filter_map(|one| lot.who.get(one.place));
        Ok(below.flatten().copied().collect())
    }

    /// Which of these references will lead to a row of the target that is not the source's, as
    /// both databases are before anything is written: what a webhook made will be replaced by
    /// then, the rest will stay.
    fn strangers<'a>(
        &'a self,
        parent: &'a ParentAt,
        references: &'a [Reference],
        generations: usize,
    ) -> BoxFuture<'a, Result<BTreeSet<usize>, Halt>> {
        Box::pin(async move {
            let mut strange = BTreeSet::new();
            let (Some(above), Some(generations)) = (self.above(parent), generations.checked_sub(1))
            else {
                return Ok(strange);
            };
            let mut who: HashMap<&Reference, Vec<usize>> = HashMap::new();
            let mut distinct: Vec<Reference> = Vec::new();
            for (number, reference) in references.iter().enumerate() {
                if reference.0.iter().any(Value::is_null) {
                    continue;
                }
                let numbers = who.entry(reference).or_default();
                if numbers.is_empty() {
                    distinct.push(reference.clone());
                }
                numbers.push(number);
            }
            for places in self.lots(above, parent, &distinct).await? {
                let lot = pick(&distinct, &places);
                for place in self.foretell_lot(above, parent, &lot, generations).await? {
                    let numbers = lot.get(place).and_then(|reference| who.get(reference));
                    strange.extend(numbers.into_iter().flatten());
                }
            }
            Ok(strange)
        })
    }

    async fn foretell_lot(
        &self,
        above: &Form,
        parent: &ParentAt,
        lot: &[Reference],
        generations: usize,
    ) -> Result<BTreeSet<usize>, Halt> {
        let to: Vec<_> = lot.iter().map(|one| one.1.clone()).collect();
        let columns = of_t(&above.target);
        let target = self.target.as_ref();
        let there = under(target, &above.target_table, parent, &columns, &to).await?;
        let Compared { differ, absent } =
            self.compare_lot(above, parent, lot, there.into_iter().collect()).await?;
        let mut strange = BTreeSet::new();
        let (places, mut plans): (Vec<_>, Vec<_>) =
            differ.into_iter().map(|one| (one.place, one.plan)).unzip();
        if !plans.is_empty() {
            let rows: Vec<_> = plans.iter().map(|plan| Row::clone(&plan.row)).collect();
            let found = existing(target, above, &rows).await?;
            self.compare(above, &mut plans, &found, &Past::default(), &HashSet::new()).await?;
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
            let up = self.strangers(grandparent, &references, generations).await?;
            strange.extend(up.iter().filter_map(|n| absent.get(*n).map(|one| one.0)));
        }
        Ok(strange)
    }

    /// Compares the source's rows of a lot, exchanged, with those that are there.
    async fn compare_lot(
        &self,
        above: &Form,
        parent: &ParentAt,
        lot: &[Reference],
        there: HashMap<usize, Vec<Value>>,
    ) -> Result<Compared, Halt> {
        let from: Vec<_> = lot.iter().map(|one| one.0.clone()).collect();
        let ours =
            under(self.source.as_ref(), &above.table, parent, &of_t(&above.source), &from).await?;
        let named: Vec<_> = ours.iter().flat_map(|(_, row)| mentions(above, row)).collect();
        let resolved = self.resolve(named).await?;
        let mut compared = Compared::default();
        for (place, source) in ours {
            let row = resolved.rewrite(above, &source);
            match there.get(&place) {
                None => compared.absent.push((place, source, row)),
                Some(there) if *there == row || completes(above, there, &row) => {}
                // It was left out in favour of that row, which is the same thing.
                Some(there) if above.yields() && same_thing(above, &row, there) => {}
                Some(there) => {
                    let plan = Planned::of(above, source.into(), row, Fate::Insert);
                    compared.differ.push(Differing { place, plan, there: there.clone() });
                }
            }
        }
        Ok(compared)
    }
}

/// The rows of a lot that are not in the target as the source has them, by the number of the
/// reference.
#[derive(Default)]
struct Compared {
    differ: Vec<Differing>,
    /// With the row of the source, and what it is to become.
    absent: Vec<(usize, Vec<Value>, Vec<Value>)>,
}

/// A row that the target has otherwise.
struct Differing {
    /// The number of the reference.
    place: usize,
    /// Ours.
    plan: Planned,
    there: Vec<Value>,
}
