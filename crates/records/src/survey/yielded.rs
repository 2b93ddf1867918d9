//! Rows whose parent was left out in favour of a row of the target.
//!
//! Nothing records which rows a policy left out: it shows again whenever both sides are looked at.
//! So the parents are read from the source, exchanged, and judged as they were judged themselves.

use std::collections::{BTreeSet, HashMap, HashSet};

use rehome_core::Halt;

use super::lots::{Reference, of_t, under};
use super::parents::positions;
use super::{Fate, Past, Planned, Purpose, Surveyor};
use crate::layout::{Form, ParentAt, pick};
use crate::rewrite::mentions;
use crate::target_rows::existing;
use crate::value::{Row, Value};

impl Surveyor {
    /// Which of these references (the values in the source) lead to a row that was left out, and
    /// do not lead to the row that stands for it in the target either.
    pub(super) async fn yielded(
        &self,
        above: &Form,
        parent: &ParentAt,
        references: &[Vec<Value>],
        purpose: Purpose,
    ) -> Result<BTreeSet<usize>, Halt> {
        let mut left_out = BTreeSet::new();
        let mut who: HashMap<&Vec<Value>, Vec<usize>> = HashMap::new();
        let mut distinct: Vec<Reference> = Vec::new();
        for (number, reference) in references.iter().enumerate() {
            let numbers = who.entry(reference).or_default();
            if numbers.is_empty() {
                distinct.push((reference.clone(), Vec::new()));
            }
            numbers.push(number);
        }
        let referred = positions(above, &parent.parent_columns).unwrap_or_default();
        for lot in self.lots(above, parent, &distinct).await? {
            let lot = pick(&distinct, &lot);
            let from: Vec<_> = lot.iter().map(|one| one.0.clone()).collect();
            let source = self.source.as_ref();
            let found = under(source, &above.table, parent, &of_t(&above.source), &from).await?;
            let named: Vec<_> = found.iter().flat_map(|(_, row)| mentions(above, row)).collect();
            let resolved = self.resolve(named).await?;
            let mut places = Vec::new();
            let mut plans = Vec::new();
            for (place, source) in found {
                let row = resolved.rewrite(above, &source);
                let plan = Planned::of(above, source.into(), row, Fate::Insert);
                // One that waits for somebody was not judged yet.
                if self.unmapped(&plan.mentions, &resolved, purpose)?.is_none() {
                    places.push(place);
                    plans.push(plan);
                }
            }
            if plans.is_empty() {
                continue;
            }
            let rows: Vec<_> = plans.iter().map(|plan| Row::clone(&plan.row)).collect();
            let there = existing(self.target.as_ref(), above, &rows).await?;
            self.compare(above, &mut plans, &there, &Past::default(), &HashSet::new()).await?;
            for (place, plan) in places.into_iter().zip(plans) {
                let out = match &plan.fate {
                    Fate::Skipped => true,
                    Fate::Yields { there } => pick(there, &referred) != pick(&plan.row, &referred),
                    Fate::Insert
                    | Fate::Update { .. }
                    | Fate::Complete { .. }
                    | Fate::Remove { .. }
                    | Fate::Gone
                    | Fate::Overtaken
                    | Fate::Overwrite { .. }
                    | Fate::Displace { .. }
                    | Fate::Equal { .. }
                    | Fate::Held { .. }
                    | Fate::Failed { .. } => false,
                };
                if out {
                    let numbers = lot.get(place).and_then(|reference| who.get(&reference.0));
                    left_out.extend(numbers.into_iter().flatten());
                }
            }
        }
        Ok(left_out)
    }

    /// Which of these rows (in the source, and as they are to be in the target) are left out in
    /// favour of rows of the target, by the policy of their table.
    pub(crate) async fn left_out_for_others(
        &self,
        form: &Form,
        sources: Vec<Row>,
        rows: Vec<Vec<Value>>,
    ) -> Result<BTreeSet<usize>, Halt> {
        if rows.is_empty() {
            return Ok(BTreeSet::new());
        }
        let there = existing(self.target.as_ref(), form, &rows).await?;
        let mut plans: Vec<Planned> = sources
            .into_iter()
            .zip(rows)
            .map(|(source, row)| Planned::of(form, source, row, Fate::Insert))
            .collect();
        self.compare(form, &mut plans, &there, &Past::default(), &HashSet::new()).await?;
        let out = |plan: &Planned| matches!(plan.fate, Fate::Skipped | Fate::Yields { .. });
        Ok((0..plans.len()).filter(|n| plans.get(*n).is_some_and(out)).collect())
    }
}
