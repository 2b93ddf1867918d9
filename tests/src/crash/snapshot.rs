//! The target as it is, to be compared with what it was: every account as JSON, every row as its
//! rowid and the type and literal of each value.

use std::collections::BTreeMap;
use std::path::Path;

use rehome_emulator::Instance;
use rusqlite::Connection;

/// Everything in the target, by name and key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    /// What is in `instance`, and in the database at `path`.
    ///
    /// # Panics
    /// When either cannot be read.
    pub fn take(instance: &Instance, path: &Path) -> Self {
        let mut found = BTreeMap::new();
        for user in instance.users() {
            let shown = serde_json::to_string(&*user).expect("an account is JSON");
            found.insert(format!("account {}", user.id), shown);
        }
        let connection = Connection::open(path).expect("the database opens");
        for (kind, name, sql) in schema(&connection) {
            if kind == "table" {
                rows(&connection, &name, &mut found);
            }
            found.insert(format!("{kind} {name}"), sql);
        }
        Self(found)
    }

    /// What differs from `before`, in words, at most so many of them; `None` when nothing does.
    pub fn differs(&self, before: &Self) -> Option<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(before.0.keys()).collect();
        let differences: Vec<_> = names
            .into_iter()
            .filter(|name| self.0.get(*name) != before.0.get(*name))
            .map(|name| {
                let shown = |side: &Self| side.0.get(name).cloned().unwrap_or("nothing".into());
                format!("{name}\n    before: {}\n    now:    {}", shown(before), shown(self))
            })
            .take(8)
            .collect();
        (!differences.is_empty()).then(|| differences.join("\n"))
    }
}

/// Kind, name and text of all that the schema holds. The emulated D1 keeps tables of its own, and
/// the counters of AUTOINCREMENT stay where they are on a way back.
fn schema(connection: &Connection) -> Vec<(String, String, String)> {
    let mut statement = connection
        .prepare(
            "SELECT type, name, coalesce(sql, '') FROM sqlite_schema
             WHERE name NOT LIKE '\\_%' ESCAPE '\\' AND name <> 'sqlite_sequence'",
        )
        .expect("the schema can be read");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.and_then(Iterator::collect).expect("the schema can be read")
}

fn rows(connection: &Connection, table: &str, found: &mut BTreeMap<String, String>) {
    let mut columns = connection
        .prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")
        .expect("the columns can be read");
    let columns: Vec<String> = columns
        .query_map([table], |row| row.get(0))
        .and_then(Iterator::collect)
        .expect("the columns can be read");
    let values: Vec<_> = columns
        .iter()
        .map(|name| {
            // `quote` would cut a text at its first NUL.
            format!(
                "typeof(\"{name}\") || ' ' || CASE typeof(\"{name}\") WHEN 'text' \
                     THEN quote(CAST(\"{name}\" AS BLOB)) ELSE quote(\"{name}\") END"
            )
        })
        .collect();
    let sql = format!("SELECT rowid, {} FROM \"{table}\"", values.join(" || ', ' || "));
    let mut statement = connection.prepare(&sql).expect("the table can be read");
    let mut rows = statement.query([]).expect("the table can be read");
    while let Some(row) = rows.next().expect("the row can be read") {
        let rowid: i64 = row.get(0).expect("a rowid");
        let values: String = row.get(1).expect("a text");
        found.insert(format!("{table} {rowid}"), values);
    }
}
