//! Findings of a preflight, in words: what, why it matters, what to do.

use rehome_records::DatabaseIdentity;
use rehome_records::ids::IdError;
use rehome_records::schema;

use crate::document::{Finding, Severity};

/// A finding that is as it should be.
pub(crate) fn fine(code: &str, message: impl Into<String>) -> Finding {
    Finding { severity: Severity::Ok, code: code.to_owned(), message: message.into(), hint: None }
}

/// A finding with advice.
pub(crate) fn advise(
    severity: Severity,
    code: &str,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Finding {
    Finding { severity, code: code.to_owned(), message: message.into(), hint: Some(hint.into()) }
}

/// What the comparison of two schemas found.
pub(crate) fn schema(found: schema::Finding) -> Finding {
    let severity = match found.severity {
        schema::Severity::Note => Severity::Note,
        schema::Severity::Warning => Severity::Warning,
        schema::Severity::Refused => Severity::Refused,
    };
    advise(severity, &found.code, found.message, found.hint)
}

/// A declared id column that cannot be used.
pub(crate) fn id_column(error: &IdError) -> Finding {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    advise(
        Severity::Refused,
        "id_column",
        format!("[records.ids]: {error}{}", cause.unwrap_or_default()),
        "write \"table.column\" = \"user\", or \"table.column:$.path\" for an id inside JSON; names \
         with `:$` in them are quoted: '\"table\".\"column\"' = \"user\"",
    )
}

/// A table that a part of `[records]` names and that is not carried.
pub(crate) fn no_such_table(part: &str, table: &str) -> Finding {
    advise(
        Severity::Refused,
        "unknown_table",
        format!("[records.{part}]: there is no table {table:?} among those that are carried"),
        "write it as the source spells it, or take the line out",
    )
}

/// Source and target are one database.
pub(crate) fn same_database(identity: &DatabaseIdentity) -> Finding {
    advise(
        Severity::Refused,
        "same_database",
        format!("source and target are the same {identity}"),
        "give the copy a database of its own, with the application's schema and no rows",
    )
}

/// Source and target are one Clerk instance.
pub(crate) fn same_instance(id: &str) -> Finding {
    advise(
        Severity::Refused,
        "same_instance",
        format!("source and target are the same Clerk instance {id}"),
        "the two secret keys belong to one instance: check which key is which",
    )
}

/// A column that holds ids and is not declared.
pub(crate) fn undeclared(found: String, severity: Severity) -> Finding {
    advise(
        severity,
        "undeclared_ids",
        found,
        "declare it in [records.ids], or name it in records.leave_ids if the ids may stay",
    )
}
