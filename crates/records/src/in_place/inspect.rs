//! What speaks against exchanging ids in this database, and what makes it slow.

use super::places::Places;
use crate::database::DatabaseKind;
use crate::schema::{Finding, Schema, Severity};

/// Looks at a database of this `kind`. `schema` is all of it; `places` are those of the tables
/// that are meant.
pub fn inspect(schema: &Schema, places: &Places, kind: DatabaseKind) -> Vec<Finding> {
    let mut findings = left_behind(schema, places);
    for circle in &places.circles {
        findings.push(finding(
            Severity::Refused,
            "references_circle",
            &circle.table,
            format!(
                "{} refers to {} ON UPDATE {}, in a circle of references: whichever key changes \
                 first, the action would strike rows that refer to it",
                circle.child,
                circle.parent,
                circle.action.as_sql()
            ),
            "declare the foreign key ON UPDATE CASCADE or NO ACTION, at least until the migration \
             is done",
        ));
    }
    for (table, place) in places.each() {
        if let (false, false) = (place.indexed, place.is_document()) {
            let refers = table.form.parents.iter().any(|one| one.columns.contains(&place.column));
            findings.push(if refers {
                finding(
                    Severity::Warning,
                    "reference_unindexed",
                    &table.table,
                    format!(
                        "{} refers to a key that changes, and no index begins with it: the table \
                         is read through for each user",
                        place.label
                    ),
                    "create an index on it, at least until the migration is done",
                )
            } else {
                finding(
                    Severity::Note,
                    "id_unindexed",
                    &table.table,
                    format!(
                        "no index begins with {}: the table is read through for each lot of users",
                        place.label
                    ),
                    "an index on it makes the run shorter",
                )
            });
        }
    }
    for table in &places.tables {
        let silent = table.form.triggers.iter().filter(|one| !one.keeps_index);
        let cut: Vec<_> = silent
            .filter(|one| kind == DatabaseKind::D1 && !one.stays_whole())
            .map(|one| one.name.as_str())
            .collect();
        if !cut.is_empty() {
            findings.push(finding(
                Severity::Refused,
                "triggers",
                &table.table,
                format!(
                    "the triggers {} of {} could not be put back through D1's API",
                    cut.join(", "),
                    table.table
                ),
                "write BEGIN, CASE and END in capitals between white space, without comments, or \
                 drop them for the time of the run",
            ));
        }
    }
    for index in &schema.indexes {
        let unkept = index.kept_by.is_none()
            && index.content.as_ref().is_some_and(|content| {
                places.tables.iter().any(|one| one.table.eq_ignore_ascii_case(content))
            });
        if unkept {
            let name = &index.name;
            findings.push(finding(
                Severity::Warning,
                "index_unkept",
                name,
                format!("no trigger keeps the full-text index {name} in step with its table"),
                "if it holds ids, rebuild it afterwards",
            ));
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// References to a key that changes from columns that are not exchanged with it.
fn left_behind(schema: &Schema, places: &Places) -> Vec<Finding> {
    let has = |table: &str, column: &str| {
        places.plain().any(|(of, place)| {
            let name = of.form.names.get(place.column);
            of.table.eq_ignore_ascii_case(table)
                && name.is_some_and(|one| one.eq_ignore_ascii_case(column))
        })
    };
    let mut findings = Vec::new();
    for table in &schema.tables {
        for key in table.foreign_keys.iter().filter(|key| key.enforced) {
            for (child, parent) in key.columns.iter().zip(&key.parent_columns) {
                if !has(&key.parent, parent) || has(&table.name, child) {
                    continue;
                }
                let meant = places.tables.iter().any(|one| one.table == table.name);
                let why = if meant {
                    "is not declared to hold the same ids"
                } else {
                    "the table is not among those that are meant"
                };
                findings.push(finding(
                    Severity::Refused,
                    "referring_table_excluded",
                    &table.name,
                    format!("{}.{child} refers to {}.{parent}, and {why}", table.name, key.parent),
                    "its rows would be left behind or torn along: take it in, or drop the reference",
                ));
            }
        }
    }
    findings
}

fn finding(severity: Severity, code: &str, table: &str, message: String, hint: &str) -> Finding {
    Finding {
        severity,
        code: code.to_owned(),
        table: table.to_owned(),
        message,
        hint: hint.to_owned(),
    }
}
