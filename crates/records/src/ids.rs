//! Which columns carry the ids of units, and of which kind.
//!
//! Declared in the configuration as `"table.column" = "kind"`, or `"table.column:$.path"` for an
//! id inside a JSON column. Names that would be misread so are quoted as in SQL:
//! `"table"."odd:$name"`, with `""` for a quote inside. A column with a foreign key to a declared column carries the same
//! ids, so it follows by itself, and so on down the line.

use std::collections::BTreeMap;

use rehome_core::Kind;

use crate::database::quote_name;
use crate::json_path::{JsonPath, PathError};
use crate::schema::Schema;

/// Where an id stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdColumn {
    /// The table, as the schema spells it.
    pub table: String,
    /// The column, as the schema spells it.
    pub column: String,
    /// Where inside the column's JSON; `None` when the column is the id.
    pub path: Option<JsonPath>,
    /// What the id names.
    pub kind: Kind,
    /// The declared column that this one refers to, when it was not declared itself.
    pub follows: Option<String>,
}

/// A declaration that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdError {
    /// It does not read `table.column`.
    #[error("{0:?} does not name a column as \"table.column\"")]
    Form(String),
    /// What stands behind the colon is not a path.
    #[error("{place:?}")]
    Path {
        /// The declaration.
        place: String,
        /// What is wrong with the path.
        #[source]
        source: PathError,
    },
    /// The schema has no such table or column.
    #[error("{0:?}: there is no such column")]
    Missing(String),
    /// Two declarations give one place two kinds.
    #[error("{place:?} is declared as {first} and as {second}")]
    Twice {
        /// The place.
        place: String,
        /// One kind.
        first: String,
        /// The other.
        second: String,
    },
}

/// All id columns of a schema.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IdColumns {
    columns: Vec<IdColumn>,
}

impl IdColumns {
    /// Finds the declared places in a schema and what follows from them. `declared` maps a place
    /// (`badges.owner_id`) to the name of a kind (`user`).
    ///
    /// # Errors
    /// Every declaration that cannot be used.
    pub fn resolve(
        declared: &BTreeMap<String, String>,
        schema: &Schema,
    ) -> Result<Self, Vec<IdError>> {
        let mut found = Self::default();
        let mut errors = Vec::new();
        for (place, kind) in declared {
            match locate(place, kind, schema) {
                Ok(column) => match found.same_place(&column) {
                    Some(other) if other.kind != column.kind => errors.push(IdError::Twice {
                        place: place.clone(),
                        first: other.kind.to_string(),
                        second: column.kind.to_string(),
                    }),
                    Some(_) => {}
                    None => found.columns.push(column),
                },
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        found.follow(schema);
        Ok(found)
    }

    /// Those of one table.
    pub fn of<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a IdColumn> {
        self.columns.iter().filter(move |column| column.table.eq_ignore_ascii_case(table))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &IdColumn> {
        self.columns.iter()
    }

    fn same_place(&self, wanted: &IdColumn) -> Option<&IdColumn> {
        self.columns.iter().find(|column| {
            column.table == wanted.table
                && column.column == wanted.column
                && column.path == wanted.path
        })
    }

    fn follow(&mut self, schema: &Schema) {
        // Until nothing new follows; each round adds a column, so it ends.
        loop {
            let mut new: Vec<IdColumn> = Vec::new();
            for table in &schema.tables {
                for key in &table.foreign_keys {
                    for (child, parent) in key.columns.iter().zip(&key.parent_columns) {
                        let declared = self.columns.iter().find(|column| {
                            column.path.is_none()
                                && column.table.eq_ignore_ascii_case(&key.parent)
                                && column.column.eq_ignore_ascii_case(parent)
                        });
                        let (Some(declared), Some(child)) = (declared, table.column(child)) else {
                            continue;
                        };
                        let follower = IdColumn {
                            table: table.name.clone(),
                            column: child.name.clone(),
                            path: None,
                            kind: declared.kind.clone(),
                            follows: Some(format!("{}.{}", declared.table, declared.column)),
                        };
                        let known = |list: &[IdColumn]| {
                            list.iter().any(|column| {
                                column.path.is_none()
                                    && column.table == follower.table
                                    && column.column == follower.column
                            })
                        };
                        if !known(&self.columns) && !known(&new) {
                            new.push(follower);
                        }
                    }
                }
            }
            if new.is_empty() {
                return;
            }
            self.columns.append(&mut new);
        }
    }
}

/// A place as it is declared: quoted where a name would be misread.
pub fn place(table: &str, column: &str, path: Option<&str>) -> String {
    let misread = |name: &str| name.contains(":$");
    let mut place = if misread(table) || misread(column) {
        format!("{}.{}", quote_name(table), quote_name(column))
    } else {
        format!("{table}.{column}")
    };
    if let Some(path) = path {
        place.push(':');
        place.push_str(path);
    }
    place
}

/// The name in quotes with which a text begins, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut name = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}

/// The column that a place in quotes names, and the path behind it.
fn locate_quoted<'a>(
    place: &'a str,
    schema: &Schema,
) -> Option<((String, String), Option<&'a str>)> {
    let (table, rest) = quoted(place)?;
    let (column, rest) = quoted(rest.strip_prefix('.')?)?;
    let path = match rest.strip_prefix(':') {
        Some(path) if path.starts_with('$') => Some(path),
        None if rest.is_empty() => None,
        Some(_) | None => return None,
    };
    let table = schema.table(&table)?;
    let column = table.carried().find(|one| one.name.eq_ignore_ascii_case(&column))?;
    Some(((table.name.clone(), column.name.clone()), path))
}

fn locate(place: &str, kind: &str, schema: &Schema) -> Result<IdColumn, IdError> {
    let (table, column, path) = find(place, schema)?;
    Ok(IdColumn { table, column, path, kind: Kind::from_name(kind), follows: None })
}

/// The table, the column and the path inside it that a declared place names.
pub(crate) fn find(
    place: &str,
    schema: &Schema,
) -> Result<(String, String, Option<JsonPath>), IdError> {
    let read = |path: &str| {
        JsonPath::parse(path).map_err(|source| IdError::Path { place: place.to_owned(), source })
    };
    if let Some(((table, column), path)) = locate_quoted(place, schema) {
        return Ok((table, column, path.map(read).transpose()?));
    }
    let (name, path) = match place.split_once(":$") {
        Some((name, path)) => (name, Some(read(&format!("${path}"))?)),
        None => (place, None),
    };
    if !name.contains('.') {
        return Err(IdError::Form(place.to_owned()));
    }
    // A table's name may itself hold a point, so every point is tried.
    let found = name.match_indices('.').find_map(|(at, _)| {
        let (table, column) = (name.get(..at)?, name.get(at + 1..)?);
        let table = schema.table(table)?;
        let column = table.carried().find(|c| c.name.eq_ignore_ascii_case(column))?;
        Some((table.name.clone(), column.name.clone()))
    });
    let (table, column) = found.ok_or_else(|| IdError::Missing(place.to_owned()))?;
    Ok((table, column, path))
}
