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
mod paths;
mod questions;
mod tokens;

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use rehome_core::{Halt, Kind, Knowledge, UnitId};

use crate::database::ReadDatabase;
use crate::ids::IdColumns;
use crate::json_path::{JsonPath, Segment};
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
    /// How many bytes the value has besides: none when the id is all of it.
    pub beside: usize,
    /// Where in a JSON document it stands as a string of its own. Only [`propose`] looks.
    pub path: Option<Vec<Segment>>,
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
    /// How they stand there.
    pub how: How,
    /// How many were seen.
    pub seen: u64,
    /// One of them, with its row.
    pub example: String,
}

/// How ids stand in a column that nobody declared so.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum How {
    /// As the whole value.
    Whole,
    /// At this path of a JSON document.
    At(String),
    /// With something else in the same value, where the column is declared to hold an id.
    Odd,
    /// As the whole value, where the column is declared to hold documents.
    Bare,
    /// Inside a text of which no declaration reaches a part.
    Within,
}

impl How {
    /// `None` when the place is declared.
    fn of(ids: &IdColumns, sighting: &Sighting) -> Option<Self> {
        let declared: Vec<_> =
            ids.of(&sighting.table).filter(|id| id.column == sighting.column).collect();
        let plain = declared.iter().any(|id| id.path.is_none());
        match (&sighting.path, sighting.beside) {
            (_, 0) if plain => None,
            (_, 0) if declared.is_empty() => Some(Self::Whole),
            (_, 0) => Some(Self::Bare),
            (_, _) if plain => Some(Self::Odd),
            (Some(place), _) => {
                let mut paths = declared.iter().filter_map(|id| id.path.as_ref());
                if paths.any(|path| path.covers(place)) {
                    return None;
                }
                Some(JsonPath::to(place).map_or(Self::Within, |path| Self::At(path.to_string())))
            }
            (None, _) => Some(Self::Within),
        }
    }
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
/// which only a path is declared is proposed when ids stand elsewhere in it, too, with the path to
/// them. `is_id` says
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
    let mut proposals: BTreeMap<(String, String, String, How), Proposal> = BTreeMap::new();
    let mut see = |sighting: Sighting| {
        let Some(how) = How::of(ids, &sighting) else { return };
        let Sighting { table, column, key, beside, kind, id, .. } = sighting;
        let place = (table.clone(), column.clone(), kind.to_string(), how.clone());
        let proposal = proposals.entry(place).or_insert_with(|| {
            let example = match (&how, beside) {
                (How::Odd | How::Within, 1) => format!("{id} and one more byte in row {key}"),
                (How::Odd | How::Within, more) => {
                    format!("{id} and {more} more bytes in row {key}")
                }
                (How::Whole | How::At(_) | How::Bare, _) => format!("{id} in row {key}"),
            };
            Proposal { table, column, kind, how, seen: 0, example }
        });
        proposal.seen += 1;
    };
    for table in &schema.tables {
        for part in Part::of(table, prefixes).into_iter().flatten() {
            part.sample(database, is_id, rows, &mut see).await?;
        }
    }
    Ok(proposals.into_values().collect())
}
