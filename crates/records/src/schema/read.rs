//! Reads a schema through the table-valued pragmas, in one request.

use rehome_core::Halt;

use super::{Action, Column, ForeignKey, PassedOver, Schema, Selection, Table};
use crate::database::{ReadDatabase, Rows, Select};
use crate::value::Value;

/// The tables that are asked about. D1 refuses any question about its own `_cf_…` tables, so
/// they are left out before a pragma is asked about them.
const OURS: &str = "l.schema = 'main' AND l.type = 'table' \
                    AND l.name NOT GLOB 'sqlite_*' AND l.name NOT GLOB '_cf_*'";

/// Reads the schema of `database`, of which only the selected tables are kept.
///
/// # Errors
/// When the database cannot be read.
pub async fn read(database: &dyn ReadDatabase, selection: &Selection) -> Result<Schema, Halt> {
    let per_table = |pragma: &str, order: &str| {
        format!(
            "FROM pragma_table_list AS l, pragma_{pragma}(l.name) AS x \
             WHERE {OURS} ORDER BY l.name, {order}"
        )
    };
    let queries = vec![
        Select::new(
            ["l.name", "l.type", "l.wr", "l.strict"],
            "FROM pragma_table_list AS l WHERE l.schema = 'main' AND l.name NOT GLOB 'sqlite_*' \
             AND l.name NOT GLOB '_cf_*' ORDER BY l.name",
        ),
        Select::new(
            [
                "l.name",
                "x.name",
                "x.type",
                "x.\"notnull\"",
                "x.pk",
                "x.hidden",
                "x.dflt_value IS NOT NULL",
            ],
            per_table("table_xinfo", "x.cid"),
        ),
        Select::new(
            ["l.name", "x.id", "x.\"table\"", "x.\"from\"", "x.\"to\"", "x.on_delete"],
            per_table("foreign_key_list", "x.id, x.seq"),
        ),
        Select::new(
            ["l.name", "i.name", "i.origin", "x.name", "x.cid"],
            format!(
                "FROM pragma_table_list AS l, pragma_index_list(l.name) AS i, \
                 pragma_index_xinfo(i.name) AS x WHERE {OURS} AND i.\"unique\" = 1 \
                 AND i.partial = 0 AND x.key = 1 ORDER BY l.name, i.name, x.seqno"
            ),
        ),
        Select::new(
            ["m.tbl_name", "m.name"],
            "FROM sqlite_master AS m WHERE m.type = 'trigger' ORDER BY m.name",
        ),
    ];
    let mut answers = database.select(queries).await?.into_iter();
    let mut next = || answers.next().unwrap_or_default();
    let (names, columns, keys, indexes, triggers) = (next(), next(), next(), next(), next());

    let mut schema = Schema::default();
    for row in &names {
        let (name, what) = (text(row, 0), text(row, 1));
        if what != "table" {
            schema.passed_over.push(PassedOver { name, what });
        } else if !selection.includes(&name) {
            schema.passed_over.push(PassedOver { name, what: "excluded".to_owned() });
        } else {
            let without_rowid = number(row, 2) != 0;
            let strict = number(row, 3) != 0;
            let table = Table {
                columns: Vec::new(),
                primary_key: Vec::new(),
                key_never_null: false,
                rowid: None,
                foreign_keys: Vec::new(),
                unique: Vec::new(),
                triggers: of(&triggers, &name).map(|row| text(row, 1)).collect(),
                strict,
                name,
            };
            schema.tables.push(complete(table, without_rowid, &columns, &indexes));
        }
    }
    let tables = schema.tables.clone();
    for table in &mut schema.tables {
        table.foreign_keys = foreign_keys(&keys, &table.name, &tables);
    }
    Ok(schema)
}

