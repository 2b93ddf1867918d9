//! Rows that this migration has put into the target and that the source has no more.
//!
//! By policy they stay, or go. One goes only if it still is as it was written, and if no row that
//! stays refers to it: its children go first, each with the span that they belong to, and the row
//! waits for them. A row of ours that the application has changed since is a conflict: it is never
//! removed; with `skip` for its table it is left to the application.

use std::collections::{HashMap, HashSet};

use rehome_core::{Halt, Stage};

use super::parents::positions;
use super::{Fate, Past, Planned, Surveyor, show_key};
use crate::import::digests::RowDigest;
use crate::layout::{Form, ParentAt, pick};
use crate::policy::{OnConflict, Removed};
use crate::span::SPAN;
use crate::target_rows::under_keys;
use crate::undo::referrers;
use crate::value::Value;

/// The code of a row that the source has removed and the target has changed.
const REMOVED: &str = "removed_in_source";

impl Surveyor {
    /// Rows that a request of which the outcome is not known has written, and that the source has
    /// no more: they are there as they were meant.
    pub(crate) async fn left_behind(
        &self,
        form: &Form,
        planned: &[Planned],
        past: &Past,
    ) -> Result<Vec<Planned>, Halt> {
        let here: HashSet<&Vec<Value>> = planned.iter().map(|plan| &plan.key).collect();
        let (keys, meant): (Vec<_>, Vec<_>) = past
            .meant_rows()
            .filter(|(key, _)| !here.contains(key))
            .map(|(key, digest)| (key.clone(), digest))
            .unzip();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let there = under_keys(self.target.as_ref(), form, &keys).await?;
        let rows = keys.into_iter().zip(meant).zip(there);
        Ok(rows
            .filter_map(|((key, meant), row)| {
                Some((key, row.filter(|row| RowDigest::of(row) == meant)?))
            })
            .map(|(key, row)| Planned::of_ours(key, row, Fate::Equal { ours: true }))
            .collect())
    }

    /// What should become of them; nothing where they stay.
    pub(super) async fn removed(
        &self,
        form: &Form,
        planned: &[Planned],
        past: &Past,
    ) -> Result<Vec<Planned>, Halt> {
        match self.policy.removed {
            Removed::Keep => return Ok(Vec::new()),
            Removed::Delete => {}
        }
        let here: HashSet<&Vec<Value>> = planned.iter().map(|plan| &plan.key).collect();
        let mut lost: Vec<(&Vec<Value>, Option<RowDigest>)> =
            past.written().filter(|(key, _)| !here.contains(key)).collect();
        if lost.is_empty() {
            return Ok(Vec::new());
        }
        // What is written must not depend on the order of a hash map.
        lost.sort_by_cached_key(|(key, _)| show_key(key));
        let keys: Vec<Vec<Value>> = lost.iter().map(|(key, _)| (*key).clone()).collect();
        let there = under_keys(self.target.as_ref(), form, &keys).await?;
        let held_by = referrers(self.target.as_ref(), form, &keys, true).await?;
        let mut fates = Vec::with_capacity(keys.len());
        for (number, ((key, written), there)) in lost.into_iter().zip(there).enumerate() {
            let child = held_by.keys().find(|(row, _)| *row == number);
            let child = child.and_then(|(_, place)| form.children.get(*place));
            let fate = match (&there, child) {
                (None, _) => Fate::Gone,
                (Some(row), _) if written != Some(RowDigest::of(row)) => match form.on_conflict {
                    OnConflict::Skip => Fate::Gone,
                    OnConflict::Fail | OnConflict::Replace | OnConflict::Rekey => Fate::Failed {
                        code: REMOVED,
                        message: format!(
                            "{} {} is not in the source any more, and was changed in the target \
                             after this migration wrote it",
                            form.target_table,
                            show_key(key)
                        ),
                    },
                },
                (Some(_), Some(child)) => referred(&child.table),
                (Some(row), None) => Fate::Remove { earlier: row.clone() },
            };
            fates.push(Planned::of_ours(key.clone(), there.unwrap_or_default(), fate));
        }
        keep_what_stays_refers_to(form, &mut fates);
        Ok(fates)
    }
}

/// Rows of one table may refer to each other: what one refers to that stays has to stay with it.
fn keep_what_stays_refers_to(form: &Form, fates: &mut [Planned]) {
    let own: Vec<(&ParentAt, HashMap<Vec<Value>, usize>)> = form
        .parents
        .iter()
        .filter(|parent| parent.enforced && parent.table == form.target_table)
        .filter_map(|parent| {
            let columns = positions(form, &parent.parent_columns)?;
            let numbers = fates.iter().enumerate();
            Some((
                parent,
                numbers.map(|(number, row)| (pick(&row.row, &columns), number)).collect(),
            ))
        })
        .collect();
    let stays = |plan: &Planned| !matches!(plan.fate, Fate::Remove { .. } | Fate::Gone);
    let mut next: Vec<usize> =
        (0..fates.len()).filter(|number| fates.get(*number).is_some_and(stays)).collect();
    while let Some(number) = next.pop() {
        for (parent, numbers) in &own {
            let reference = fates.get(number).map(|plan| pick(&plan.row, &parent.columns));
            let above = reference.and_then(|reference| numbers.get(&reference).copied());
            if let Some((above, plan)) =
                above.and_then(|above| Some((above, fates.get_mut(above)?)))
                && matches!(plan.fate, Fate::Remove { .. })
            {
                plan.fate = referred(&form.target_table);
                next.push(above);
            }
        }
    }
}

/// The wait of a row to which rows of this table refer that stay.
fn referred(table: &str) -> Fate {
    Fate::Held {
        code: "row_referred".to_owned(),
        kind: SPAN,
        key: None,
        scope: Some(table.to_owned()),
        stage: Stage::Imported,
    }
}
