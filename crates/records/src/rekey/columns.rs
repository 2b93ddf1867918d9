//! Which columns hold keys of tables that get new ones.
//!
//! First the tables themselves: one integer as the key, which nothing outside of the table gives
//! its meaning. Then everything that refers to such a key, by a foreign key of either database or
//! because a person says so, and whatever refers to that in turn: a table whose key *is* the
//! reference, a composite key with the reference in it, a reference to that.

use std::collections::BTreeSet;

use crate::ids::IdColumns;
use crate::json_path::JsonPath;
use crate::policy::{Conflicts, OnConflict};
use crate::schema::{Finding, ForeignKey, Schema, Severity, Table};

/// A column that holds keys of a rekeyed table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyColumn {
    /// The table that the column is in, as the source spells it.
    pub table: String,
    /// The column, as the source spells it; `None` for the rowid of a table without a key.
    pub column: Option<String>,
    /// Where inside the column's JSON; `None` when the column is the key.
    pub path: Option<JsonPath>,
    /// Whose keys it holds, as the source spells it.
    pub of: String,
    /// Whether it is that table's own key.
    pub own: bool,
    /// Whether a foreign key says so.
    pub enforced: bool,
    /// Whether the target numbers the rows of `table` by AUTOINCREMENT; for an own key.
    pub counted: bool,
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyColumns {
    columns: Vec<KeyColumn>,
}

/// What makes a table unfit for new keys, and what then becomes of it.
struct Unfit(String);

impl KeyColumn {
    fn is(&self, table: &str, column: &str) -> bool {
        self.path.is_none()
            && self.table.eq_ignore_ascii_case(table)
            && self.column.as_deref().unwrap_or("rowid").eq_ignore_ascii_case(column)
    }
}

impl KeyColumns {
    /// Works them out from the foreign keys and the declared references of both schemas. The
    /// findings name what cannot be done as it was asked for, and what looks like a reference that
    /// nobody declared.
    pub fn resolve(
        conflicts: &Conflicts,
        source: &Schema,
        target: &Schema,
        ids: &IdColumns,
    ) -> (Self, Vec<Finding>) {
        let mut found = Self::default();
        let mut findings = Vec::new();
        for table in &source.tables {
            let Some(there) = target.table(&table.name) else {
                continue;
            };
            if conflicts.of(&table.name) != OnConflict::Rekey {
                continue;
            }
            match own_key(table, there, source, target, ids) {
                Ok(column) => found.columns.push(KeyColumn {
                    table: table.name.clone(),
                    column,
                    path: None,
                    of: table.name.clone(),
                    own: true,
                    enforced: true,
                    counted: there.counter.is_some(),
                }),
                Err(Unfit(why)) => findings.push(unfit(&table.name, &why, conflicts)),
            }
        }
        found.follow(&[source, target], source, &mut findings);
        found.inside_documents(source);
        found.undeclared(source, &mut findings);
        (found, findings)
    }

    /// Those of one table.
    pub fn of<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a KeyColumn> {
        self.columns.iter().filter(move |column| column.table.eq_ignore_ascii_case(table))
    }

    /// The tables that get new keys, in alphabetical order.
    pub fn tables(&self) -> BTreeSet<&str> {
        let own = self.columns.iter().filter(|column| column.own);
        own.map(|column| column.table.as_str()).collect()
    }

    fn at(&self, table: &str, column: &str) -> Option<&KeyColumn> {
        self.columns.iter().find(|one| one.is(table, column))
    }

