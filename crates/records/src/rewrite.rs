//! A row with its ids exchanged.
//!
//! First the ids that a row mentions are read from it, then, once the journal has said what has
//! become of each, those that have a counterpart are exchanged. A string inside JSON is exchanged
//! where it stands; every other byte of the text remains (see `json_edit`). An empty
//! text names nobody; so does a value that is not text.

use std::collections::{HashMap, HashSet};

use rehome_core::Kind;

use crate::json_edit;
use crate::layout::Form;
use crate::value::Value;

/// A unit named by a row: its kind and its source key.
pub type Mention = (Kind, String);

/// The units that a row names, each once, in the order of the columns.
pub fn mentions(form: &Form, row: &[Value]) -> Vec<Mention> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for id in &form.ids {
        let Some(text) = row.get(id.column).and_then(Value::as_str) else {
            continue;
        };
        let keys = match &id.path {
            None => vec![text.to_owned()],
            Some(path) => json_edit::find(text, path)
                .unwrap_or_default()
                .into_iter()
                .map(|found| found.text)
                .collect(),
        };
        for key in keys.into_iter().filter(|key| !key.is_empty()) {
            let mention = (id.kind.clone(), key);
            if seen.insert(mention.clone()) {
                found.push(mention);
            }
        }
    }
    found
}

/// The row with every id that `targets` knows exchanged; the others are left as they are.
pub fn rewrite(form: &Form, row: &[Value], targets: &HashMap<Mention, String>) -> Vec<Value> {
    let mut row = row.to_vec();
    let mut edits: HashMap<usize, Vec<(std::ops::Range<usize>, String)>> = HashMap::new();
    for id in &form.ids {
        let Some(text) = row.get(id.column).and_then(Value::as_str) else {
            continue;
        };
        match &id.path {
            None => {
                let target = targets.get(&(id.kind.clone(), text.to_owned())).cloned();
                if let (Some(target), Some(cell)) = (target, row.get_mut(id.column)) {
                    *cell = Value::text(target);
                }
            }
            Some(path) => {
                // Several paths may lead into one text: all ranges are of the original.
                for found in json_edit::find(text, path).unwrap_or_default() {
                    if let Some(target) = targets.get(&(id.kind.clone(), found.text)) {
                        let list = edits.entry(id.column).or_default();
                        if !list.iter().any(|(range, _)| *range == found.range) {
                            list.push((found.range, target.clone()));
                        }
                    }
                }
            }
        }
    }
    for (column, edits) in edits {
        if let Some(cell) = row.get_mut(column)
            && let Some(text) = cell.as_str()
        {
            *cell = Value::text(json_edit::replace(text, edits));
        }
    }
    row
}

/// Whether the row's JSON columns hold something that cannot be searched: the names of columns
/// that are neither NULL nor JSON text.
pub fn unreadable<'a>(form: &'a Form, row: &[Value]) -> Vec<&'a str> {
    form.ids
        .iter()
        .filter_map(|id| {
            let path = id.path.as_ref()?;
            let readable = match row.get(id.column)? {
                Value::Null => true,
                value => value.as_str().is_some_and(|text| json_edit::find(text, path).is_some()),
            };
            (!readable).then(|| form.names.get(id.column).map(String::as_str))?
        })
        .collect()
}
