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
    /// Writes of any sort per row, by primary key (parts joined by `|`), or `rowid:N` where it is not
    /// known: a row with a key of another type that was deleted before it was ever written here.
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
    /// How often the whole database was taken back to a bookmark.
    restores: u64,
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
        let mut lookups: HashMap<String, KeyLookup> = HashMap::new();
        let changes = changes
            .into_iter()
            .map(|change| {
                if !lookups.contains_key(&change.table) {
                    lookups.insert(change.table.clone(), KeyLookup::of(connection, &change.table));
                }
                let key = match lookups.get(&change.table) {
                    Some(KeyLookup::Rowid) => Some(change.rowid.to_string()),
                    Some(KeyLookup::Query(sql)) => key_of(connection, sql, change.rowid),
                    Some(KeyLookup::Unknown) | None => None,
                };
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

    /// Counts a restore. What it undid stays counted: it had happened.
    pub(crate) fn restored(&mut self) {
        self.restores += 1;
    }

    /// Counts a request that was rolled back.
    pub(crate) fn fail(&mut self) {
        self.failed_requests += 1;
    }
}

/// How a table's rows are named.
enum KeyLookup {
    /// The rowid is the key: `INTEGER PRIMARY KEY`, or no key declared.
    Rowid,
    /// A query for the key by rowid; it finds nothing once the row is deleted.
    Query(String),
    /// The table is gone.
    Unknown,
}

impl KeyLookup {
    fn of(connection: &Connection, table: &str) -> Self {
        let columns = connection
            .prepare("SELECT name, type FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")
            .and_then(|mut statement| {
                statement
                    .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<Result<Vec<(String, String)>, _>>()
            });
        match columns.as_deref() {
            Ok([]) => Self::Rowid,
            Ok([(_, kind)]) if kind.eq_ignore_ascii_case("INTEGER") => Self::Rowid,
            Ok(columns) => {
                let names: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
                let names = names.join(", ");
                Self::Query(format!("SELECT {names} FROM {} WHERE rowid = ?1", quoted(table)))
            }
            Err(_) => Self::Unknown,
        }
    }
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
