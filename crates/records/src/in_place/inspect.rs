//! What speaks against exchanging ids in this database, and what makes it slow.

use super::places::Places;
use crate::database::DatabaseKind;
use crate::ids::IdColumns;
use crate::schema::{Finding, Schema, Severity};

/// Looks at a database of this `kind`. `schema` is all of it; `places` are those of the tables
/// that are meant, `ids` the columns declared and followed in all of it.
pub fn inspect(
    schema: &Schema,
    places: &Places,
    ids: &IdColumns,
    kind: DatabaseKind,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has = |table: &str, column: &str| {
        places.each().any(|(of, place)| {
            of.table.eq_ignore_ascii_case(table)
                && of
                    .form
                    .names
                    .get(place.column)
                    .is_some_and(|one| one.eq_ignore_ascii_case(column))
        })
    };
    for id in ids.iter().filter(|id| id.follows.is_some() && !has(&id.table, &id.column)) {
        let parent = id.follows.as_deref().unwrap_or_default();
        findings.push(finding(
            Severity::Refused,
            "referring_table_excluded",
            &id.table,
            format!(
                "{}.{} refers to {parent}, and the table is not among those that are meant",
                id.table, id.column
            ),
            "its rows would be left behind or torn along: take it in, or drop the reference",
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

fn finding(severity: Severity, code: &str, table: &str, message: String, hint: &str) -> Finding {
    Finding {
        severity,
        code: code.to_owned(),
        table: table.to_owned(),
        message,
        hint: hint.to_owned(),
    }
}
