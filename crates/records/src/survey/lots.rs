//! The rows to which the rows of a span refer, in lots of bounded content.
//!
//! A span may refer to one row a thousand times, or to a thousand rows that hold a megabyte each.
//! So each is taken once, and the source is asked how large they are before any is read. The first
//! lot of each foreign key is asked for in the request that looks up the span itself: Cloudflare
//! counts requests, and most spans need no second lot.

use std::collections::HashMap;

use rehome_core::Halt;

use super::{Planned, Surveyor};
use crate::database::{ReadDatabase, Rows, Select, quote_name};
use crate::json_rows::chunks;
use crate::layout::{Form, Keying, ParentAt, pick};
use crate::target_rows::take_number;
use crate::value::Value;

/// Content of the parents that are compared at once, in bytes.
const BYTES: i64 = 1_000_000;

/// What a row refers to: in the source, and in the target.
pub(super) type Reference = (Vec<Value>, Vec<Value>);

/// Some of the rows to which rows of a span refer by one foreign key.
pub(super) struct Lot<'a> {
    /// Which foreign key, in the order of the form.
    pub(super) number: usize,
    pub(super) parent: &'a ParentAt,
    /// The form of the table referred to.
    pub(super) above: &'a Form,
    /// What leads to them, each once.
    pub(super) references: Vec<Reference>,
    /// For each reference, the rows that have it.
    pub(super) who: Vec<Vec<usize>>,
    there: There,
}

/// What the target has of a lot.
enum There {
    Unasked,
    /// Asked for, so many questions; each with the references that it is about.
    Asked(Vec<Vec<usize>>),
    /// The rows, by the number of the reference.
    Told(HashMap<usize, Vec<Value>>),
}

impl Lot<'_> {
    fn questions(&self, limit: usize) -> (Vec<Vec<usize>>, Vec<Select>) {
        let to: Vec<_> = self.references.iter().map(|one| one.1.clone()).collect();
        let columns = of_t(&self.above.target);
        questions(&self.above.target_table, self.parent, &columns, &to, limit)
    }
}