fn complete(mut table: Table, without_rowid: bool, columns: &Rows, indexes: &Rows) -> Table {
    let mut key = Vec::new();
    for row in of(columns, &table.name) {
        let hidden = number(row, 5);
        // 1 is a hidden column of a virtual table; 2 and 3 are generated columns.
        let column = Column {
            name: text(row, 1),
            declared: text(row, 2),
            not_null: number(row, 3) != 0,
            generated: hidden != 0,
            has_default: number(row, 6) != 0,
        };
        let place = number(row, 4);
        if place > 0 {
            key.push((place, column.name.clone(), column.not_null));
        }
        table.columns.push(column);
    }
    key.sort();

    // An index of origin `pk` shows that the key is not an alias of the rowid.
    let has_key_index = of(indexes, &table.name).any(|row| text(row, 2) == "pk");
    let is_rowid = key.len() == 1
        && !without_rowid
        && !has_key_index
        && table
            .column(key.first().map_or("", |(_, name, _)| name))
            .is_some_and(|column| column.declared.eq_ignore_ascii_case("INTEGER"));
    table.key_never_null =
        !key.is_empty() && (is_rowid || without_rowid || key.iter().all(|(_, _, never)| *never));
    table.primary_key = key.into_iter().map(|(_, name, _)| name).collect();
    if !without_rowid {
        table.rowid = ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|alias| table.column(alias).is_none())
            .map(str::to_owned);
    }

    let mut unique: Vec<(String, Option<Vec<String>>)> = Vec::new();
    for row in of(indexes, &table.name).filter(|row| text(row, 2) != "pk") {
        let index = text(row, 1);
        if unique.last().is_none_or(|(name, _)| *name != index) {
            unique.push((index, Some(Vec::new())));
        }
        if let Some((_, columns)) = unique.last_mut() {
            // A negative cid stands for an expression or the rowid: not a plain column.
            let plain = number(row, 4) >= 0;
            match columns {
                Some(list) if plain => list.push(text(row, 3)),
                Some(_) | None => *columns = None,
            }
        }
    }
    table.unique = unique.into_iter().filter_map(|(_, columns)| columns).collect();
    table.unique.sort();
    table.unique.dedup();
    table
}

fn foreign_keys(keys: &Rows, name: &str, tables: &[Table]) -> Vec<ForeignKey> {
    let mut found: Vec<(i64, ForeignKey)> = Vec::new();
    for row in of(keys, name) {
        let id = number(row, 1);
        if found.last().is_none_or(|(last, _)| *last != id) {
            let parent = text(row, 2);
            let known = tables.iter().find(|table| table.name.eq_ignore_ascii_case(&parent));
            found.push((
                id,
                ForeignKey {
                    columns: Vec::new(),
                    parent: known.map_or(parent, |table| table.name.clone()),
                    parent_columns: Vec::new(),
                    on_delete: match text(row, 5).as_str() {
                        "CASCADE" | "SET NULL" | "SET DEFAULT" => Action::Change,
                        _ => Action::Refuse,
                    },
                },
            ));
        }
        if let Some((_, key)) = found.last_mut() {
            key.columns.push(text(row, 3));
            if let Some(Value::Text(_)) = row.get(4) {
                key.parent_columns.push(text(row, 4));
            }
        }
    }
    let mut keys: Vec<_> = found.into_iter().map(|(_, key)| key).collect();
    for key in &mut keys {
        // Without named columns a foreign key means the parent's primary key.
        if key.parent_columns.len() != key.columns.len()
            && let Some(parent) = tables.iter().find(|table| table.name == key.parent)
        {
            key.parent_columns.clone_from(&parent.primary_key);
        }
    }
    keys
}

fn of<'a>(rows: &'a Rows, table: &'a str) -> impl Iterator<Item = &'a Vec<Value>> {
    rows.iter().filter(move |row| {
        row.first().and_then(Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case(table))
    })
}

fn text(row: &[Value], index: usize) -> String {
    match row.get(index) {
        Some(Value::Text(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_)) | None => {
            String::new()
        }
    }
}

fn number(row: &[Value], index: usize) -> i64 {
    row.get(index).and_then(Value::as_integer).unwrap_or(0)
}
