//! Which columns carry the ids of units, and of which kind.
//!
//! Declared in the configuration as `"table.column" = "kind"`, or `"table.column:$.path"` for an
//! id inside a JSON column. A column with a foreign key to a declared column carries the same
//! ids, so it follows by itself, and so on down the line.

use std::collections::BTreeMap;

use rehome_core::Kind;

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

fn locate(place: &str, kind: &str, schema: &Schema) -> Result<IdColumn, IdError> {
    let (name, path) = match place.split_once(":$") {
        Some((name, path)) => {
            let path = JsonPath::parse(&format!("${path}"))
                .map_err(|source| IdError::Path { place: place.to_owned(), source })?;
            (name, Some(path))
        }
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
    Ok(IdColumn { table, column, path, kind: Kind::from_name(kind), follows: None })
}
