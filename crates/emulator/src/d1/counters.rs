//! What reached the databases and how often: the evidence behind "exactly once".
//!
//! Only effects count: changes of a request are collected while it runs and added when it commits;
//! a request that fails leaves nothing here. Work done by [`super::D1::setup`] and by connections of
//! a test's own is not counted.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use rusqlite::hooks::Action;
use rusqlite::types::ValueRef;
use serde::Serialize;

use super::authorizer::is_reserved;

/// One row change as SQLite's update hook tells it.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) action: Action,
    pub(crate) table: String,
    pub(crate) rowid: i64,
}

/// Effects on one table.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct TableEffects {
    inserted: u64,
    updated: u64,
    deleted: u64,
    /// Writes of any sort per row, by primary key (parts joined by `|`), or `rowid:N` where the key
    /// is no longer known.
    rows: BTreeMap<String, u64>,
}

/// Effects on one database.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Effects {
    /// Requests that changed something and committed.
    write_requests: u64,
    /// Requests that failed and were rolled back.
    failed_requests: u64,
    tables: BTreeMap<String, TableEffects>,
    /// Changes that SQLite counts without naming a row: tables without rowid, rows removed by
    /// `REPLACE`.
    unnamed_changes: u64,
    #[serde(skip)]
    keys: HashMap<(String, i64), String>,
}

/// What one request did, with the keys of its rows, ready to be added once it has committed.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    changes: Vec<(Change, Option<String>)>,
    unnamed: u64,
}

impl Pending {
    /// Looks up the keys of `changes`, inside the transaction that made them. `total` is SQLite's
    /// own count of changed rows.
    pub(crate) fn resolve(connection: &Connection, changes: Vec<Change>, total: u64) -> Self {
        let named = u64::try_from(changes.len()).unwrap_or(u64::MAX);
        let mut lookups: HashMap<String, Option<String>> = HashMap::new();
        let changes = changes
            .into_iter()
            .map(|change| {
                let sql = lookups
                    .entry(change.table.clone())
                    .or_insert_with(|| key_query(connection, &change.table));
                let key = sql.as_deref().and_then(|sql| key_of(connection, sql, change.rowid));
                (change, key)
            })
            .collect();
        Self { changes, unnamed: total.saturating_sub(named) }
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.unnamed == 0
    }
}

impl Effects {
    /// Adds a committed request.
    pub(crate) fn commit(&mut self, pending: Pending) {
        if !pending.is_empty() {
            self.write_requests += 1;
        }
        self.unnamed_changes += pending.unnamed;
        for (change, key) in pending.changes {
            let place = (change.table, change.rowid);
            if let Some(key) = key {
                self.keys.insert(place.clone(), key);
            }
            let key = self.keys.get(&place).cloned();
            let key = key.unwrap_or_else(|| format!("rowid:{}", place.1));
            let table = self.tables.entry(place.0).or_default();
            match change.action {
                Action::SQLITE_INSERT => table.inserted += 1,
                Action::SQLITE_DELETE => table.deleted += 1,
                // The enum is open; SQLite has no fourth action.
                _ => table.updated += 1,
            }
            *table.rows.entry(key).or_default() += 1;
        }
    }

    /// Counts a request that was rolled back.
    pub(crate) fn fail(&mut self) {
        self.failed_requests += 1;
    }
}

/// The query for a row's primary key by rowid; `None` when the table is gone or has no rowid.
fn key_query(connection: &Connection, table: &str) -> Option<String> {
    if is_reserved(table) {
        return None;
    }
    let mut statement = connection
        .prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")
        .ok()?;
    let names: Vec<String> =
        statement.query_map([table], |row| row.get(0)).ok()?.collect::<Result<_, _>>().ok()?;
    let columns = if names.is_empty() {
        "rowid".to_owned()
    } else {
        names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
    };
    Some(format!("SELECT {columns} FROM {} WHERE rowid = ?1", quoted(table)))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn key_of(connection: &Connection, sql: &str, rowid: i64) -> Option<String> {
    let mut statement = connection.prepare_cached(sql).ok()?;
    let count = statement.column_count();
    statement
        .query_row([rowid], |row| {
            let mut parts = Vec::with_capacity(count);
            for column in 0..count {
                parts.push(match row.get_ref(column)? {
                    ValueRef::Null => "NULL".to_owned(),
                    ValueRef::Integer(integer) => integer.to_string(),
                    ValueRef::Real(real) => real.to_string(),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
                });
            }
            Ok(parts.join("|"))
        })
        .ok()
}
