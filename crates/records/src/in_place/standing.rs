//! Rows that carry a new id before rehome has written any: the application's own.
//!
//! A user who was adopted may have rows already, and creating an account fires a webhook, to which
//! many applications answer with a row that stands for it. Such rows are remembered by key, so that
//! a rollback leaves them as they are (the second sort then goes with its account). Other rows of
//! an account that this migration created are nobody's from before, and are taken along.
//!
//! A row that stands where the user's own row has to go is taken out of the way, if it can only
//! come from a webhook: its account is one that this migration created, and nothing refers to it.
//! Any other row in the way is a conflict that a person has to look at.

use std::collections::{BTreeSet, HashMap, HashSet};

use rehome_core::{Halt, Knowledge, Origin, UnitId};

use super::memory::{Displaced, Stood};
use super::pairs::{Pair, Turn, sought};
use super::places::{Place, Places, TablePlaces};
use super::trouble::{Trouble, Troubles, Why};
use crate::database::{ReadDatabase, Select};
use crate::import::KeySet;
use crate::json_rows::{Chunk, chunks};
use crate::layout::pick;
use crate::rewrite::mentions;
use crate::span::{key_from_json, key_to_json};
use crate::survey::show_key;
use crate::target_rows::referred;
use crate::value::Value;

/// So many rows of one place are remembered at most; more of them are not a webhook's echo but a
/// database that was moved already.
const MOST: usize = 5_000;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Rows to be left alone on the way back.
    pub(super) stood: Vec<Stood>,
    /// Rows to be taken out of the way.
    pub(super) displaced: Vec<Displaced>,
    /// Users whose own row cannot come, and why.
    pub(super) conflicts: Troubles,
}

/// What an earlier request may have left, and must not be taken for the application's.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    /// Users whose ids may have been exchanged: what stands under their new id says nothing.
    pub(super) unsure: BTreeSet<UnitId>,
    /// Rows that made room for them already.
    pub(super) displaced: &'a [Displaced],
}

/// Looks at what stands under the new ids of these users. `Err` in the inner result: a sentence
/// for a person, because there is too much.
///
/// # Errors
/// When the database cannot be read.
pub(super) async fn standing(
    database: &dyn ReadDatabase,
    places: &Places,
    pairs: &[Pair],
    known: &Known<'_>,
) -> Result<Result<Standing, String>, Halt> {
    let mut found = Standing::default();
    let asked: Vec<(&TablePlaces, &Place)> = places.each().collect();
    let news = sought(pairs, Turn::Back);
    let questions = asked
        .iter()
        .map(|(table, place)| {
            let key = table.form.target_key();
            let all = table.form.target.iter().map(|column| format!("t.{column}"));
            let rest = format!(
                "FROM {} AS t WHERE {} ORDER BY {} LIMIT {}",
                table.form.target_table(),
                place.holds("t"),
                key.iter().map(|column| format!("t.{column}")).collect::<Vec<_>>().join(", "),
                MOST + 1
            );
            Select::new(all, rest).with(news.clone())
        })
        .collect::<Vec<_>>();
    if questions.is_empty() || pairs.is_empty() {
        return Ok(Ok(found));
    }
    let by_new: HashMap<&str, &Pair> = pairs.iter().map(|pair| (pair.new.as_str(), pair)).collect();
    for ((table, place), rows) in asked.into_iter().zip(database.select(questions).await?) {
        if rows.len() > MOST {
            return Ok(Err(format!(
                "more than {MOST} rows of {} carry new ids of these users already",
                place.label
            )));
        }
        let mine = |row: &Vec<Value>| -> Vec<&Pair> {
            let named = mentions(&table.form, &only(row, place.column));
            named.iter().filter_map(|(_, id)| by_new.get(id.as_str()).copied()).collect()
        };
        let unsure =
            |row: &Vec<Value>| mine(row).iter().any(|one| known.unsure.contains(&one.unit));
        let (unsure, fresh): (Vec<_>, Vec<_>) = rows.into_iter().partition(unsure);
        let stands_for = identifies(table, place);
        let spare = |row: &&Vec<Value>| {
            stands_for || mine(row).iter().any(|pair| pair.origin != Some(Origin::Created))
        };
        let mut keys: Vec<Vec<Value>> =
            fresh.iter().filter(spare).map(|row| pick(row, &table.form.key)).collect();
        if !place.is_document() {
            let contested: Vec<_> = fresh
                .into_iter()
                .chain(unsure)
                .filter_map(|row| mine(&row).first().map(|pair| (*pair, row.clone())))
                .collect();
            for (pair, row) in rivals(database, table, place, contested).await? {
                let key = pick(&row, &table.form.key);
                match in_the_way(database, table, pair, &row, known).await? {
                    None => {
                        keys.retain(|one| *one != key);
                        let one = displaced(table, &row);
                        if !found.displaced.contains(&one) {
                            found.displaced.push(one);
                        }
                    }
                    Some(why) => {
                        let table = &table.table;
                        found.conflicts.entry(pair.unit).or_insert_with(|| Trouble {
                            why: Why::RowConflict,
                            told: format!(
                                "{table} {} stands under the new id {}: {why}",
                                show_key(&key),
                                pair.new
                            ),
                        });
                    }
                }
            }
        }
        if !keys.is_empty() {
            found.stood.push(Stood::with_keys(table, place, &keys));
        }
    }
    Ok(Ok(found))
}

