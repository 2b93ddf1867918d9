//! What the target already holds of a span's rows, asked by key, in one request.

use std::collections::{BTreeMap, HashMap, HashSet};

use rehome_core::Halt;

use crate::database::{ReadDatabase, Rows, Select, quote_name};
use crate::json_rows::chunks;
use crate::layout::{Form, ParentAt, pick};
use crate::undo::referrers;
use crate::value::Value;

/// What was found, by the number of the row that was asked about.
#[derive(Debug, Default)]
pub(crate) struct Existing {
    /// The row with the same key.
    pub(crate) same_key: BTreeMap<usize, Vec<Value>>,
    /// Rows with another key and the same value in some unique columns.
    pub(crate) same_unique: BTreeMap<usize, Vec<Vec<Value>>>,
    /// For each foreign key of the form (in its order), the rows whose parent is not there.
    pub(crate) no_parent: Vec<HashSet<usize>>,
}

enum Asked {
    Key(Vec<usize>),
    Unique(Vec<usize>),
    Parent(usize, Vec<Vec<usize>>),
}

/// Asks about all `rows` (as they are to be in the target).
pub(crate) async fn existing<R: AsRef<[Value]> + Sync>(
    target: &dyn ReadDatabase,
    form: &Form,
    rows: &[R],
) -> Result<Existing, Halt> {
    Ok(existing_beside(target, form, rows, Vec::new()).await?.0)
}

/// The same, with other questions in the same request, and their answers.
pub(crate) async fn existing_beside<R: AsRef<[Value]> + Sync>(
    target: &dyn ReadDatabase,
    form: &Form,
    rows: &[R],
    others: Vec<Select>,
) -> Result<(Existing, Vec<Rows>), Halt> {
    let limit = target.limits().parameter;
    let mut queries = others;
    let beside = queries.len();
    let mut asked = Vec::new();
    let everything = |prefix: &str| -> Vec<String> {
        std::iter::once("j.key".to_owned())
            .chain(form.target.iter().map(|column| format!("{prefix}.{column}")))
            .collect()
    };
    let table = form.target_table();

    let keys: Vec<_> = rows.iter().map(|row| pick(row.as_ref(), &form.key)).collect();
    for chunk in chunks(keys.iter(), limit) {
        let on = chunk.matches("t", &form.target_key());
        asked.push(Asked::Key((chunk.rows.start..chunk.rows.end).collect()));
        queries.push(
            Select::new(
                everything("t"),
                format!("FROM json_each(?1) AS j CROSS JOIN {table} AS t ON {on}"),
            )
            .with(chunk.json),
        );
    }
    drop(keys);
    for unique in &form.unique {
        // The values, then the key: a row is not its own rival.
        let (numbers, parts): (Vec<usize>, Vec<Vec<Value>>) = rows
            .iter()
            .map(AsRef::as_ref)
            .enumerate()
            .map(|(number, row)| (number, pick(row, unique), pick(row, &form.key)))
            .filter(|(_, values, _)| !values.iter().any(Value::is_null))
            .map(|(number, values, key)| (number, [values, key].concat()))
            .unzip();
        for chunk in chunks(parts.iter(), limit) {
            let on = chunk.matches("t", &pick(&form.target, unique));
            let key: Vec<_> = form
                .target_key()
                .iter()
                .enumerate()
                .map(|(index, name)| format!("t.{name} = {}", chunk.column(unique.len() + index)))
                .collect();
            let range = numbers.get(chunk.rows.clone()).unwrap_or_default().to_vec();
            asked.push(Asked::Unique(range));
            queries.push(
                Select::new(
                    everything("t"),
                    format!(
                        "FROM json_each(?1) AS j CROSS JOIN {table} AS t ON {on} \
                         WHERE NOT ({})",
                        key.join(" AND ")
                    ),
                )
                .with(chunk.json),
            );
        }
    }
    for (index, parent) in form.parents.iter().enumerate() {
        for (who, query) in missing_parents(parent, rows, &parent.columns, limit) {
            asked.push(Asked::Parent(index, who));
            queries.push(query);
        }
    }

    let mut answers = target.select(queries).await?;
    let others = answers.drain(..beside.min(answers.len())).collect();
    let mut found =
        Existing { no_parent: vec![HashSet::new(); form.parents.len()], ..Existing::default() };
    for (what, answer) in asked.into_iter().zip(answers) {
        match what {
            Asked::Key(numbers) => {
                for mut row in answer {
                    if let Some(number) = take_number(&mut row, &numbers) {
                        found.same_key.insert(number, row);
                    }
                }
            }
            Asked::Unique(numbers) => {
                for mut row in answer {
                    let Some(number) = take_number(&mut row, &numbers) else { continue };
                    let rivals = found.same_unique.entry(number).or_default();
                    if !rivals.contains(&row) {
                        rivals.push(row);
                    }
                }
            }
            Asked::Parent(index, who) => {
                if let Some(set) = found.no_parent.get_mut(index) {
                    set.extend(without_parent(&who, answer));
                }
            }
        }
    }
    Ok((found, others))
}

