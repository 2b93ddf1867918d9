//! Whether the rows of one database fit into another.

use serde::{Deserialize, Serialize};

use super::{Schema, Table};
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

/// Compares the source's tables with the target's; an empty answer means that everything fits.
pub fn compare(source: &Schema, target: &Schema) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &source.tables {
        match target.table(&table.name) {
            Some(counterpart) => tables(table, counterpart, &mut findings),
            None => findings.push(refused(
                "table_missing",
                &table.name,
                format!("the target has no table {}", table.name),
                "apply the application's schema migrations to the target, or exclude the table",
            )),
        }
    }
    for other in &source.passed_over {
        if matches!(other.what.as_str(), "virtual" | "view") {
            findings.push(Finding {
                severity: Severity::Note,
                code: format!("{}_not_carried", other.what),
                table: other.name.clone(),
                message: format!("{} is a {} and is not carried", other.name, other.what),
                hint: "rebuild it in the target from the tables that are".to_owned(),
            });
        }
    }
    for group in graph::copy_order(target).groups {
        if let [_, _, ..] = group.as_slice() {
            findings.push(Finding {
                severity: Severity::Note,
                code: "tables_in_a_circle".to_owned(),
                table: group.first().cloned().unwrap_or_default(),
                message: format!("the tables {} refer to each other in a circle", group.join(", ")),
                hint: "rows are written with the reference empty first and completed later; a \
                       reference that may not be NULL waits for its row"
                    .to_owned(),
            });
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
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
    if !target.triggers.is_empty() {
        findings.push(refused(
            "triggers",
            name,
            format!(
                "the target's {name} has triggers that would fire for every carried row: {}",
                target.triggers.join(", ")
            ),
            "drop them for the time of the migration and create them again after it, or exclude \
             the table",
        ));
    }
}