/// Asks for the first lot of each foreign key. The answers are for [`hear`], in their order.
pub(super) fn ask_first(lots: &mut [Lot<'_>], limit: usize) -> Vec<Select> {
    let mut queries = Vec::new();
    let mut last = None;
    for lot in lots {
        if last.replace(lot.number) != Some(lot.number) {
            let (asked, questions) = lot.questions(limit);
            lot.there = There::Asked(asked);
            queries.extend(questions);
        }
    }
    queries
}

/// Notes what the target has answered.
pub(super) fn hear(lots: &mut [Lot<'_>], answers: Vec<Rows>) {
    let mut answers = answers.into_iter();
    for lot in lots {
        if let There::Asked(asked) = &lot.there {
            let rows = told(asked, answers.by_ref().take(asked.len()));
            lot.there = There::Told(rows.into_iter().collect());
        }
    }
}

impl Surveyor {
    /// The form of the table to which a foreign key leads.
    pub(super) fn above(&self, parent: &ParentAt) -> Option<&Form> {
        let form = |keying| self.layout.form(&parent.table, keying);
        form(Keying::Primary).or_else(|| form(Keying::Rowid))
    }

    /// What those of the rows that have these numbers refer to, as far as the source has it.
    pub(super) async fn parent_lots<'a>(
        &'a self,
        form: &'a Form,
        planned: &[Planned],
        numbers: &[usize],
    ) -> Result<Vec<Lot<'a>>, Halt> {
        let mut lots = Vec::new();
        for (number, parent) in form.parents.iter().enumerate().filter(|(_, one)| one.carried) {
            let Some(above) = self.above(parent) else { continue };
            let mut places: HashMap<Reference, usize> = HashMap::new();
            let mut who: Vec<Vec<usize>> = Vec::new();
            for row in numbers {
                let Some(plan) = planned.get(*row) else { continue };
                let from = pick(&plan.source, &parent.columns);
                if from.iter().any(Value::is_null) {
                    continue;
                }
                let reference = (from, pick(&plan.row, &parent.columns));
                let place = *places.entry(reference).or_insert_with(|| {
                    who.push(Vec::new());
                    who.len() - 1
                });
                who.get_mut(place).into_iter().for_each(|who| who.push(*row));
            }
            let mut references: Vec<(usize, Reference)> =
                places.into_iter().map(|(reference, place)| (place, reference)).collect();
            references.sort_unstable_by_key(|one| one.0);
            let references: Vec<Reference> = references.into_iter().map(|one| one.1).collect();
            for places in self.lots(above, parent, &references).await? {
                let references = pick(&references, &places);
                let who = pick(&who, &places);
                let there = There::Unasked;
                lots.push(Lot { number, parent, above, references, who, there });
            }
        }
        Ok(lots)
    }

    /// What the target has of a lot, by the number of the reference.
    pub(super) async fn there(
        &self,
        lot: &mut Lot<'_>,
    ) -> Result<HashMap<usize, Vec<Value>>, Halt> {
        if let There::Told(rows) = std::mem::replace(&mut lot.there, There::Unasked) {
            return Ok(rows);
        }
        let (asked, queries) = lot.questions(self.target.limits().parameter);
        let answers = self.target.select(queries).await?;
        Ok(told(&asked, answers).into_iter().collect())
    }

    /// The numbers of the references whose row the source has, in lots of bounded content.
    pub(super) async fn lots(
        &self,
        above: &Form,
        parent: &ParentAt,
        references: &[Reference],
    ) -> Result<Vec<Vec<usize>>, Halt> {
        let size: Vec<_> =
            above.source.iter().map(|c| format!("ifnull(octet_length(t.{c}),0)+2")).collect();
        let keys: Vec<_> = references.iter().map(|reference| reference.0.clone()).collect();
        let source = self.source.as_ref();
        let sizes = under(source, &above.table, parent, &[size.join("+")], &keys).await?;
        let mut lots = Vec::new();
        let mut lot = Vec::new();
        let mut bytes: i64 = 0;
        for (number, row) in sizes {
            let size = row.first().and_then(Value::as_integer).unwrap_or(0);
            if !lot.is_empty() && bytes.saturating_add(size) > BYTES {
                lots.push(std::mem::take(&mut lot));
                bytes = 0;
            }
            lot.push(number);
            bytes = bytes.saturating_add(size);
        }
        if !lot.is_empty() {
            lots.push(lot);
        }
        Ok(lots)
    }
}

pub(super) fn of_t(columns: &[String]) -> Vec<String> {
    columns.iter().map(|column| format!("t.{column}")).collect()
}

/// The parents that these references lead to in one database, by the reference's number.
pub(super) async fn under(
    database: &dyn ReadDatabase,
    table: &str,
    parent: &ParentAt,
    columns: &[String],
    references: &[Vec<Value>],
) -> Result<Vec<(usize, Vec<Value>)>, Halt> {
    let limit = database.limits().parameter;
    let (asked, queries) = questions(table, parent, columns, references, limit);
    if queries.is_empty() {
        return Ok(Vec::new());
    }
    Ok(told(&asked, database.select(queries).await?))
}

/// The questions for [`under`], each with the numbers that its answer counts in.
fn questions(
    table: &str,
    parent: &ParentAt,
    columns: &[String],
    references: &[Vec<Value>],
    limit: usize,
) -> (Vec<Vec<usize>>, Vec<Select>) {
    chunks(references.iter(), limit)
        .into_iter()
        .map(|chunk| {
            let on = chunk.matches("t", &parent.parent_columns);
            let columns = std::iter::once("j.key".to_owned()).chain(columns.iter().cloned());
            let from =
                format!("FROM json_each(?1) AS j CROSS JOIN {} AS t ON {on}", quote_name(table));
            (chunk.rows.collect(), Select::new(columns, from).with(chunk.json))
        })
        .unzip()
}

fn told(asked: &[Vec<usize>], answers: impl IntoIterator<Item = Rows>) -> Vec<(usize, Vec<Value>)> {
    let mut found = Vec::new();
    for (numbers, answer) in asked.iter().zip(answers) {
        for mut row in answer {
            if let Some(number) = take_number(&mut row, numbers) {
                found.push((number, row));
            }
        }
    }
    found
}
