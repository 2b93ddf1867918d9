//! The dump that `/export` gives, with everything that it loses.
//!
//! The order and the spellings are those of Cloudflare's own dump (miniflare's
//! `workers/d1/dumpSql.ts`, kept in step with the one in production by hand, as its head says; here
//! as of wrangler 4.164.0): values pass through JavaScript, so integers beyond 2^53 are rounded,
//! `1.0` becomes `1`, bytes that are not UTF-8 become U+FFFD; and a text with both a newline and a
//! literal `\n` comes back with two newlines (workers-sdk issues 15378 and 9042).

use std::fmt::Write as _;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::errors::SqlError;
use super::values;

/// What is to be dumped.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct DumpOptions {
    no_schema: bool,
    no_data: bool,
    /// Names of tables (and, as there, of indexes, triggers and views); all when empty.
    tables: Vec<String>,
}

/// The dump of a database, one statement a line.
///
/// # Errors
/// For a database with virtual tables, in Cloudflare's words; and when SQLite cannot read.
pub(crate) fn dump(connection: &Connection, options: &DumpOptions) -> Result<String, SqlError> {
    let wanted = |name: &str| options.tables.is_empty() || options.tables.iter().any(|t| t == name);
    let mut lines = vec!["PRAGMA defer_foreign_keys=TRUE;".to_owned()];
    let tables = pairs(
        connection,
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql NOT NULL
         ORDER BY tbl_name = 'sqlite_sequence', rowid",
    )?;
    for (name, sql) in tables {
        if !wanted(&name) {
            continue;
        }
        let schema = if name == "sqlite_sequence" {
            "DELETE FROM sqlite_sequence;".to_owned()
        } else if name.starts_with("sqlite_stat") {
            "ANALYZE sqlite_schema;".to_owned()
        } else if sql.starts_with("CREATE VIRTUAL TABLE") {
            return Err(SqlError(
                "D1 Export error: cannot export databases with Virtual Tables (fts5)".to_owned(),
            ));
        } else if name.starts_with("_cf_") || name.starts_with("sqlite_") {
            continue;
        } else {
            match sql.strip_prefix("CREATE TABLE ") {
                Some(quoted) if quoted.starts_with(['\'', '"']) => {
                    format!("CREATE TABLE IF NOT EXISTS {quoted};")
                }
                Some(_) | None => format!("{sql};"),
            }
        };
        if !options.no_schema {
            lines.push(schema);
        }
        if !options.no_data {
            rows(connection, &name, &mut lines)?;
        }
    }
    if !options.no_schema {
        let rest = pairs(
            connection,
            "SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL
             AND type IN ('index', 'trigger', 'view') ORDER BY type COLLATE NOCASE",
        )?;
        lines.extend(
            rest.into_iter().filter(|(name, _)| wanted(name)).map(|(_, s)| format!("{s};")),
        );
    }
    Ok(lines.join("\n"))
}

fn pairs(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<(String, String)>> {
    connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn rows(connection: &Connection, table: &str, lines: &mut Vec<String>) -> rusqlite::Result<()> {
    let columns: Vec<String> = connection
        .prepare("SELECT name FROM pragma_table_info(?1)")?
        .query_map([table], |row| row.get::<_, String>(0))?
        .map(|name| name.map(|name| quoted(&name)))
        .collect::<rusqlite::Result<_>>()?;
    let table = quoted(table);
    let mut statement =
        connection.prepare(&format!("SELECT {} FROM {table}", columns.join(", ")))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut line = format!("INSERT INTO {table} ({}) VALUES(", columns.join(","));
        for at in 0..columns.len() {
            if at > 0 {
                line.push(',');
            }
            cell(&mut line, row.get_ref(at)?);
        }
        line.push_str(");");
        lines.push(line);
    }
    Ok(())
}

fn cell(line: &mut String, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => line.push_str("NULL"),
        ValueRef::Real(real) if real.is_infinite() => {
            line.push_str(if real > 0.0 { "9e999" } else { "-9e999" });
        }
        ValueRef::Integer(_) | ValueRef::Real(_) => values::write_value(line, value),
        ValueRef::Text(bytes) => text(line, &String::from_utf8_lossy(bytes)),
        ValueRef::Blob(bytes) => {
            line.push_str("X'");
            for byte in bytes {
                // Writing into a String cannot fail.
                let _infallible = write!(line, "{byte:02x}");
            }
            line.push('\'');
        }
    }
}

/// A text as SQL. A newline travels as `\n` within a `replace`, which also takes the `\n` that
/// stood there as two characters.
fn text(line: &mut String, text: &str) {
    let mut body = format!("'{}'", text.replace('\'', "''"));
    for (character, placeholder, number) in [('\r', "\\r", 13), ('\n', "\\n", 10)] {
        if text.contains(character) {
            body = body.replace(character, placeholder);
            body = format!("replace({body},'{placeholder}',char({number}))");
        }
    }
    line.push_str(&body);
}
