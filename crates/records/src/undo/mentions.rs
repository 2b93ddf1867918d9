//! Rows of the target that name an account, whoever put them there.
//!
//! Before an account is deleted it must be known who still speaks of it. An application that
//! answers `user.created` by inserting a row makes one for every account that this migration
//! creates; such a row is *identifying* (the id is its key, or unique) and goes with the account.
//! Any other row is work of somebody: the account is in use.

use std::collections::{BTreeMap, HashMap};

use rehome_core::{Halt, Kind};
use serde::{Deserialize, Serialize};

use super::statements::{Undoing, deferred, statements};
use crate::database::{ReadDatabase, Select, Statement, WriteDatabase, Written};
use crate::json_rows::chunks;
use crate::layout::{Form, Keying, Layout, TableLayout, pick};
use crate::quiet;
use crate::rewrite::mentions;
use crate::span::{key_from_json, key_to_json};
use crate::survey::{self, show_key};
use crate::value::Value;

/// A row of the target that names a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MentionedRow {
    /// The table as the source spells it.
    pub table: String,
    /// By what its rows are told apart here.
    pub keying: Keying,
    /// Its key.
    pub key: Vec<Value>,
    /// The whole row as it was read, in the order of the columns that travel.
    pub row: Vec<Value>,
    /// Whether the id is part of its key or of a unique set: then it stands for the unit itself.
    pub identifying: bool,
}

/// A [`MentionedRow`] as a journal keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    table: String,
    keying: Keying,
    key: Vec<serde_json::Value>,
    row: Vec<serde_json::Value>,
}

impl MentionedRow {
    /// Its key as a person would look for it.
    pub fn key_in_words(&self) -> String {
        show_key(&self.key)
    }

    /// Everything that is needed to remove it, or to put it back by hand.
    pub fn to_json(&self) -> serde_json::Value {
        let (table, keying) = (self.table.clone(), self.keying);
        serde_json::json!(Kept {
            table,
            keying,
            key: key_to_json(&self.key),
            row: key_to_json(&self.row),
        })
    }

    /// The reverse of [`MentionedRow::to_json`], for a row that stands for its unit.
    ///
    /// # Errors
    /// [`Halt::Bug`] when the journal holds something else.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, Halt> {
        let kept = Kept::deserialize(json)
            .map_err(|error| Halt::Bug(format!("a row of the journal: {error}")))?;
        Ok(Self {
            table: kept.table,
            keying: kept.keying,
            key: key_from_json(&kept.key)?,
            row: key_from_json(&kept.row)?,
            identifying: true,
        })
    }
}

/// By what rows of the target's table are told apart without fail.
pub(super) fn form_of(table: &TableLayout) -> Option<(&Form, Keying)> {
    let primary = table.primary.as_ref().map(|form| (form, Keying::Primary));
    let rowid = table.rowid.as_ref().map(|form| (form, Keying::Rowid));
    if table.primary_may_be_null { rowid.or(primary) } else { primary.or(rowid) }
}

/// The same row under its primary key, when that is whole.
fn by_key<'a>(
    table: &'a TableLayout,
    form: &'a Form,
    keying: Keying,
    row: Vec<Value>,
) -> (&'a Form, Keying, Vec<Value>) {
    if keying == Keying::Rowid
        && let Some(primary) = &table.primary
    {
        // The rowid stands before the columns.
        let plain: Vec<Value> = row.iter().skip(1).cloned().collect();
        if !pick(&plain, &primary.key).iter().any(Value::is_null) {
            return (primary, Keying::Primary, plain);
        }
    }
    (form, keying, row)
}

/// A condition that holds where the column `name` of the row `t` has one of the ids of `?1`, a JSON
/// array of rows of one value each, or seems to: as its whole value, or inside a document. Either
/// way the table is read through once, not once an id; a document that SQLite cannot read is
/// searched as a text.
pub(super) fn seems_to_name(name: &str, inside: bool) -> String {
    const IDS: &str = "SELECT j.value->>0 FROM json_each(?1) AS j";
    if inside {
        format!(
            "CASE WHEN json_valid(t.{name}) THEN EXISTS (SELECT 1 FROM json_tree(t.{name}) AS x \
             WHERE x.type = 'text' AND x.atom IN ({IDS})) ELSE EXISTS (SELECT 1 FROM \
             json_each(?1) AS j WHERE instr(t.{name}, j.value->>0) > 0) END"
        )
    } else {
        format!("t.{name} IN ({IDS})")
    }
}

