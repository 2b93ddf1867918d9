//! Looks for ids anywhere in a database: in every column of every table, as a whole value or
//! inside a longer text.
//!
//! Two uses. Before a migration it proposes columns that hold ids and were not declared ([`propose`]):
//! a sample of each table is read for words that begin as ids of a kind do (`user_…`). After it, it
//! proves that no id of the source is left in the target ([`search`]): every table is gone through.
//!
//! That a column is full of ids is no finding then, so its cells are not fetched: the ids that must
//! not be there are sent along, by the ten thousands, and SQL answers with the cells that are one.
//! Only cells in which an id may stand among other text are read. Whether what was found is an id
//! is asked of the caller, in batches.

mod part;
mod questions;
mod tokens;

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use rehome_core::{Halt, Kind, Knowledge, UnitId};

use crate::database::ReadDatabase;
use crate::ids::IdColumns;
use crate::schema::Schema;
use part::Part;
use questions::Pass;

/// How ids of a kind begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The kind.
    pub kind: Kind,
    /// The fixed beginning, for example `user_`.
    pub prefix: String,
}

/// Says which of these candidates are ids.
pub type IsId<'a> = &'a (dyn Fn(&Kind, &[String]) -> Result<HashSet<String>, Halt> + Send + Sync);

/// An id that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The row's key, for a person.
    pub key: String,
    /// Whether the id is the whole value.
    pub whole: bool,
    /// Its kind.
    pub kind: Kind,
    /// The id.
    pub id: String,
}

/// What was searched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// Tables that were searched to the end.
    pub tables: u64,
    /// Tables whose rows cannot be told apart, and which were therefore not searched.
    pub unchecked: Vec<String>,
}

/// A column that holds ids and was not declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// What the ids name.
    pub kind: Kind,
    /// How many were seen as whole values.
    pub whole: u64,
    /// How many were seen inside longer texts.
    pub inside: u64,
    /// One of them, with its row.
    pub example: String,
}

/// Those of the candidates that the journal knows as source keys, for [`search`] in a target.
/// One that is also somebody's target key is where it should be.
pub fn known_to<'a>(
    knowledge: &'a dyn Knowledge,
) -> impl Fn(&Kind, &[String]) -> Result<HashSet<String>, Halt> + Send + Sync + 'a {
    move |kind, candidates| {
        let mut found: HashSet<String> =
            knowledge.by_source(kind, candidates)?.into_keys().collect();
        for target in knowledge.by_target(kind, candidates)?.into_keys() {
            found.remove(&target);
        }
        Ok(found)
    }
}

/// Ids of one kind that are sent along at once.
const LISTED: usize = 20_000;

/// Searches every table of `schema` for source keys of units that the journal knows. `is_id` says
/// of what was found which are meant; `found` hears each, and may end the search.
///
/// # Errors
/// When the database or the journal cannot be read.
pub async fn search(
    database: &dyn ReadDatabase,
    schema: &Schema,
    prefixes: &[Prefix],
    knowledge: &dyn Knowledge,
    is_id: IsId<'_>,
    found: &mut (dyn FnMut(Sighting) -> ControlFlow<()> + Send),
) -> Result<Searched, Halt> {
    let mut searched = Searched::default();
    let mut parts = Vec::new();
    for table in &schema.tables {
        match Part::of(table, prefixes) {
            Some(of_table) => {
                for part in of_table {
                    let windows = part.windows(database).await?;
                    parts.push((part, windows));
                }
                searched.tables += 1;
            }
            None => searched.unchecked.push(table.name.clone()),
        }
    }
    // Once: whatever stands among other text.
    let mut among = vec![Pass::Among, Pass::Long];
    for prefix in prefixes {
        let mut after = UnitId(0);
        loop {
            let mut passes = std::mem::take(&mut among);
            let known = knowledge.between(&prefix.kind, after, UnitId(i64::MAX), LISTED)?;
            if let Some(last) = known.last() {
                after = last.id;
                let keys: Vec<&str> = known.iter().map(|known| known.source_key.as_str()).collect();
                passes.push(Pass::listed(prefix, &keys)?);
            }
            drop(known);
            if passes.is_empty() {
                break;
            }
            for (part, windows) in &parts {
                for window in windows {
                    let ended = part.search(database, &passes, window, is_id, found).await?;
                    if ended.is_break() {
                        return Ok(searched);
                    }
                }
            }
        }
    }
    Ok(searched)
}

/// Proposes declarations: columns in which ids were seen and which are not declared. A column of
/// which only a path is declared is proposed when ids stand elsewhere in it, too. `is_id` says
/// which words are ids; of each table (for one of very many columns: of each group of them) at
/// most `rows` rows that hold such words are looked at.
///
/// # Errors
/// As [`search`].
pub async fn propose(
    database: &dyn ReadDatabase,
    schema: &Schema,
    ids: &IdColumns,
    prefixes: &[Prefix],
    is_id: IsId<'_>,
    rows: usize,
) -> Result<Vec<Proposal>, Halt> {
    let mut proposals: BTreeMap<(String, String, String), Proposal> = BTreeMap::new();
    let mut see = |sighting: Sighting| {
        let declared = ids
            .of(&sighting.table)
            .any(|id| id.column == sighting.column && (id.path.is_some() || sighting.whole));
        if !declared {
            let place =
                (sighting.table.clone(), sighting.column.clone(), sighting.kind.to_string());
            let proposal = proposals.entry(place).or_insert_with(|| Proposal {
                table: sighting.table,
                column: sighting.column,
                kind: sighting.kind,
                whole: 0,
                inside: 0,
                example: format!("{} in row {}", sighting.id, sighting.key),
            });
            if sighting.whole {
                proposal.whole += 1;
            } else {
                proposal.inside += 1;
            }
        }
    };
    for table in &schema.tables {
        for part in Part::of(table, prefixes).into_iter().flatten() {
            part.sample(database, is_id, rows, &mut see).await?;
        }
    }
    Ok(proposals.into_values().collect())
}
