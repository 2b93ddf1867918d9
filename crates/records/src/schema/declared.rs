//! References that no foreign key declares.
//!
//! Many schemas refer without saying so, or say so in the code of the application only. Once a
//! person has declared such a reference, it is treated as a foreign key is: the table to which it
//! leads goes first, its new keys are followed, and no row comes to stand below a stranger's. But
//! nothing holds it in the database, so one that leads nowhere is carried as it is. One inside a JSON
//! column is followed, and its table goes first; more is not known of it.

use std::collections::BTreeMap;
use std::error::Error as _;

use super::{Action, DocumentReference, Finding, ForeignKey, OnUpdate, Schema, Severity};
use crate::graph::copy_order;
use crate::ids::{self, IdError};

/// Adds `references`, from places (`comments.post_id`) to tables (`posts`), to both schemas.
/// Those that cannot be are named.
pub fn declare(
    references: &BTreeMap<String, String>,
    source: &mut Schema,
    target: &mut Schema,
) -> Vec<Finding> {
    let mut wrong: Vec<(String, String)> = Vec::new();
    let mut inside = Vec::new();
    let mut found = Vec::new();
    for (place, parent) in references {
        match locate(place, parent, source) {
            Ok((table, reference)) => found.push((place, table, reference)),
            Err(message) => wrong.push((place.clone(), message)),
        }
    }
    for (place, table, reference) in found {
        for schema in [&mut *source, &mut *target] {
            let known = schema.tables.iter_mut();
            for one in known.filter(|one| one.name.eq_ignore_ascii_case(&table)) {
                match &reference {
                    Reference::Column(key) => one.foreign_keys.push(key.clone()),
                    Reference::Document(inside) => one.documents.push(inside.clone()),
                }
            }
        }
        if let Reference::Document(reference) = reference {
            inside.push((place, table, reference.parent));
        }
    }
    // A foreign key in a circle is left empty for a while; a document cannot be.
    let order = copy_order(source);
    for (place, table, parent) in inside {
        if order.together(&table, &parent) {
            let message = format!(
                "{place:?}: {table} and {parent} refer to each other, so {parent} does not go first"
            );
            wrong.push((place.clone(), message));
        }
    }
    let finding = |(place, message): (String, String)| {
        Finding {
        severity: Severity::Refused,
        code: "reference".to_owned(),
        table: place,
        message: format!("[records.references]: {message}"),
        hint: "write \"table.column\" = \"table\" or \"table.column:$.path\" = \"table\", each as the \
               source spells it, or take the line out"
            .to_owned(),
    }
    };
    wrong.into_iter().map(finding).collect()
}

/// What was declared of a table.
enum Reference {
    Column(ForeignKey),
    Document(DocumentReference),
}

fn locate(place: &str, parent: &str, source: &Schema) -> Result<(String, Reference), String> {
    let Some(parent) = source.table(parent) else {
        return Err(format!(
            "{place:?}: there is no table {parent:?} among those that are carried"
        ));
    };
    let [key] = parent.primary_key.as_slice() else {
        return Err(format!("{place:?}: {} has no key of one column", parent.name));
    };
    match ids::find(place, source) {
        Ok((table, column, Some(path))) => {
            let path = path.to_string();
            let reference = DocumentReference { column, path, parent: parent.name.clone() };
            return Ok((table, Reference::Document(reference)));
        }
        Err(error @ IdError::Path { .. }) => {
            return Err(error.source().map_or_else(|| error.to_string(), ToString::to_string));
        }
        Ok((_, _, None)) | Err(_) => {}
    }
    // A table's name may itself hold a point, so every point is tried.
    let found = place.match_indices('.').find_map(|(at, _)| {
        let (table, column) = (place.get(..at)?, place.get(at + 1..)?);
        let table = source.table(table)?;
        let known = table.carried().find(|one| one.name.eq_ignore_ascii_case(column));
        match known {
            Some(known) => Some((table, known.name.clone())),
            // An index of full text, say, numbers its rows as another table does.
            None => (column.eq_ignore_ascii_case("rowid") && table.primary_key.is_empty())
                .then(|| (table, "rowid".to_owned())),
        }
    });
    let Some((table, column)) = found else {
        return Err(format!("{place:?}: there is no such column"));
    };
    let declared = |one: &ForeignKey| {
        one.columns.len() == 1
            && one.columns.iter().any(|child| child.eq_ignore_ascii_case(&column))
    };
    if let Some(other) = table.foreign_keys.iter().find(|one| declared(one)) {
        return Err(format!("{place:?}: a foreign key leads to {} already", other.parent));
    }
    let reference = ForeignKey {
        columns: vec![column],
        parent: parent.name.clone(),
        parent_columns: vec![key.clone()],
        on_delete: Action::Refuse,
        on_update: OnUpdate::NoAction,
        enforced: false,
    };
    Ok((table.name.clone(), Reference::Column(reference)))
}