/// For each of these target ids of `kind` the rows of every carried table that name it, also
/// inside JSON columns; ids that no row names are left out. One question per id column, all in
/// one request; a JSON column is read through once for all ids together.
///
/// # Errors
/// When the target cannot be read.
pub async fn mentions_of(
    target: &dyn ReadDatabase,
    layout: &Layout,
    kind: &Kind,
    ids: &[String],
) -> Result<HashMap<String, Vec<MentionedRow>>, Halt> {
    let names: Vec<Vec<Value>> = ids.iter().map(|id| vec![Value::text(id)]).collect();
    let mut queries = Vec::new();
    let mut asked: Vec<(&TableLayout, &Form, Keying)> = Vec::new();
    for table in &layout.tables {
        let Some((form, keying)) = form_of(table) else {
            continue;
        };
        let mut columns: BTreeMap<usize, bool> = BTreeMap::new();
        for id in form.ids.iter().filter(|id| id.kind == *kind) {
            *columns.entry(id.column).or_insert(false) |= id.path.is_some();
        }
        for (column, inside) in columns {
            let Some(name) = form.target.get(column) else {
                continue;
            };
            for chunk in chunks(names.iter(), target.limits().parameter) {
                let table_name = form.target_table();
                let rest = format!("FROM {table_name} AS t WHERE {}", seems_to_name(name, inside));
                let columns = form.target.iter().map(|column| format!("t.{column}"));
                asked.push((table, form, keying));
                queries.push(Select::new(columns, rest).with(chunk.json));
            }
        }
    }
    let mut found: HashMap<String, Vec<MentionedRow>> = HashMap::new();
    if queries.is_empty() || ids.is_empty() {
        return Ok(found);
    }
    for ((table, form, keying), answer) in asked.into_iter().zip(target.select(queries).await?) {
        for row in answer {
            let (form, keying, row) = by_key(table, form, keying, row);
            // What SQL found is only likely: a collation or a longer text may have matched.
            for (of, id) in mentions(form, &row) {
                if of != *kind || !ids.contains(&id) {
                    continue;
                }
                let one = MentionedRow {
                    table: table.name.clone(),
                    keying,
                    key: pick(&row, &form.key),
                    identifying: identifies(form, kind, &row, &id),
                    row: row.clone(),
                };
                let rows = found.entry(id).or_default();
                if !rows.contains(&one) {
                    rows.push(one);
                }
            }
        }
    }
    Ok(found)
}

/// Whether the id is the row's key, or unique: then the row stands for the unit.
pub(super) fn identifies(form: &Form, kind: &Kind, row: &[Value], id: &str) -> bool {
    form.ids.iter().any(|at| {
        at.kind == *kind
            && row.get(at.column).and_then(Value::as_str) == Some(id)
            && survey::identifies(form, at)
    })
}

/// Removes these rows in one atomic request, sent once: only if each still is exactly as given,
/// and no other row refers to it. A refusal (`Written::Refused` with `Refusal::Guard`) means that
/// one of the two is not so any more, and that nothing happened.
///
/// # Errors
/// [`Halt::Refused`] when a table is not carried.
pub async fn remove_rows(
    target: &dyn WriteDatabase,
    layout: &Layout,
    rows: &[MentionedRow],
) -> Result<Written, Halt> {
    let mut request: Vec<Statement> = vec![deferred()];
    let mut forms = Vec::new();
    // Children first, so that those which go together do not hold each other back.
    for step in super::stages(layout) {
        let super::RowStep::Remove { table } = step else {
            continue;
        };
        for keying in [Keying::Primary, Keying::Rowid] {
            let mut undoing = Undoing::default();
            for one in rows.iter().filter(|one| one.table == table && one.keying == keying) {
                if !undoing.remove.contains(&one.row) {
                    undoing.remove.push(one.row.clone());
                }
            }
            if undoing.is_empty() {
                continue;
            }
            let form = layout.form(&table, keying).ok_or_else(|| Halt::Refused {
                message: format!("{table} is not carried any more"),
                hint: "the schema or [records] changed; put it back".to_owned(),
            })?;
            request.extend(statements(form, &undoing, target.limits()));
            forms.push(form);
        }
    }
    if request.len() == 1 {
        return Ok(Written::Done { changes: 0 });
    }
    Ok(quiet::write(target, &forms, request).await)
}
