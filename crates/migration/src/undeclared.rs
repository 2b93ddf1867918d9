//! Ids where nobody said that ids are.
//!
//! A column that holds ids of the source and is not declared would be copied with them: rows
//! that point at nobody. Before a run such columns are proposed (from the source); after it, any
//! id of the source that stands anywhere in the target is counted.

use std::collections::HashSet;
use std::ops::ControlFlow;

use rehome_clerk::USER;
use rehome_core::{Halt, Kind, Knowledge};
use rehome_records::id_search::{self, How, IsId, Prefix, Proposal, Sighting};
use rehome_records::ids;
use rehome_records::schema::{self, Selection};

use crate::config::RecordsConfig;
use crate::connect::Databases;
use crate::error::Error;

/// How Clerk's user ids begin.
pub(crate) fn prefixes() -> Vec<Prefix> {
    vec![Prefix { kind: USER, prefix: "user_".to_owned() }]
}

/// How many rows of a table are looked at before a run: enough to see that a column carries ids.
const SAMPLE: usize = 2000;

/// A Clerk id is its prefix and 27 letters and digits (a KSUID in base 62).
const ID_LENGTH: usize = 27;

/// Columns of the source that hold ids of known users and are not declared, in words.
pub(crate) async fn scan(
    databases: &Databases,
    records: &RecordsConfig,
    knowledge: &dyn Knowledge,
) -> Result<Vec<String>, Error> {
    propose(databases, records, &id_search::known_to(knowledge)).await
}

/// The same before any user is known: whatever has the shape of a user's id.
pub(crate) async fn before_any_user_is_known(
    databases: &Databases,
    records: &RecordsConfig,
) -> Result<Vec<String>, Error> {
    let shaped = |_: &Kind, tokens: &[String]| -> Result<HashSet<String>, Halt> {
        let has_shape = |token: &&String| {
            prefixes().iter().any(|known| token.len() == known.prefix.len() + ID_LENGTH)
        };
        Ok(tokens.iter().filter(has_shape).cloned().collect())
    };
    propose(databases, records, &shaped).await
}

async fn propose(
    databases: &Databases,
    records: &RecordsConfig,
    is_id: IsId<'_>,
) -> Result<Vec<String>, Error> {
    let proposals = id_search::propose(
        databases.source.as_ref(),
        &databases.source_schema,
        &databases.ids,
        &prefixes(),
        is_id,
        SAMPLE,
    )
    .await?;
    let proposals: Vec<_> = proposals
        .into_iter()
        .filter(|proposal| !records.leaves(&proposal.table, &proposal.column))
        .collect();
    let mut words = Vec::new();
    for of_column in proposals.chunk_by(|a, b| a.table == b.table && a.column == b.column) {
        let (told, more) = of_column.split_at(of_column.len().min(PLACES));
        words.extend(told.iter().map(in_words));
        if let Some(one) = more.first() {
            let (table, column) = (&one.table, &one.column);
            words.push(format!("{table}.{column}: and {} more places in it", more.len()));
        }
    }
    Ok(words)
}

/// How many places of one column are named: a document whose members are named by days has many.
const PLACES: usize = 6;

fn in_words(proposal: &Proposal) -> String {
    let Proposal { table, column, kind, how, seen, example } = proposal;
    let declare = |path: Option<&str>| {
        let kind = kind.as_str();
        format!("declare {} = {}", toml(&ids::place(table, column, path)), toml(kind))
    };
    let what = match how {
        How::Whole => format!("{seen} ids seen ({example}); {}", declare(None)),
        How::At(path) => format!("{seen} ids seen at {path} ({example}); {}", declare(Some(path))),
        How::Odd => format!(
            "is declared as an id, and {seen} of its values seen are one with something else \
             ({example}), which would be carried as they are; correct them in the source"
        ),
        How::Bare => format!(
            "is declared as a document, and {seen} of its values seen are an id and no JSON \
             ({example}), which would be carried as they are; correct them in the source"
        ),
        How::Within => format!(
            "{seen} ids seen inside longer text ({example}), where no declaration reaches them; \
             they would be carried as they are"
        ),
    };
    format!("{table}.{column}: {what}")
}

/// A text as TOML has it between quotes, also as a key.
fn toml(text: &str) -> String {
    let odd = |c: char| c.is_control();
    if !text.contains(['"', '\\']) && !text.contains(odd) {
        return format!("\"{text}\"");
    }
    if !text.contains('\'') && !text.contains(odd) {
        return format!("'{text}'");
    }
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if odd(c) => escaped += &format!("\\u{:04X}", u32::from(c)),
            c => escaped.push(c),
        }
    }
    format!("\"{escaped}\"")
}

/// Tells where ids of the source stand in the target's tables.
pub(crate) async fn left_in_target(
    databases: &Databases,
    records: &RecordsConfig,
    knowledge: &dyn Knowledge,
    tell: &mut (dyn FnMut(Sighting) + Send),
) -> Result<(), Error> {
    let carried: Vec<String> =
        databases.layout.tables.iter().map(|table| table.name.clone()).collect();
    let selection = Selection { tables: Some(carried), exclude: Vec::new() };
    let schema = schema::read(databases.target.as_ref(), &selection).await?;
    let known = id_search::known_to(knowledge);
    let target = databases.target.as_ref();
    id_search::search(target, &schema, &prefixes(), knowledge, &known, &mut |sighting| {
        if !records.leaves(&sighting.table, &sighting.column) {
            tell(sighting);
        }
        ControlFlow::Continue(())
    })
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proposed_can_be_pasted() {
        for text in ["a.b", "a b.\"c\"", "it's.\"c\"", "a.b\\c", "a.line\nbreak", "ä.ö:$.x[*]"] {
            let line = format!("{} = {}", toml(text), toml(text));
            let table: toml::Table = line.parse().unwrap();
            assert_eq!(table.get(text).and_then(toml::Value::as_str), Some(text), "{line}");
        }
    }
}
