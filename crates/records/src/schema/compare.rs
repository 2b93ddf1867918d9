//! Whether the rows of one database fit into another.

use serde::{Deserialize, Serialize};

use super::{Schema, Table, Trigger};
use crate::database::{DatabaseKind, quote_name};
use crate::graph;

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// May surprise.
    Warning,
    /// Nothing is written while it is so.
    Refused,
}

/// Something that was found when two schemas were compared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable word to group by.
    pub code: String,
    /// The table it is about.
    pub table: String,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// Compares the source's tables with the target's, which is of this `kind`; an empty answer means
/// that everything fits.
pub fn compare(source: &Schema, target: &Schema, kind: DatabaseKind) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &source.tables {
        match target.table(&table.name) {
            Some(counterpart) => {
                tables(table, counterpart, &mut findings);
                triggers(counterpart, kind, &mut findings);
            }
            None if target.index(&table.name).is_some() => {}
            None => findings.push(refused(
                "table_missing",
                &table.name,
                format!("the target has no table {}", table.name),
                "apply the application's schema migrations to the target, or exclude the table",
            )),
        }
    }
    for other in &source.passed_over {
        match other.what.as_str() {
            "view" => findings.push(note(
                "view_not_carried",
                &other.name,
                format!("{} is a view and is not carried", other.name),
                "it shows what the tables of the target hold",
            )),
            "virtual" => findings.push(refused(
                "virtual_table",
                &other.name,
                format!(
                    "{} is a virtual table of a module whose rows cannot be carried by key",
                    other.name
                ),
                "exclude it, and make its content anew in the target from the tables that are \
                 carried",
            )),
            _ => {}
        }
    }
    indexes(source, target, &mut findings);
    for group in graph::copy_order(target).groups {
        if let [_, _, ..] = group.as_slice() {
            findings.push(note(
                "tables_in_a_circle",
                group.first().map_or("", String::as_str),
                format!("the tables {} refer to each other in a circle", group.join(", ")),
                "rows are written with the reference empty first and completed later; a \
                 reference that may not be NULL waits for its row",
            ));
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn note(code: &str, table: &str, message: String, hint: &str) -> Finding {
    Finding { severity: Severity::Note, ..refused(code, table, message, hint) }
}

fn refused(code: &str, table: &str, message: String, hint: &str) -> Finding {
    Finding {
        severity: Severity::Refused,
        code: code.to_owned(),
        table: table.to_owned(),
        message,
        hint: hint.to_owned(),
    }
}

fn tables(source: &Table, target: &Table, findings: &mut Vec<Finding>) {
    let name = &source.name;
    for column in source.carried() {
        let Some(counterpart) = target.column(&column.name) else {
            findings.push(refused(
                "column_missing",
                name,
                format!("the target's {name} has no column {}", column.name),
                "apply the application's schema migrations to the target",
            ));
            continue;
        };
        if counterpart.generated {
            findings.push(refused(
                "column_generated",
                name,
                format!(
                    "{name}.{} is computed in the target and stored in the source",
                    column.name
                ),
                "bring both schemas to the same state",
            ));
        }
        if !column.declared.eq_ignore_ascii_case(&counterpart.declared) {
            findings.push(refused(
                "column_type",
                name,
                format!(
                    "{name}.{} is {:?} in the source and {:?} in the target",
                    column.name, column.declared, counterpart.declared
                ),
                "bring both schemas to the same state: another type may change values silently",
            ));
        }
        if counterpart.not_null && !column.not_null {
            findings.push(Finding {
                severity: Severity::Warning,
                code: "column_not_null".to_owned(),
                table: name.clone(),
                message: format!("{name}.{} may be NULL only in the source", column.name),
                hint: "rows with NULL there will be refused by the target".to_owned(),
            });
        }
    }
    for column in target.carried() {
        if source.column(&column.name).is_none() && column.not_null && !column.has_default {
            findings.push(refused(
                "column_unknown",
                name,
                format!("the target's {name}.{} needs a value that the source lacks", column.name),
                "bring both schemas to the same state",
            ));
        }
    }
    if source.primary_key.len() != target.primary_key.len()
        || source
            .primary_key
            .iter()
            .zip(&target.primary_key)
            .any(|(a, b)| !a.eq_ignore_ascii_case(b))
    {
        findings.push(refused(
            "primary_key",
            name,
            format!("{name} has another primary key in the target"),
            "bring both schemas to the same state",
        ));
    }
    if source.primary_key.is_empty() && (source.rowid.is_none() || target.rowid.is_none()) {
        findings.push(refused(
            "no_key",
            name,
            format!("{name} has neither a primary key nor a rowid that can be named"),
            "rename the column that hides the rowid, or exclude the table",
        ));
    }
    if name.contains([';', '\0']) || source.columns.iter().any(|c| c.name.contains([';', '\0'])) {
        findings.push(refused(
            "name",
            name,
            format!("{name:?} or one of its columns has a name with `;` or NUL in it"),
            "rename it, or exclude the table",
        ));
    }
}

/// The triggers that will not fire for carried rows.
fn triggers(target: &Table, kind: DatabaseKind, findings: &mut Vec<Finding>) {
    let name = &target.name;
    let quiet: Vec<&Trigger> = target.triggers.iter().filter(|one| !one.keeps_index).collect();
    let names = |of: &[&Trigger]| {
        of.iter().map(|trigger| trigger.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let cut: Vec<&Trigger> = match kind {
        DatabaseKind::Sqlite => Vec::new(),
        DatabaseKind::D1 => quiet.iter().filter(|one| !one.stays_whole()).copied().collect(),
    };
    if !cut.is_empty() {
        findings.push(refused(
            "triggers",
            name,
            format!(
                "the target's {name} has triggers that could not be put back through D1's API, \
                 which cuts their text at a semicolon: {}",
                names(&cut)
            ),
            "create them anew in the target with BEGIN, CASE and END in capitals, each between \
             blanks or line feeds, and without comments, brackets and carriage returns; or \
             exclude the table",
        ));
    } else if !quiet.is_empty() {
        findings.push(note(
            "triggers_quiet",
            name,
            format!("triggers of {name} that do not fire for carried rows: {}", names(&quiet)),
            "each atomic request takes them away, writes, and creates them again as they were; \
             for all others they fire as ever",
        ));
    }
}

/// Full-text indexes: whether their content follows.
fn indexes(source: &Schema, target: &Schema, findings: &mut Vec<Finding>) {
    for index in &target.indexes {
        let name = &index.name;
        let here = source.passed(name);
        if let Some(table) = &index.kept_by {
            findings.push(note(
                "index_follows",
                name,
                format!("the full-text index {name} is kept by triggers of {table}"),
                "they fire for carried rows too, so that its content follows; nothing is copied",
            ));
        } else if here != Some("excluded")
            // An index of a table that is not written to stays right.
            && index.content.as_ref().is_none_or(|table| source.table(table).is_some())
        {
            let found = refused(
                "index_unkept",
                name,
                format!(
                    "the full-text index {name} of the target has no content of its own, and not \
                     for every insert, update and delete a trigger that keeps it and does \
                     nothing else"
                ),
                &format!(
                    "create such triggers, or exclude it and after the migration run \
                     INSERT INTO {0}({0}) VALUES('rebuild')",
                    quote_name(name)
                ),
            );
            let known = source.index(name).is_some() || source.table(name).is_some();
            // What the source does not have cannot be excluded.
            let severity = if known { Severity::Refused } else { Severity::Warning };
            findings.push(Finding { severity, ..found });
        }
    }
    for index in source.indexes.iter().filter(|index| target.index(&index.name).is_none()) {
        let name = &index.name;
        if target.table(name).is_some() {
            findings.push(refused(
                "index_unkept",
                name,
                format!(
                    "triggers keep the full-text index {name} in the source, not in the target"
                ),
                "create the same triggers in the target, or exclude it",
            ));
        } else {
            findings.push(note(
                "index_missing",
                name,
                format!("the target has no full-text index {name}"),
                "create it in the target, with its triggers, if it is to be there",
            ));
        }
    }
}
