//! What stands in the way back: looked at before anything is written, by a dry run and by the real
//! one alike, so that both say the same.
//!
//! Three things keep a user's ids from going back: a row that has come under the old id since, where
//! the rewritten one has to go; a reference in another spelling (see `spelling`); and, where the
//! account stays, a row that made room and whose place somebody else has taken. Where the account
//! goes, such a row stays away: a webhook made it for that account, and it would go with it.

use std::collections::{BTreeSet, HashMap, HashSet};

use rehome_core::{Halt, Knowledge, Origin};

use super::memory::{Displaced, Stood};
use super::pairs::{Pair, Turn, exchanged};
use super::places::{Place, Places, TablePlaces};
use super::spelling::spelled_otherwise;
use super::standing::{Spared, earlier, only, rivals};
use super::trouble::{Trouble, Troubles, Why};
use crate::database::{ReadDatabase, Select, qualified};
use crate::json_rows::chunks;
use crate::layout::pick;
use crate::rewrite::mentions;
use crate::survey::show_key;
use crate::target_rows::{missing_parents, without_parent};
use crate::value::Value;

/// What becomes of the accounts that this migration made, once the ids are back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accounts {
    /// They are deleted.
    Go,
    /// They stay.
    Stay,
}

/// What becomes of the rows that made room for some users.
#[derive(Debug, Default)]
pub(super) struct Homecoming {
    /// They come back.
    pub(super) missing: Vec<Displaced>,
    /// They are back already, and are left alone.
    pub(super) there: Vec<Stood>,
    /// Their place is taken, or what they refer to is gone.
    pub(super) placeless: Vec<Displaced>,
}

/// Looks for the rows that made room for these users. They are back where the user's own row stands
/// under the old id again.
pub(super) async fn homecoming(
    database: &dyn ReadDatabase,
    places: &Places,
    displaced: &[Displaced],
    pairs: &[Pair],
) -> Result<Homecoming, Halt> {
    let mut home = Homecoming::default();
    let by_new: HashMap<&str, &Pair> = pairs.iter().map(|pair| (pair.new.as_str(), pair)).collect();
    for table in places.tables.iter().filter(|_| !pairs.is_empty()) {
        let mut rows: Vec<(&Displaced, Vec<Value>)> = Vec::new();
        for one in displaced.iter().filter(|one| one.table == table.table) {
            rows.push((one, earlier(one)?));
        }
        let (mut concerned, mut back) = (HashSet::new(), HashSet::new());
        for place in table.places.iter().filter(|place| !place.is_document()) {
            let mut asked = Vec::new();
            for (_, row) in &rows {
                let named = mentions(&table.form, &only(row, place.column));
                let pair = named.iter().find_map(|(_, id)| by_new.get(id.as_str()).copied());
                if let Some(pair) = pair {
                    concerned.insert(row.clone());
                    asked.push((pair, row.clone()));
                }
            }
            let there = rivals(database, table, place, asked).await?;
            back.extend(there.into_iter().map(|(_, row)| row));
        }
        rows.retain(|(_, row)| concerned.contains(row));
        let (there, missing): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, row)| back.contains(row));
        for (_, row) in there {
            home.there.extend(table.places.iter().map(|place| Stood::of(table, place, &row)));
        }
        let values: Vec<_> = missing.iter().map(|(_, row)| row.clone()).collect();
        let placeless = placeless(database, table, &values).await?;
        for (number, (one, _)) in missing.into_iter().enumerate() {
            let lost = placeless.contains(&number);
            if lost { &mut home.placeless } else { &mut home.missing }.push(one.clone());
        }
    }
    Ok(home)
}

/// Those of the rows that cannot be put back, because another has a value that must be unique, or a
/// row to which they refer is gone. Values that are ids say nothing: they are about to change.
async fn placeless(
    database: &dyn ReadDatabase,
    table: &TablePlaces,
    rows: &[Vec<Value>],
) -> Result<BTreeSet<usize>, Halt> {
    let form = &table.form;
    let limit = database.limits().parameter;
    let is_id = |column: &usize| {
        table.places.iter().any(|place| !place.is_document() && place.column == *column)
    };
    let (mut asked, mut questions) = (Vec::new(), Vec::new());
    let sets = std::iter::once(&form.key).chain(&form.unique);
    for set in sets.filter(|set| !set.iter().any(is_id)) {
        let keys: Vec<_> = rows.iter().map(|row| pick(row, set)).collect();
        for chunk in chunks(keys.iter(), limit) {
            let on = chunk.matches("t", &pick(&form.target, set));
            asked.push(chunk.rows.clone().map(|number| vec![number]).collect::<Vec<_>>());
            let from = format!(
                "FROM json_each(?1) AS j WHERE EXISTS (SELECT 1 FROM {} AS t WHERE {on})",
                form.target_table()
            );
            questions.push(Select::new(["j.key"], from).with(chunk.json));
        }
    }
    for parent in form.parents.iter().filter(|parent| parent.enforced) {
        if !parent.columns.iter().any(is_id) {
            for (who, question) in missing_parents(parent, rows, &parent.columns, limit) {
                asked.push(who);
                questions.push(question);
            }
        }
    }
    let mut found = BTreeSet::new();
    if questions.is_empty() {
        return Ok(found);
    }
    for (who, answer) in asked.into_iter().zip(database.select(questions).await?) {
        found.extend(without_parent(&who, answer));
    }
    Ok(found)
}