/// The target's rows under these keys, in their order.
pub(crate) async fn under_keys(
    target: &dyn ReadDatabase,
    form: &Form,
    keys: &[Vec<Value>],
) -> Result<Vec<Option<Vec<Value>>>, Halt> {
    let mut found = vec![None; keys.len()];
    let mut queries = Vec::new();
    let mut ranges: Vec<Vec<usize>> = Vec::new();
    for chunk in chunks(keys.iter(), target.limits().parameter) {
        let on = chunk.matches("t", &form.target_key());
        let columns = std::iter::once("j.key".to_owned())
            .chain(form.target.iter().map(|column| format!("t.{column}")));
        ranges.push(chunk.rows.clone().collect());
        queries.push(
            Select::new(
                columns,
                format!("FROM json_each(?1) AS j CROSS JOIN {} AS t ON {on}", form.target_table()),
            )
            .with(chunk.json),
        );
    }
    if queries.is_empty() {
        return Ok(found);
    }
    for (numbers, answer) in ranges.into_iter().zip(target.select(queries).await?) {
        for mut row in answer {
            if let Some(place) =
                take_number(&mut row, &numbers).and_then(|number| found.get_mut(number))
            {
                *place = Some(row);
            }
        }
    }
    Ok(found)
}

/// Questions for the references whose parent does not exist, each distinct one asked about once;
/// with the rows that have it, for [`without_parent`].
pub(crate) fn missing_parents<R: AsRef<[Value]>>(
    parent: &ParentAt,
    rows: &[R],
    columns: &[usize],
    limit: usize,
) -> Vec<(Vec<Vec<usize>>, Select)> {
    if parent.parent_columns.len() != columns.len() || columns.is_empty() {
        return Vec::new();
    }
    let mut places: HashMap<Vec<Value>, usize> = HashMap::new();
    let mut references: Vec<Vec<Value>> = Vec::new();
    let mut who: Vec<Vec<usize>> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let reference = pick(row.as_ref(), columns);
        // A foreign key with a NULL in it refers to nothing.
        if reference.iter().any(Value::is_null) {
            continue;
        }
        let place = *places.entry(reference).or_insert_with_key(|reference| {
            references.push(reference.clone());
            who.push(Vec::new());
            who.len() - 1
        });
        who.get_mut(place).into_iter().for_each(|who| who.push(number));
    }
    chunks(references.iter(), limit)
        .into_iter()
        .map(|chunk| {
            let on = chunk.matches("t", &parent.parent_columns);
            let query = Select::new(
                ["j.key"],
                format!(
                    "FROM json_each(?1) AS j WHERE NOT EXISTS (SELECT 1 FROM {} AS t WHERE {on})",
                    quote_name(&parent.table)
                ),
            );
            let range = who.get(chunk.rows.clone()).unwrap_or_default().to_vec();
            (range, query.with(chunk.json))
        })
        .collect()
}

/// The rows of which an answer to [`missing_parents`] says that their parent is not there.
pub(crate) fn without_parent(who: &[Vec<usize>], answer: Rows) -> impl Iterator<Item = usize> {
    let place = |row: Vec<Value>| usize::try_from(row.first()?.as_integer()?).ok();
    answer.into_iter().filter_map(place).filter_map(|place| who.get(place)).flatten().copied()
}

/// The number of the row that an answer's first value (`j.key`) stands for; the value is removed.
pub(crate) fn take_number(row: &mut Vec<Value>, numbers: &[usize]) -> Option<usize> {
    if row.is_empty() {
        return None;
    }
    let key = usize::try_from(row.remove(0).as_integer()?).ok()?;
    numbers.get(key).copied()
}

/// Which of these rows of the target some row refers to: for each, the referring table.
pub(crate) async fn referred(
    target: &dyn ReadDatabase,
    form: &Form,
    rows: &[Vec<Value>],
) -> Result<BTreeMap<usize, String>, Halt> {
    let keys: Vec<_> = rows.iter().map(|row| pick(row, &form.key)).collect();
    let found = referrers(target, form, &keys, false).await?;
    let child = |place: usize| Some(form.children.get(place)?.table.clone());
    Ok(found.into_keys().filter_map(|(number, place)| Some((number, child(place)?))).collect())
}