    /// Adds everything that refers to what is there already, until nothing new follows; each round
    /// adds a column, so it ends.
    fn follow(&mut self, schemas: &[&Schema], source: &Schema, findings: &mut Vec<Finding>) {
        loop {
            let mut new: Vec<KeyColumn> = Vec::new();
            let mut said = BTreeSet::new();
            for table in schemas.iter().flat_map(|schema| &schema.tables) {
                // A table that only the target has refers to rows of its own.
                let Some(table) = source.table(&table.name).map(|ours| (ours, table)) else {
                    continue;
                };
                let (ours, table) = table;
                for key in &table.foreign_keys {
                    for (child, parent) in key.columns.iter().zip(&key.parent_columns) {
                        let Some(of) = self.at(&key.parent, parent).map(|one| one.of.clone())
                        else {
                            continue;
                        };
                        let known = self
                            .at(&ours.name, child)
                            .or_else(|| new.iter().find(|one| one.is(&ours.name, child)));
                        match known {
                            Some(known) if known.of == of => continue,
                            Some(known) => {
                                said.insert((
                                    ours.name.clone(),
                                    format!(
                                        "{}.{child} refers to keys of {} and of {of}, which move \
                                     differently",
                                        ours.name, known.of
                                    ),
                                ));
                                continue;
                            }
                            None => {}
                        }
                        let rowid = child == "rowid" && ours.primary_key.is_empty();
                        let carried = ours.carried().find(|c| c.name.eq_ignore_ascii_case(child));
                        if carried.is_none() && !rowid {
                            said.insert((
                                ours.name.clone(),
                                format!(
                                    "{}.{child} is computed and refers to {of}, whose keys move",
                                    ours.name
                                ),
                            ));
                            continue;
                        }
                        new.push(KeyColumn {
                            table: ours.name.clone(),
                            column: carried.map(|column| column.name.clone()),
                            path: None,
                            of,
                            own: false,
                            enforced: key.enforced,
                            counted: false,
                        });
                    }
                }
            }
            if new.is_empty() {
                findings.extend(
                    said.into_iter().map(|(table, message)| refused("reference", &table, &message)),
                );
                return;
            }
            self.columns.append(&mut new);
        }
    }

    /// Adds references inside JSON.
    fn inside_documents(&mut self, source: &Schema) {
        for table in &source.tables {
            for reference in &table.documents {
                let parent = source.table(&reference.parent);
                let key = parent.and_then(|parent| parent.primary_key.first());
                let of = key.and_then(|key| self.at(&reference.parent, key));
                if let (Some(of), Ok(path)) = (of, JsonPath::parse(&reference.path)) {
                    self.columns.push(KeyColumn {
                        table: table.name.clone(),
                        column: Some(reference.column.clone()),
                        path: Some(path),
                        of: of.of.clone(),
                        own: false,
                        enforced: false,
                        counted: false,
                    });
                }
            }
        }
    }

    /// Names columns that look like references to a rekeyed table, by their names.
    fn undeclared(&self, source: &Schema, findings: &mut Vec<Finding>) {
        for table in &source.tables {
            for column in table.carried() {
                let integer = column.declared.is_empty()
                    || column.declared.to_ascii_uppercase().contains("INT");
                let referring = table.foreign_keys.iter().any(|key| {
                    key.columns.iter().any(|child| child.eq_ignore_ascii_case(&column.name))
                });
                if !integer || referring || self.at(&table.name, &column.name).is_some() {
                    continue;
                }
                let Some(of) = self.tables().into_iter().find(|of| names(&column.name, of)) else {
                    continue;
                };
                let place = format!("{}.{}", table.name, column.name);
                findings.push(Finding {
                    severity: Severity::Warning,
                    code: "undeclared_reference".to_owned(),
                    table: table.name.clone(),
                    message: format!(
                        "{place} looks like a reference to {of}, whose keys move, and is carried \
                         as it is"
                    ),
                    hint: format!(
                        "if it is one, declare \"{place}\" = \"{of}\" in [records.references]"
                    ),
                });
            }
        }
    }
}

