//! Questions to the target about rows of ours: what is there under their keys, what they refer
//! to, and who refers to them.
//!
//! Who refers to whom is asked through the parent's own column, because that is what decides in
//! SQLite whether a foreign key holds (its collation and affinity, not the child's), and so what
//! an ON DELETE CASCADE would reach.

use std::collections::BTreeMap;

use rehome_core::Halt;

use crate::database::{ReadDatabase, Select, quote_name};
use crate::json_rows::{Chunk, chunks};
use crate::layout::{ChildOf, Form, pick};
use crate::target_rows::take_number;
use crate::value::Value;

/// A foreign key of a form that leads to a table in which rows of ours may be.
pub(crate) struct Above<'a> {
    /// The foreign key's number in the form.
    pub(crate) fk: usize,
    /// The parent table's place in the layout.
    pub(crate) table: usize,
    /// How the parent's rows are keyed.
    pub(crate) form: &'a Form,
}

/// What was found under some keys.
#[derive(Default)]
pub(crate) struct Looked {
    /// The rows, in the order of the keys.
    pub(crate) rows: Vec<Option<Vec<Value>>>,
    /// References: the key's number, the foreign key, the parent table's place, the parent's key.
    pub(crate) refers: Vec<(usize, usize, usize, Vec<Value>)>,
}

/// Reads the rows under these keys and, in the same request, the keys of those that they refer
/// to.
pub(crate) async fn look(
    target: &dyn ReadDatabase,
    form: &Form,
    keys: &[Vec<Value>],
    above: &[Above<'_>],
) -> Result<Looked, Halt> {
    let mut looked = Looked { rows: vec![None; keys.len()], refers: Vec::new() };
    let mut queries = Vec::new();
    let mut asked: Vec<(Option<&Above<'_>>, Vec<usize>)> = Vec::new();
    for chunk in chunks(keys.iter(), target.limits().parameter) {
        let on = chunk.matches("t", &form.target_key());
        let here =
            format!("FROM json_each(?1) AS j CROSS JOIN {} AS t ON {on}", form.target_table());
        let numbers: Vec<usize> = chunk.rows.clone().collect();
        let columns = with_number(form.target.iter().map(|column| format!("t.{column}")));
        asked.push((None, numbers.clone()));
        queries.push(Select::new(columns, here.clone()).with(chunk.json.clone()));
        for one in above {
            let Some(parent) = form.parents.get(one.fk) else {
                continue;
            };
            if parent.columns.is_empty() || parent.columns.len() != parent.parent_columns.len() {
                continue;
            }
            let meets = meets(&parent.parent_columns, &pick(&form.target, &parent.columns));
            let columns = with_number(one.form.target_key().iter().map(|key| format!("p.{key}")));
            let rest = format!("{here} CROSS JOIN {} AS p ON {meets}", quote_name(&parent.table));
            asked.push((Some(one), numbers.clone()));
            queries.push(Select::new(columns, rest).with(chunk.json.clone()));
        }
    }
    if queries.is_empty() {
        return Ok(looked);
    }
    for ((above, numbers), answer) in asked.into_iter().zip(target.select(queries).await?) {
        for mut row in answer {
            let Some(number) = take_number(&mut row, &numbers) else {
                continue;
            };
            match above {
                None => {
                    if let Some(place) = looked.rows.get_mut(number) {
                        *place = Some(row);
                    }
                }
                Some(above) => looked.refers.push((number, above.fk, above.table, row)),
            }
        }
    }
    Ok(looked)
}

fn with_number(columns: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once("j.key".to_owned()).chain(columns).collect()
}

fn meets(parent: &[String], child: &[String]) -> String {
    let pairs: Vec<_> =
        parent.iter().zip(child).map(|(parent, child)| format!("p.{parent} = t.{child}")).collect();
    pairs.join(" AND ")
}

/// The rows of one child table that refer to the rows of a chunk of keys, as what follows
/// `SELECT`: `j` is the key, `t` the referring row. With `others`, rows of the chunk itself do
/// not count: they go together.
///
/// SQLite takes a list of keys for some 25 rows, and then reads the whole child table once for
/// each of thousands rather than make an index of its own where the application has none. The
/// list of one element multiplies its guess, and nothing else (measured: 2,500 keys against
/// 6,000 rows, 5 s without it, 0.01 s with it).
pub(crate) fn from_referrers(form: &Form, child: &ChildOf, chunk: &Chunk, others: bool) -> String {
    let meets = meets(&pick(&form.target, &child.columns), &child.child_columns);
    let mut from = format!(
        "FROM json_each(?1) AS j CROSS JOIN json_each('[0]') AS k CROSS JOIN {} AS p ON {} \
         CROSS JOIN {} AS t ON {meets}",
        form.target_table(),
        chunk.matches("p", &form.target_key()),
        quote_name(&child.table)
    );
    if others && child.table == form.target_table {
        let key: Vec<_> = form.target_key().iter().map(|column| format!("t.{column}")).collect();
        let values: Vec<_> = (0..key.len()).map(|column| chunk.column(column)).collect();
        let left = match key.as_slice() {
            [one] => one.clone(),
            many => format!("({})", many.join(", ")),
        };
        // A key with NULL in it is in no list, and that must not read as "unknown".
        from.push_str(&format!(
            " WHERE coalesce({left} IN (SELECT {} FROM json_each(?1) AS j), 0) = 0",
            values.join(", ")
        ));
    }
    from
}

/// How many rows refer to each of these, by the key's number and the child's place in the form.
/// With `others`, those among `keys` themselves do not count.
pub(crate) async fn referrers(
    target: &dyn ReadDatabase,
    form: &Form,
    keys: &[Vec<Value>],
    others: bool,
) -> Result<BTreeMap<(usize, usize), u64>, Halt> {
    let mut found = BTreeMap::new();
    let mut queries = Vec::new();
    let mut asked: Vec<(usize, Vec<usize>)> = Vec::new();
    for (place, child) in form.children.iter().enumerate() {
        for chunk in chunks(keys.iter(), target.limits().parameter) {
            let from = from_referrers(form, child, &chunk, others);
            asked.push((place, chunk.rows.clone().collect()));
            let query = Select::new(["j.key", "count(*)"], format!("{from} GROUP BY j.key"));
            queries.push(query.with(chunk.json));
        }
    }
    if queries.is_empty() {
        return Ok(found);
    }
    for ((place, numbers), answer) in asked.into_iter().zip(target.select(queries).await?) {
        for mut row in answer {
            let count = row.pop().and_then(|count| count.as_integer()).unwrap_or(0);
            if let Some(number) = take_number(&mut row, &numbers) {
                *found.entry((number, place)).or_insert(0) += u64::try_from(count).unwrap_or(0);
            }
        }
    }
    Ok(found)
}
