//! How many rows the way back concerns.

use std::collections::BTreeMap;

use rehome_core::{Halt, Knowledge};

use super::memory::Stood;
use super::pairs::{Pair, Turn, sought};
use super::places::Places;
use super::standing::Spared;
use crate::database::{ReadDatabase, Select};
use crate::json_rows::chunks;
use crate::value::Value;

impl Places {
    /// How many rows of each table carry a new id of these users that goes back: all but those
    /// that carried it before. A row with several ids counts once for each column.
    ///
    /// # Errors
    /// When the database or the journal cannot be read.
    pub(super) async fn count_turned(
        &self,
        database: &dyn ReadDatabase,
        knowledge: &dyn Knowledge,
        pairs: &[Pair],
        stood: &[Stood],
    ) -> Result<BTreeMap<String, u64>, Halt> {
        let mut counts = BTreeMap::new();
        let news = sought(pairs, Turn::Back);
        for (table, place) in self.each().filter(|_| !pairs.is_empty()) {
            let of = table.form.target_table();
            let mut questions = vec![
                Select::new(["count(*)"], format!("FROM {of} AS t WHERE {}", place.holds("t")))
                    .with(news.clone()),
            ];
            let spared = Spared::of(knowledge, self, table, place, stood)?;
            for chunk in spared
                .iter()
                .flat_map(|spared| chunks(spared.keys.iter(), database.limits().parameter))
            {
                let Some(spared) = &spared else { continue };
                // Those of the spared rows that still carry a new id of these users.
                let from = format!(
                    "FROM json_each(?1) AS j CROSS JOIN {of} AS t ON {}",
                    spared.matches("t", &chunk)
                );
                let name = format!("t.{}", place.name);
                questions.push(Select::new([name], from).with(chunk.json));
            }
            let mut answers = database.select(questions).await?.into_iter();
            let all = answers.next().unwrap_or_default();
            let all = all.first().and_then(|row| row.first()).and_then(Value::as_integer);
            let mut rows = all.and_then(|all| u64::try_from(all).ok()).unwrap_or(0);
            for row in answers.flatten() {
                let cell = row.first().and_then(Value::as_str).unwrap_or_default();
                let carries = |pair: &Pair| {
                    if place.is_document() { cell.contains(&pair.new) } else { cell == pair.new }
                };
                if pairs.iter().any(carries) {
                    rows = rows.saturating_sub(1);
                }
            }
            *counts.entry(table.table.clone()).or_default() += rows;
        }
        Ok(counts)
    }
}
