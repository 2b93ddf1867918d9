//! Virtual tables: which of them are tables like others, which follow by themselves, and which
//! cannot be carried.
//!
//! An FTS5 table with content of its own, and an R*Tree, are read and written by key like any
//! table. An FTS5 table that triggers keep in step with a table of the application is an index:
//! its content follows because those triggers fire (see [`Trigger::keeps_index`]). An FTS5 table
//! without content of its own that nothing keeps cannot be carried, because it cannot be read.
//! Shadow tables are never touched: they are how a virtual table stores what it holds.

use serde::{Deserialize, Serialize};

use super::sql::{Token, tokens};
use super::triggers::{Deed, Occasion, Trigger, deed};

/// A full-text index: an FTS5 table that is not carried as a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextIndex {
    /// Its name.
    pub name: String,
    /// The table in which its content is; `None` when it has its own, or none at all.
    pub content: Option<String>,
    /// The table whose triggers keep it in step, for every insert, update and delete.
    pub kept_by: Option<String>,
}

/// What a virtual table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// Full text with content of its own.
    Text,
    /// Full text without: the content is this table's, or nobody's.
    Index(Option<String>),
    /// An R*Tree, keyed by its first column.
    Tree,
    /// A way of looking at another table.
    Look,
    /// Of any other module.
    Foreign,
}

/// What the virtual table created by `sql` is.
pub(super) fn nature(sql: &str) -> Nature {
    let tokens = tokens(sql);
    let Some(using) = tokens.iter().position(|token| token.is("USING")) else {
        return Nature::Foreign;
    };
    let module = tokens.get(using + 1).and_then(Token::name).unwrap_or_default();
    match module.to_ascii_lowercase().as_str() {
        "fts5" => {
            let content = tokens.windows(3).find_map(|three| match three {
                [name, Token::Sign('='), table] if name.is("content") => Some(table.name()),
                _ => None,
            });
            content.map_or(Nature::Text, |table| {
                let table = table.unwrap_or_default();
                Nature::Index((!table.is_empty()).then(|| table.to_owned()))
            })
        }
        "rtree" | "rtree_i32" => Nature::Tree,
        "fts5vocab" => Nature::Look,
        _ => Nature::Foreign,
    }
}

/// Finds for each of these FTS5 tables the table whose triggers keep it, and marks those
/// triggers. `triggers` are all of the database, each with its table.
pub(super) fn keepers(texts: Vec<TextIndex>, triggers: &mut [(String, Trigger)]) -> Vec<TextIndex> {
    let deeds: Vec<Option<Deed>> = triggers.iter().map(|(_, one)| deed(&one.sql)).collect();
    let mut indexes = texts;
    for index in &mut indexes {
        index.kept_by = keeper(&index.name, triggers, &deeds);
    }
    // A trigger that also writes to something else cannot be let fire, and then none may.
    loop {
        let kept = |name: &str| {
            indexes.iter().any(|one| one.kept_by.is_some() && one.name.eq_ignore_ascii_case(name))
        };
        let spoilt: Vec<String> = deeds
            .iter()
            .flatten()
            .filter(|deed| !deed.plain || !deed.writes.iter().all(|table| kept(table)))
            .flat_map(|deed| deed.writes.iter().filter(|table| kept(table)).cloned())
            .collect();
        if spoilt.is_empty() {
            for ((_, trigger), deed) in triggers.iter_mut().zip(&deeds) {
                trigger.keeps_index = deed.as_ref().is_some_and(|deed| {
                    !deed.writes.is_empty() && deed.writes.iter().all(|table| kept(table))
                });
            }
            return indexes;
        }
        for index in &mut indexes {
            if spoilt.iter().any(|name| name.eq_ignore_ascii_case(&index.name)) {
                index.kept_by = None;
            }
        }
    }
}

/// The one table on which every occasion has a trigger that writes to `index`.
fn keeper(index: &str, triggers: &[(String, Trigger)], deeds: &[Option<Deed>]) -> Option<String> {
    let mut tables: Vec<(&str, Occasion)> = Vec::new();
    for ((table, _), deed) in triggers.iter().zip(deeds) {
        if let Some(deed) = deed
            && deed.writes.iter().any(|name| name.eq_ignore_ascii_case(index))
        {
            tables.push((table, deed.occasion));
        }
    }
    let (first, _) = tables.first()?;
    let one = tables.iter().all(|(table, _)| table.eq_ignore_ascii_case(first));
    let all = [Occasion::Insert, Occasion::Update, Occasion::Delete]
        .iter()
        .all(|wanted| tables.iter().any(|(_, occasion)| occasion == wanted));
    (one && all).then(|| (*first).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nature_of_a_virtual_table_is_read_from_its_arguments() {
        for (arguments, expected) in [
            ("fts5(title, body)", Nature::Text),
            ("FTS5 ( \"content\", tokenize = 'porter')", Nature::Text),
            ("fts5(a, content='docs', content_rowid=id)", Nature::Index(Some("docs".to_owned()))),
            ("fts5(a, Content = \"the docs\")", Nature::Index(Some("the docs".to_owned()))),
            ("fts5(a, content='')", Nature::Index(None)),
            ("rtree(id, a, b)", Nature::Tree),
            ("fts5vocab('f', 'row')", Nature::Look),
            ("fts4(a)", Nature::Foreign),
            ("", Nature::Foreign),
        ] {
            let sql = format!("CREATE VIRTUAL TABLE IF NOT EXISTS \"using\" USING {arguments}");
            assert_eq!(nature(&sql), expected, "{arguments}");
        }
    }
}
