//! Settings that have no effect in the mode in which the rows are moved.
//!
//! Who writes `on_removed = "delete"` expects rows to go. A mode that never looks at it would leave
//! that person believing so, until it is too late; so it is refused, at its line, even where it
//! says what happens anyway.

use toml::de::{DeTable, DeValue};

use super::{Config, RecordsMode, place};

/// Keys that mean nothing where ids are rewritten in place: where they stand, and what to do.
const IN_PLACE: [(&[&str], &str); 5] = [
    (
        &["source", "database"],
        "one database is enough: name it in `[target.database]` and remove the other",
    ),
    (
        &["target", "database", "import_from"],
        "remove it: no row is copied, so none goes as a file. It belongs to `mode = \"copy\"`",
    ),
    (
        &["records", "on_removed"],
        "remove it: no row is copied, so none is left behind when it goes. It belongs to \
         `mode = \"copy\"`",
    ),
    (
        &["records", "on_conflict"],
        "remove it: no row moves, so none finds its place taken. A row that stands under a new id \
         already makes room or is named, see docs/in-place.md",
    ),
    (
        &["records", "references"],
        "remove it: no key moves but the ids of `[records.ids]`. A column that holds such an id \
         and has no foreign key belongs there: \"table.column\" = \"user\"",
    ),
];

/// Keys that mean nothing where rows are copied.
const COPY: [(&[&str], &str); 2] = [
    (&["records", "lot_users"], "remove it, or set `records.mode = \"in-place\"`"),
    (
        &["source", "database", "import_from"],
        "nothing is written to the source: it belongs into `[target.database]`",
    ),
];

/// The first setting of `text` that has no effect in the mode that `config` has chosen: the
/// message with its line, and what to do.
pub(super) fn find(config: &Config, text: &str) -> Result<(), (String, &'static str)> {
    let Some(records) = &config.records else { return Ok(()) };
    let (keys, why): (&[(&[&str], &str)], _) = match records.mode {
        RecordsMode::Copy => (&COPY, "has no effect where rows are copied"),
        RecordsMode::InPlace => (&IN_PLACE, "has no effect where ids are rewritten in place"),
    };
    // It was understood a moment ago.
    let Ok(table) = DeTable::parse(text) else { return Ok(()) };
    for (path, hint) in keys {
        if let Some(span) = span(table.get_ref(), path) {
            let message = format!("`{}` {why}", path.join("."));
            return Err((place::show(text, Some(span), &message), hint));
        }
    }
    Ok(())
}

/// Where the last key of `path` stands, if it does.
fn span(table: &DeTable<'_>, path: &[&str]) -> Option<std::ops::Range<usize>> {
    let (last, parents) = path.split_last()?;
    let mut table = table;
    for parent in parents {
        let DeValue::Table(inner) = table.get(*parent)?.get_ref() else { return None };
        table = inner;
    }
    table.get_key_value(*last).map(|(key, _)| key.span())
}