/// The column that is the table's own key, when it can have new values.
fn own_key(
    table: &Table,
    there: &Table,
    source: &Schema,
    target: &Schema,
    ids: &IdColumns,
) -> Result<Option<String>, Unfit> {
    let name = &table.name;
    let unfit = |why: String| Err(Unfit(why));
    let numbered = [(source, table), (target, there)].into_iter().find_map(|(schema, table)| {
        let by_rowid =
            |key: &&ForeignKey| key.columns.iter().any(|child| child.eq_ignore_ascii_case("rowid"));
        let key = table.foreign_keys.iter().find(by_rowid)?;
        Some(schema.table(&key.parent).map_or(key.parent.clone(), |one| one.name.clone()))
    });
    if let Some(parent) = numbered {
        return unfit(format!("its rows are numbered as those of {parent}, and follow them"));
    }
    let column = match table.primary_key.as_slice() {
        // Nobody can refer to a rowid but by a declaration.
        [] if table.rowid.is_some() && there.rowid.is_some() => return Ok(None),
        [] => return unfit("it has no key that could be changed".to_owned()),
        [one] => one,
        many => return unfit(format!("its key is made of {}", many.join(", "))),
    };
    if ids.of(name).any(|id| id.column.eq_ignore_ascii_case(column)) {
        return unfit(format!("its key {column} holds ids, which are exchanged anyway"));
    }
    for (schema, table) in [(source, table), (target, there)] {
        for key in &table.foreign_keys {
            if key.columns.iter().any(|child| child.eq_ignore_ascii_case(column)) {
                let parent = schema.table(&key.parent).map_or(&key.parent, |one| &one.name);
                return unfit(format!("its key {column} refers to {parent}, and follows it"));
            }
        }
        let integer =
            table.column(column).is_some_and(|one| one.declared.eq_ignore_ascii_case("INTEGER"));
        if !integer || !table.key_never_null {
            return unfit(format!("its key {column} is not an INTEGER PRIMARY KEY"));
        }
    }
    Ok(Some(column.clone()))
}

/// A table that cannot have new keys: refused when it was named, and left as it is when only the
/// default asked for it.
fn unfit(table: &str, why: &str, conflicts: &Conflicts) -> Finding {
    let named = conflicts.tables.keys().any(|name| name.eq_ignore_ascii_case(table));
    let message = format!("{table} cannot have new keys: {why}");
    if named {
        return Finding {
            hint: "choose fail, skip or replace for it in [records.on_conflict]".to_owned(),
            ..refused("rekey", table, &message)
        };
    }
    Finding {
        severity: Severity::Note,
        code: "rekey".to_owned(),
        table: table.to_owned(),
        message,
        hint: "a row of it whose place is taken fails, as with `fail`".to_owned(),
    }
}

fn refused(code: &str, table: &str, message: &str) -> Finding {
    Finding {
        severity: Severity::Refused,
        code: code.to_owned(),
        table: table.to_owned(),
        message: format!("[records]: {message}"),
        hint: "write \"table.column\" = \"table\" in [records.references], each as the source \
               spells it"
            .to_owned(),
    }
}

/// Whether a column's name says that it holds keys of a table: `post_id`, `postId` or `posts_id`
/// for `posts`.
fn names(column: &str, table: &str) -> bool {
    let plain = |text: &str| text.to_ascii_lowercase().replace('_', "");
    let (column, table) = (plain(column), plain(table));
    let Some(stem) = column.strip_suffix("id").filter(|stem| !stem.is_empty()) else {
        return false;
    };
    let singular = [
        table.strip_suffix("ies").map(|stem| format!("{stem}y")),
        table.strip_suffix("es").map(str::to_owned),
        table.strip_suffix('s').map(str::to_owned),
    ];
    stem == table || singular.iter().flatten().any(|one| one == stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_column_refers_to() {
        for (column, table) in [
            ("post_id", "posts"),
            ("postId", "Posts"),
            ("posts_id", "posts"),
            ("category_id", "categories"),
            ("box_id", "boxes"),
            ("badge_image_id", "badge_images"),
        ] {
            assert!(names(column, table), "{column} {table}");
        }
        for (column, table) in [("id", "posts"), ("paid", "posts"), ("post", "posts"), ("_id", "s")]
        {
            assert!(!names(column, table), "{column} {table}");
        }
    }
}