impl Stood {
    fn with_keys(table: &TablePlaces, place: &Place, keys: &[Vec<Value>]) -> Self {
        Self {
            table: table.table.clone(),
            place: place.label.clone(),
            inside: place.is_document(),
            keying: table.keying,
            keys: KeySet::new(keys),
        }
    }

    /// One row in one place.
    pub(super) fn of(table: &TablePlaces, place: &Place, row: &[Value]) -> Self {
        Self::with_keys(table, place, &[pick(row, &table.form.key)])
    }
}

/// Whether a row stands for the user whom it names here: the id is unique, or part of its key.
fn identifies(table: &TablePlaces, place: &Place) -> bool {
    let mut sets = std::iter::once(&table.form.key).chain(&table.form.unique);
    !place.is_document() && sets.any(|set| set.contains(&place.column))
}

/// A row with nothing but one of its columns.
pub(super) fn only(row: &[Value], column: usize) -> Vec<Value> {
    let one = |(place, value): (usize, &Value)| {
        if place == column { value.clone() } else { Value::Null }
    };
    row.iter().enumerate().map(one).collect()
}

fn displaced(table: &TablePlaces, row: &[Value]) -> Displaced {
    Displaced { table: table.table.clone(), keying: table.keying, earlier: key_to_json(row) }
}

/// Those of the rows under a new id that would be doubled by the user's own row: another row has
/// the same unique values but for the old id.
pub(super) async fn rivals<'a>(
    database: &dyn ReadDatabase,
    table: &TablePlaces,
    place: &Place,
    rows: Vec<(&'a Pair, Vec<Value>)>,
) -> Result<Vec<(&'a Pair, Vec<Value>)>, Halt> {
    let form = &table.form;
    let sets = std::iter::once(&form.key).chain(&form.unique);
    let sets: Vec<_> = sets.filter(|set| set.contains(&place.column)).collect();
    let mut doubled: BTreeSet<usize> = BTreeSet::new();
    for set in sets {
        let wanted: Vec<Vec<Value>> = rows
            .iter()
            .map(|(pair, row)| {
                let value = |column: &usize| {
                    if *column == place.column {
                        Value::text(pair.old.clone())
                    } else {
                        row.get(*column).cloned().unwrap_or(Value::Null)
                    }
                };
                set.iter().map(value).collect()
            })
            .collect();
        let names = pick(&form.target, set);
        let mut questions = Vec::new();
        let mut starts = Vec::new();
        for chunk in chunks(wanted.iter(), database.limits().parameter) {
            let on = chunk.matches("t", &names);
            starts.push(chunk.rows.start);
            let from = format!(
                "FROM json_each(?1) AS j WHERE EXISTS (SELECT 1 FROM {} AS t WHERE {on})",
                form.target_table()
            );
            questions.push(Select::new(["j.key"], from).with(chunk.json));
        }
        if questions.is_empty() {
            continue;
        }
        for (start, answer) in starts.into_iter().zip(database.select(questions).await?) {
            let number = |row: &Vec<Value>| row.first().and_then(Value::as_integer);
            let numbers = answer.iter().filter_map(number);
            doubled.extend(numbers.filter_map(|n| usize::try_from(n).ok()).map(|n| n + start));
        }
    }
    let all = rows.into_iter().enumerate();
    Ok(all.filter(|(number, _)| doubled.contains(number)).map(|(_, row)| row).collect())
}