/// What keeps ids of these users from going back, as far as it can be seen beforehand.
pub(super) async fn obstacles(
    database: &dyn ReadDatabase,
    knowledge: &dyn Knowledge,
    places: &Places,
    pairs: &[Pair],
    (stood, displaced, accounts): (&[Stood], &[Displaced], Accounts),
) -> Result<Troubles, Halt> {
    let mut troubles = spelled_otherwise(database, places, pairs, Turn::Back).await?;
    for (unit, trouble) in under_old_ids(database, knowledge, places, pairs, stood).await? {
        troubles.entry(unit).or_insert(trouble);
    }
    let staying: Vec<_> = pairs
        .iter()
        .filter(|pair| accounts == Accounts::Stay || pair.origin != Some(Origin::Created))
        .cloned()
        .collect();
    for one in homecoming(database, places, displaced, &staying).await?.placeless {
        let row = earlier(&one)?;
        let Some(table) = places.tables.iter().find(|table| table.table == one.table) else {
            continue;
        };
        let named = mentions(&table.form, &row);
        for pair in staying.iter().filter(|pair| named.iter().any(|(_, id)| *id == pair.new)) {
            troubles.entry(pair.unit).or_insert_with(|| Trouble {
                why: Why::PlaceTaken,
                told: format!(
                    "{} {} made room for theirs, and its place is taken",
                    one.table,
                    show_key(&pick(&row, &table.form.key))
                ),
            });
        }
    }
    Ok(troubles)
}

/// Rows that have come under old ids since, where rewritten ones have to go.
async fn under_old_ids(
    database: &dyn ReadDatabase,
    knowledge: &dyn Knowledge,
    places: &Places,
    pairs: &[Pair],
    stood: &[Stood],
) -> Result<Troubles, Halt> {
    let mut found = Troubles::new();
    let (mut asked, mut questions) = (Vec::new(), Vec::new());
    for (table, place) in places.plain().filter(|_| !pairs.is_empty()) {
        let sets = std::iter::once(&table.form.key).chain(&table.form.unique);
        for set in sets.filter(|set| set.contains(&place.column)) {
            asked.push((table, place));
            questions.push(doubled(table, place, set).with(exchanged(pairs, Turn::Back)));
        }
    }
    if questions.is_empty() {
        return Ok(found);
    }
    let by_new: HashMap<&str, &Pair> = pairs.iter().map(|pair| (pair.new.as_str(), pair)).collect();
    for ((table, place), rows) in asked.into_iter().zip(database.select(questions).await?) {
        let spared = Spared::of(knowledge, places, table, place, stood)?;
        for mut key in rows {
            let id = key.pop();
            let pair = id.as_ref().and_then(Value::as_str).and_then(|id| by_new.get(id));
            let (Some(pair), false) = (pair, spared.as_ref().is_some_and(|one| one.contains(&key)))
            else {
                continue;
            };
            found.entry(pair.unit).or_insert_with(|| Trouble {
                why: Why::RowConflict,
                told: format!(
                    "{} {} goes back to {}, where another row has come to stand",
                    table.table,
                    show_key(&key),
                    pair.old
                ),
            });
        }
    }
    Ok(found)
}

/// Asks for the keys of rows under a new id of `?1` that would double another row under the old id.
/// Other ids in the same set may have been exchanged in one of the two.
fn doubled(table: &TablePlaces, place: &Place, set: &[usize]) -> Select {
    let form = &table.form;
    // `json_quote` refuses a blob, so that is not asked about.
    let old = |name: &str| {
        format!(
            "CASE typeof(t.{name}) WHEN 'text' THEN \
             json_extract(?1, '$.' || json_quote(t.{name})) END"
        )
    };
    let same: Vec<_> = set
        .iter()
        .filter_map(|column| {
            let name = form.target.get(*column)?;
            let is_id = table.places.iter().any(|one| !one.is_document() && one.column == *column);
            Some(if *column == place.column {
                format!("u.{name} = {}", old(name))
            } else if is_id {
                format!("u.{name} IN (t.{name}, {})", old(name))
            } else {
                format!("u.{name} = t.{name}")
            })
        })
        .collect();
    let of = form.target_table();
    let name = &place.name;
    let mut columns = qualified("t", &form.target_key());
    columns.push(format!("t.{name}"));
    Select::new(
        columns,
        format!(
            "FROM {of} AS t WHERE t.{name} IN (SELECT j.key FROM json_each(?1) AS j) \
             AND (t.{name} COLLATE BINARY) IN (SELECT j.key FROM json_each(?1) AS j) \
             AND EXISTS (SELECT 1 FROM {of} AS u WHERE {})",
            same.join(" AND ")
        ),
    )
}
