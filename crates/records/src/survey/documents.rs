//! Rows with a document that refers to a row which is not in the target yet.
//!
//! Where keys move, a key inside JSON is exchanged as the journal says at that moment. A row that has
//! not arrived may still go elsewhere, and no foreign key would tell; so whoever refers to it waits.
//! One that the source lacks too leads nowhere, and keeps nobody waiting.

use std::collections::{BTreeMap, BTreeSet};

use rehome_core::{Halt, Stage};

use super::{Fate, Planned, Surveyor};
use crate::database::{ReadDatabase, Select, quote_name};
use crate::json_rows::chunks;
use crate::layout::{Form, KeyAt};
use crate::rekey::Moves;
use crate::span::SPAN;
use crate::target_rows::take_number;
use crate::value::Value;

impl Surveyor {
    /// Holds the rows whose documents refer to rows that are still to come.
    pub(super) async fn documents(
        &self,
        form: &Form,
        planned: &mut [Planned],
        moves: &Moves,
    ) -> Result<(), Halt> {
        for at in form.keys.iter().filter(|at| at.path.is_some()) {
            let above = self.layout.table(&at.table).and_then(|table| table.rekeyed());
            let Some(above) = above else { continue };
            // Old keys, each with its new one and the rows that have it.
            let mut keys: BTreeMap<i64, (i64, BTreeSet<usize>)> = BTreeMap::new();
            for (number, plan) in planned.iter().enumerate() {
                if plan.fate.writes() {
                    for (old, new) in moves.in_document(at, &plan.source) {
                        let rows = &mut keys.entry(old).or_insert_with(|| (new, BTreeSet::new())).1;
                        rows.insert(number);
                    }
                }
            }
            let new: Vec<i64> = keys.values().map(|(new, _)| *new).collect();
            let (target, source) = (self.target.as_ref(), self.source.as_ref());
            let absent = lacks(target, &above.target_table, &above.target_key(), &new).await?;
            let old: Vec<i64> = keys.keys().copied().collect();
            let old: Vec<i64> = absent.iter().filter_map(|n| old.get(*n).copied()).collect();
            let nowhere = lacks(source, &above.table, &above.source_key(), &old).await?;
            for (place, old) in old.iter().enumerate() {
                if nowhere.contains(&place) {
                    continue;
                }
                let rows = keys.get(old).map(|(_, rows)| rows.iter());
                for number in rows.into_iter().flatten() {
                    if let Some(plan) = planned.get_mut(*number) {
                        plan.fate = held(at);
                    }
                }
            }
        }
        Ok(())
    }
}

fn held(at: &KeyAt) -> Fate {
    Fate::Held {
        code: "parent_held".to_owned(),
        kind: SPAN,
        key: None,
        scope: Some(at.table.clone()),
        stage: Stage::Imported,
    }
}

/// Which of these keys a table does not have, by their numbers.
async fn lacks(
    database: &dyn ReadDatabase,
    table: &str,
    key: &[String],
    keys: &[i64],
) -> Result<BTreeSet<usize>, Halt> {
    let values: Vec<Vec<Value>> = keys.iter().map(|key| vec![Value::Integer(*key)]).collect();
    let mut ranges: Vec<Vec<usize>> = Vec::new();
    let mut queries = Vec::new();
    for chunk in chunks(values.iter(), database.limits().parameter) {
        let on = chunk.matches("t", key);
        let from = format!(
            "FROM json_each(?1) AS j WHERE NOT EXISTS (SELECT 1 FROM {} AS t WHERE {on})",
            quote_name(table)
        );
        ranges.push(chunk.rows.collect());
        queries.push(Select::new(["j.key"], from).with(chunk.json));
    }
    let mut found = BTreeSet::new();
    if queries.is_empty() {
        return Ok(found);
    }
    for (numbers, answer) in ranges.into_iter().zip(database.select(queries).await?) {
        for mut row in answer {
            found.extend(take_number(&mut row, &numbers));
        }
    }
    Ok(found)
}
