//! Looks for ids anywhere in a database: in every column of every table, as a whole value or
//! inside a longer text.
//!
//! Two uses. Before a migration it proposes columns that hold ids and were not declared; after it
//! proves that no id of the source is left in the target. Candidates are found by the fixed
//! beginning that ids of a kind have (`user_…`), in SQL; whether a candidate is an id is asked of
//! the caller, in batches. Pages go by key. Short cells, which most id columns are, come by the
//! thousands; long ones a hundred at a time.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use rehome_core::{Halt, Kind, Knowledge};

use crate::database::{ReadDatabase, Select, quote_name};
use crate::ids::IdColumns;
use crate::schema::{Column, Schema, Table};
use crate::survey::show_key;
use crate::value::{Value, hex};

/// A cell of at most this many bytes is short.
const SHORT: usize = 256;
/// Columns asked about at once, so that the question stays well below D1's 100,000 bytes of SQL.
const COLUMNS: usize = 40;

/// How ids of a kind begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The kind.
    pub kind: Kind,
    /// The fixed beginning, for example `user_`.
    pub prefix: String,
}

/// Says which of these candidates are ids.
pub type IsId<'a> = &'a (dyn Fn(&Kind, &[String]) -> Result<HashSet<String>, Halt> + Send + Sync);

/// An id that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The row's key, for a person.
    pub key: String,
    /// Whether the id is the whole value.
    pub whole: bool,
    /// Its kind.
    pub kind: Kind,
    /// The id.
    pub id: String,
}

/// What was searched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// Tables that were searched to the end.
    pub tables: u64,
    /// Tables whose rows cannot be told apart, and which were therefore not searched.
    pub unchecked: Vec<String>,
}

/// A column that holds ids and was not declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// What the ids name.
    pub kind: Kind,
    /// How many were seen as whole values.
    pub whole: u64,
    /// How many were seen inside longer texts.
    pub inside: u64,
    /// One of them, with its row.
    pub example: String,
}

/// Those of the candidates that the journal knows as source keys, for [`search`] in a target.
/// One that is also somebody's target key is where it should be.
pub fn known_to<'a>(
    knowledge: &'a dyn Knowledge,
) -> impl Fn(&Kind, &[String]) -> Result<HashSet<String>, Halt> + Send + Sync + 'a {
    move |kind, candidates| {
        let mut found: HashSet<String> =
            knowledge.by_source(kind, candidates)?.into_keys().collect();
        for target in knowledge.by_target(kind, candidates)?.into_keys() {
            found.remove(&target);
        }
        Ok(found)
    }
}

/// Searches every table of `schema`; `rows` bounds how many matching rows of each are looked
/// at (for a table of very many columns: per group of columns).
/// `found` may end the search of a table (or group).
///
/// # Errors
/// When the database or the journal cannot be read.
pub async fn search(
    database: &dyn ReadDatabase,
    schema: &Schema,
    prefixes: &[Prefix],
    is_id: IsId<'_>,
    rows: Option<usize>,
    found: &mut (dyn FnMut(Sighting) -> ControlFlow<()> + Send),
) -> Result<Searched, Halt> {
    let mut searched = Searched::default();
    for table in &schema.tables {
        let Some(key) = key_of(table) else {
            searched.unchecked.push(table.name.clone());
            continue;
        };
        let columns: Vec<&Column> = table.carried().collect();
        for group in columns.chunks(COLUMNS) {
            let part = Part { table, key: &key, columns: group, prefixes };
            part.search(database, is_id, rows.unwrap_or(usize::MAX), found).await?;
        }
        searched.tables += 1;
    }
    Ok(searched)
}

/// Proposes declarations: columns in which ids were seen and which are not declared. A column of
/// which only a path is declared is proposed when ids stand elsewhere in it, too.
///
/// # Errors
/// As [`search`].
pub async fn propose(
    database: &dyn ReadDatabase,
    schema: &Schema,
    ids: &IdColumns,
    prefixes: &[Prefix],
    is_id: IsId<'_>,
    rows: Option<usize>,
) -> Result<Vec<Proposal>, Halt> {
    let mut proposals: BTreeMap<(String, String, String), Proposal> = BTreeMap::new();
    let mut see = |sighting: Sighting| {
        let declared = ids
            .of(&sighting.table)
            .any(|id| id.column == sighting.column && (id.path.is_some() || sighting.whole));
        if !declared {
            let place =
                (sighting.table.clone(), sighting.column.clone(), sighting.kind.to_string());
            let proposal = proposals.entry(place).or_insert_with(|| Proposal {
                table: sighting.table,
                column: sighting.column,
                kind: sighting.kind,
                whole: 0,
                inside: 0,
                example: format!("{} in row {}", sighting.id, sighting.key),
            });
            if sighting.whole {
                proposal.whole += 1;
            } else {
                proposal.inside += 1;
            }
        }
        ControlFlow::Continue(())
    };
    search(database, schema, prefixes, is_id, rows, &mut see).await?;
    Ok(proposals.into_values().collect())
}

fn key_of(table: &Table) -> Option<Vec<String>> {
    if table.key_never_null {
        return Some(table.primary_key.iter().map(|name| quote_name(name)).collect());
    }
    table.rowid.clone().map(|rowid| vec![rowid])
}

/// Some columns of a table.
struct Part<'a> {
    table: &'a Table,
    key: &'a [String],
    columns: &'a [&'a Column],
    prefixes: &'a [Prefix],
}

