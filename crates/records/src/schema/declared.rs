//! References that no foreign key declares.
//!
//! Many schemas refer without saying so, or say so in the code of the application only. Once a
//! person has declared such a reference, it is treated as a foreign key is: the table to which it
//! leads goes first, its new keys are followed, and no row comes to stand below a stranger's. But
//! nothing holds it in the database, so one that leads nowhere is carried as it is.

use std::collections::BTreeMap;

use super::{Action, Finding, ForeignKey, OnUpdate, Schema, Severity};

/// Adds `references`, from places (`comments.post_id`) to tables (`posts`), to both schemas.
/// Those that cannot be are named.
pub fn declare(
    references: &BTreeMap<String, String>,
    source: &mut Schema,
    target: &mut Schema,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, parent) in references {
        match locate(place, parent, source) {
            Ok((table, reference)) => {
                for schema in [&mut *source, &mut *target] {
                    let known = schema.tables.iter_mut();
                    for one in known.filter(|one| one.name.eq_ignore_ascii_case(&table)) {
                        one.foreign_keys.push(reference.clone());
                    }
                }
            }
            Err(message) => findings.push(Finding {
                severity: Severity::Refused,
                code: "reference".to_owned(),
                table: place.clone(),
                message: format!("[records.references]: {message}"),
                hint: "write \"table.column\" = \"table\", each as the source spells it, or take \
                       the line out"
                    .to_owned(),
            }),
        }
    }
    findings
}

fn locate(place: &str, parent: &str, source: &Schema) -> Result<(String, ForeignKey), String> {
    let Some(parent) = source.table(parent) else {
        return Err(format!(
            "{place:?}: there is no table {parent:?} among those that are carried"
        ));
    };
    let [key] = parent.primary_key.as_slice() else {
        return Err(format!("{place:?}: {} has no key of one column", parent.name));
    };
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
    Ok((table.name.clone(), reference))
}
