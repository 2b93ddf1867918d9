//! The order in which tables are copied: parents before their children.
//!
//! Foreign keys, and references inside JSON, make a directed graph. Its strongly connected components
//! (by transitive closure: a database has few tables) are the groups of tables that refer to each
//! other in a circle; between groups the order is topological, within a
//! group and among the unrelated it is alphabetical, so that it is the same in every run.

use std::collections::{BTreeMap, BTreeSet};

use crate::schema::Schema;

/// The copy order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CopyOrder {
    /// Groups in order. A group of one table is the ordinary case; a larger one is a circle.
    pub groups: Vec<Vec<String>>,
}

impl CopyOrder {
    /// All tables in order.
    pub fn tables(&self) -> impl Iterator<Item = &String> {
        self.groups.iter().flatten()
    }

    /// Whether two tables are in one circle (or are the same).
    pub fn together(&self, a: &str, b: &str) -> bool {
        let has = |group: &[String], name: &str| {
            group.iter().any(|table| table.eq_ignore_ascii_case(name))
        };
        self.groups.iter().any(|group| has(group, a) && has(group, b))
    }
}

/// The order in which the tables of a schema are copied.
pub fn copy_order(schema: &Schema) -> CopyOrder {
    let parents: BTreeMap<&str, BTreeSet<&str>> = schema
        .tables
        .iter()
        .map(|table| {
            let parents = table
                .foreign_keys
                .iter()
                .map(|key| &key.parent)
                .chain(table.documents.iter().map(|one| &one.parent))
                .filter_map(|parent| schema.table(parent))
                .map(|parent| parent.name.as_str())
                .collect();
            (table.name.as_str(), parents)
        })
        .collect();
    // A table's parents, theirs, and so on. Tables are few, so the closure is cheap and plain.
    let ancestors: BTreeMap<&str, BTreeSet<&str>> = parents
        .keys()
        .map(|name| {
            let mut seen = BTreeSet::new();
            let mut open = vec![*name];
            while let Some(next) = open.pop() {
                for parent in parents.get(next).into_iter().flatten() {
                    if seen.insert(*parent) {
                        open.push(parent);
                    }
                }
            }
            (*name, seen)
        })
        .collect();
    let above = |a: &str, b: &str| ancestors.get(b).is_some_and(|set| set.contains(a));
    let mut groups: Vec<Vec<&str>> = Vec::new();
    for name in parents.keys() {
        match groups
            .iter_mut()
            .find(|group| group.first().is_some_and(|one| above(one, name) && above(name, one)))
        {
            Some(group) => group.push(name),
            None => groups.push(vec![name]),
        }
    }
    // The first group all of whose outside ancestors are placed comes next.
    let mut order = CopyOrder::default();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    while !groups.is_empty() {
        let ready = groups.iter().position(|group| {
            group.iter().all(|name| {
                ancestors
                    .get(name)
                    .into_iter()
                    .flatten()
                    .all(|parent| group.contains(parent) || placed.contains(parent))
            })
        });
        // Components of a graph have no circle among themselves, so there is always one.
        let group = groups.remove(ready.unwrap_or(0));
        placed.extend(&group);
        order.groups.push(group.into_iter().map(str::to_owned).collect());
    }
    order
}