/// Why a row cannot be taken out of the way; `None` when it can.
async fn in_the_way(
    database: &dyn ReadDatabase,
    table: &TablePlaces,
    pair: &Pair,
    row: &[Value],
    known: &Known<'_>,
) -> Result<Option<String>, Halt> {
    if known.unsure.contains(&pair.unit) && !known.displaced.contains(&displaced(table, row)) {
        let why = "it may be the user's own row, and another one has come under the old id since";
        return Ok(Some(why.to_owned()));
    }
    if pair.origin != Some(Origin::Created) {
        return Ok(Some(
            "the account was there before, and the row is the application's".to_owned(),
        ));
    }
    let torn = referred(database, &table.form, &[row.to_vec()]).await?;
    Ok(torn.into_values().next().map(|child| format!("rows of {child} refer to it")))
}

/// The keys of rows that stood before in one place, each part with both ids that may stand there
/// now: the one that was found, and its partner.
pub(super) struct Spared {
    /// For each part of the key, how many values stand for it.
    pub(super) parts: Vec<(String, usize)>,
    /// One row a key, its parts one after another.
    pub(super) keys: Vec<Vec<Value>>,
}

impl Spared {
    /// The rows of `stood` in this place; `None` when there are none.
    pub(super) fn of(
        knowledge: &dyn Knowledge,
        places: &Places,
        table: &TablePlaces,
        place: &Place,
        stood: &[Stood],
    ) -> Result<Option<Self>, Halt> {
        let mut keys: Vec<Vec<Value>> = Vec::new();
        for one in stood.iter().filter(|one| {
            one.table == table.table
                && one.place == place.label
                && one.inside == place.is_document()
                && one.keying == table.keying
        }) {
            keys.extend(one.keys.keys()?);
        }
        if keys.is_empty() {
            return Ok(None);
        }
        let ids: Vec<bool> = table
            .form
            .key
            .iter()
            .map(|column| {
                table.places.iter().any(|place| !place.is_document() && place.column == *column)
            })
            .collect();
        let partners = partners(knowledge, places, &keys, &ids)?;
        let parts = table.form.target_key().into_iter().zip(&ids);
        let parts = parts.map(|(name, is_id)| (name, if *is_id { 2 } else { 1 })).collect();
        let both = |key: Vec<Value>| -> Vec<Value> {
            let part = |(value, is_id): (Value, &bool)| {
                let partner = value.as_str().and_then(|id| partners.get(id)).map(Value::text);
                let second = is_id.then(|| partner.unwrap_or_else(|| value.clone()));
                std::iter::once(value).chain(second)
            };
            key.into_iter().zip(&ids).flat_map(part).collect()
        };
        Ok(Some(Self { parts, keys: keys.into_iter().map(both).collect() }))
    }

    /// The condition that the row called `alias` is one of the chunk's, which is bound as `j`.
    pub(super) fn matches(&self, alias: &str, chunk: &Chunk) -> String {
        let mut at = 0;
        let parts: Vec<_> = self
            .parts
            .iter()
            .map(|(part, many)| {
                let values: Vec<_> = (at..at + many).map(|index| chunk.column(index)).collect();
                at += many;
                format!("{alias}.{part} IN ({})", values.join(", "))
            })
            .collect();
        parts.join(" AND ")
    }

    /// Whether the row of this key is one of them.
    pub(super) fn contains(&self, key: &[Value]) -> bool {
        self.keys.iter().any(|spared| {
            let mut rest = spared.as_slice();
            self.parts.iter().zip(key).all(|((_, many), value)| {
                let (these, others) = rest.split_at((*many).min(rest.len()));
                rest = others;
                these.contains(value)
            })
        })
    }
}

/// For each id in these keys the other id of the same unit.
fn partners(
    knowledge: &dyn Knowledge,
    places: &Places,
    keys: &[Vec<Value>],
    ids: &[bool],
) -> Result<HashMap<String, String>, Halt> {
    let mut names: HashSet<String> = HashSet::new();
    for key in keys {
        let parts = key.iter().zip(ids).filter(|(_, is_id)| **is_id);
        names.extend(parts.filter_map(|(value, _)| value.as_str().map(str::to_owned)));
    }
    let names: Vec<_> = names.into_iter().collect();
    let mut partners = HashMap::new();
    for (source, known) in knowledge.by_source(&places.kind, &names)? {
        partners.extend(known.target_key.map(|target| (source, target)));
    }
    for (target, known) in knowledge.by_target(&places.kind, &names)? {
        partners.insert(target, known.source_key);
    }
    Ok(partners)
}

/// A displaced row as it was.
pub(super) fn earlier(displaced: &Displaced) -> Result<Vec<Value>, Halt> {
    key_from_json(&displaced.earlier)
}