impl Part<'_> {
    async fn search(
        &self,
        database: &dyn ReadDatabase,
        is_id: IsId<'_>,
        mut left: usize,
        found: &mut (dyn FnMut(Sighting) -> ControlFlow<()> + Send),
    ) -> Result<(), Halt> {
        for long in [false, true] {
            let mut last: Option<Vec<Value>> = None;
            while left > 0 {
                let page = if long { 100 } else { 2000 }.min(left);
                let query = self.question(long, last.as_deref(), page);
                let answer = database.select(vec![query]).await?.pop().unwrap_or_default();
                let full = answer.len() == page;
                left -= answer.len().min(left);
                for sighting in self.sightings(is_id, &answer)? {
                    if found(sighting).is_break() {
                        return Ok(());
                    }
                }
                last = answer.into_iter().next_back().map(|mut row| {
                    row.truncate(self.key.len());
                    row
                });
                if !full {
                    break;
                }
            }
        }
        Ok(())
    }

    fn question(&self, long: bool, last: Option<&[Value]>, page: usize) -> Select {
        let key = self.key.join(", ");
        let mut inner = Vec::new();
        let mut outer = Vec::new();
        for (index, column) in self.key.iter().enumerate() {
            inner.push(format!("{column} AS k{index}"));
            outer.push(format!("k{index}"));
        }
        let order = outer.join(", ");
        let mut any = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            let name = quote_name(&column.name);
            // Bytes are compared with bytes, so that broken text and blobs are searched as well.
            let holds: Vec<_> = self
                .prefixes
                .iter()
                .map(|prefix| {
                    format!("instr(cast({name} as blob), x'{}')", hex(prefix.prefix.as_bytes()))
                })
                .collect();
            let sized = if long { ">" } else { "<=" };
            let fits = format!(
                "typeof({name}) IN ('text','blob') AND octet_length({name}) {sized} {SHORT}"
            );
            inner.push(format!("CASE WHEN {fits} THEN {name} END AS c{index}"));
            outer.push(format!("c{index}"));
            any.push(format!("({fits} AND ({}))", holds.join(" OR ")));
        }
        let beyond = last.map_or_else(String::new, |last| {
            let literals: Vec<_> = last.iter().map(Value::to_sql).collect();
            format!("({key}) > ({}) AND ", literals.join(", "))
        });
        // Short names outside: a database may have to repeat each expression to read it exactly.
        Select::new(
            outer,
            format!(
                "FROM (SELECT {} FROM {} WHERE {beyond}{} ORDER BY {key} LIMIT {page}) \
                 ORDER BY {order}",
                inner.join(", "),
                self.table.quoted(),
                any_of(&any),
            ),
        )
    }

    fn sightings(&self, is_id: IsId<'_>, rows: &[Vec<Value>]) -> Result<Vec<Sighting>, Halt> {
        let mut candidates = Vec::new();
        for row in rows {
            let (key, cells) = row.split_at(self.key.len().min(row.len()));
            let key = if self.table.key_never_null {
                show_key(key)
            } else {
                format!("rowid {}", show_key(key))
            };
            for (column, cell) in self.columns.iter().zip(cells) {
                let (Value::Text(bytes) | Value::Blob(bytes)) = cell else {
                    continue;
                };
                for prefix in self.prefixes {
                    for id in tokens(bytes, &prefix.prefix) {
                        candidates.push(Sighting {
                            table: self.table.name.clone(),
                            column: column.name.clone(),
                            key: key.clone(),
                            whole: id.len() == bytes.len(),
                            kind: prefix.kind.clone(),
                            id,
                        });
                    }
                }
            }
        }
        let mut real: BTreeMap<&str, HashSet<String>> = BTreeMap::new();
        for prefix in self.prefixes {
            let mut ids: Vec<_> = candidates
                .iter()
                .filter(|candidate| candidate.kind == prefix.kind)
                .map(|candidate| candidate.id.clone())
                .collect();
            ids.sort();
            ids.dedup();
            if !ids.is_empty() {
                real.insert(prefix.kind.as_str(), is_id(&prefix.kind, &ids)?);
            }
        }
        candidates.retain(|candidate| {
            real.get(candidate.kind.as_str()).is_some_and(|ids| ids.contains(&candidate.id))
        });
        Ok(candidates)
    }
}

/// A disjunction as a balanced tree: a chain of a hundred terms is deeper than D1 allows.
fn any_of(terms: &[String]) -> String {
    match terms {
        [] => "0".to_owned(),
        [one] => one.clone(),
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            format!("({} OR {})", any_of(left), any_of(right))
        }
    }
}

/// Everything in these bytes that begins so and goes on with letters and digits.
fn tokens(bytes: &[u8], prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        let Some(start) = rest.windows(prefix.len().max(1)).position(|w| w == prefix.as_bytes())
        else {
            break;
        };
        let body = rest.get(start + prefix.len()..).unwrap_or_default();
        let length = body.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let end = start + prefix.len() + length;
        if length > 0
            && let Some(token) = rest.get(start..end)
        {
            found.push(String::from_utf8_lossy(token).into_owned());
        }
        at += end.max(1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_wherever_they_stand() {
        let text = b"{\"a\":\"user_1A\",\"b\":[\"user_2\"]} xuser_3- user_ \xffuser_4";
        assert_eq!(tokens(text, "user_"), ["user_1A", "user_2", "user_3", "user_4"]);
        assert!(tokens(b"use", "user_").is_empty());
    }
}
