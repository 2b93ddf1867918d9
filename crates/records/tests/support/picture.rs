//! What is in a SQLite file, by questions of its own: every cell of every table by `typeof`,
//! `quote` and `hex`, and everything that the schema keeps. Shares nothing with the code that it
//! judges.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

/// A database as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// `type name tbl_name sql`, sorted.
    pub(crate) schema: Vec<String>,
    /// By table, each row as its cells, sorted; with the rowid where no key is declared.
    pub(crate) rows: BTreeMap<String, Vec<Vec<String>>>,
    /// Counters of AUTOINCREMENT.
    pub(crate) counters: BTreeMap<String, i64>,
}

fn strings(connection: &Connection, sql: &str) -> Vec<Vec<String>> {
    let mut statement = connection.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let width = statement.column_count();
    let rows = statement
        .query_map([], |row| {
            let text = |column| match row.get_ref(column)? {
                ValueRef::Null => Ok(String::new()),
                // Bytes that are not UTF-8 are told apart by `hex`.
                value => Ok(String::from_utf8_lossy(value.as_bytes()?).into_owned()),
            };
            (0..width).map(text).collect()
        })
        .unwrap();
    rows.map(Result::unwrap).collect()
}

fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Takes one.
pub(crate) fn picture(path: &Path) -> Picture {
    let connection = Connection::open(path).unwrap();
    let mut schema: Vec<String> = strings(
        &connection,
        "SELECT type || ' ' || name || ' ' || tbl_name || ' ' || ifnull(sql, '') FROM sqlite_master",
    )
    .concat();
    schema.sort();
    let mut rows = BTreeMap::new();
    for table in strings(
        &connection,
        "SELECT name, cast((SELECT sum(pk) FROM pragma_table_info(name)) AS text) \
         FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', \
         'virtual') AND name NOT GLOB 'sqlite_*' AND name NOT GLOB '_cf_*'",
    ) {
        let columns = strings(
            &connection,
            &format!(
                "SELECT name FROM pragma_table_xinfo('{}') WHERE hidden <> 1",
                table[0].replace('\'', "''")
            ),
        )
        .concat();
        let cell = |column: String| {
            format!("typeof({column}) || ' ' || quote({column}) || ' ' || hex({column})")
        };
        let hidden = columns.iter().any(|column| column.eq_ignore_ascii_case("_rowid_"));
        let mut cells: Vec<String> = columns.iter().map(|column| cell(name(column))).collect();
        if table[1] == "0" && !hidden {
            cells.push(cell("_rowid_".to_owned()));
        }
        let sql = format!("SELECT {} FROM {}", cells.join(", "), name(&table[0]));
        let mut all = strings(&connection, &sql);
        all.sort();
        rows.insert(table[0].clone(), all);
    }
    let mut counters = BTreeMap::new();
    if schema.iter().any(|one| one.starts_with("table sqlite_sequence ")) {
        for row in strings(&connection, "SELECT name, cast(seq AS text) FROM sqlite_sequence") {
            counters.insert(row[0].clone(), row[1].parse().unwrap());
        }
    }
    Picture { schema, rows, counters }
}

/// That SQLite itself finds nothing wrong, foreign keys and full-text indexes included.
pub(crate) fn assert_sound(path: &Path) {
    let connection = Connection::open(path).unwrap();
    assert_eq!(strings(&connection, "PRAGMA integrity_check"), [["ok"]]);
    let broken = strings(&connection, "SELECT \"table\" FROM pragma_foreign_key_check");
    assert_eq!(broken, Vec::<Vec<String>>::new());
    for table in strings(
        &connection,
        "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%fts5%'",
    )
    .concat()
    {
        // Compares an index with the content that it is said to have, and fails on a difference.
        let table = name(&table);
        connection
            .execute_batch(&format!(
                "INSERT INTO {table}({table}, rank) VALUES ('integrity-check', 1)"
            ))
            .unwrap_or_else(|error| panic!("{table}: {error}"));
    }
}

impl Picture {
    /// This one with the rows of `source` added, in which every `user_` of a text has become
    /// `new_`.
    pub(crate) fn with(&self, source: &Self) -> BTreeMap<String, Vec<Vec<String>>> {
        let mut rows = self.rows.clone();
        for (table, more) in &source.rows {
            let all = rows.get_mut(table).unwrap();
            for row in more {
                all.push(row.iter().map(|cell| renamed(cell)).collect());
            }
            all.sort();
        }
        rows
    }
}

fn renamed(cell: &str) -> String {
    match cell.strip_prefix("text ") {
        // `user_` and `new_` as `quote` and as `hex` write them.
        Some(_) => cell.replace("user_", "new_").replace("757365725F", "6E65775F"),
        None => cell.to_owned(),
    }
}
