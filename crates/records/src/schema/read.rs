//! Reads a schema through the table-valued pragmas: first what there is, then what each of the
//! tables that are meant is made of.
//!
//! Only those are asked about, because a pragma fails for a virtual table whose module the
//! database does not have, and D1 refuses any question about its own `_cf_…` tables.

use rehome_core::Halt;

use super::sql::tokens;
use super::virtuals::{Nature, keepers, nature};
use super::{
    Action, Column, ForeignKey, OnUpdate, PassedOver, Schema, Selection, Table, TextIndex, Trigger,
};
use crate::database::{ReadDatabase, Rows, Select};
use crate::value::Value;

/// Reads the schema of `database`, of which only the selected tables are kept.
///
/// # Errors
/// When the database cannot be read.
pub async fn read(database: &dyn ReadDatabase, selection: &Selection) -> Result<Schema, Halt> {
    let overview = vec![
        Select::new(
            ["l.name", "l.type", "l.wr", "l.strict", "m.sql"],
            "FROM pragma_table_list AS l LEFT JOIN sqlite_master AS m \
             ON m.type = 'table' AND m.name = l.name WHERE l.schema = 'main' \
             AND l.name NOT GLOB 'sqlite_*' AND l.name NOT GLOB '_cf_*' ORDER BY l.name",
        ),
        // Created again in the same order, they will fire in the same order.
        Select::new(
            ["m.tbl_name", "m.name", "m.sql"],
            "FROM sqlite_master AS m WHERE m.type = 'trigger' ORDER BY m.rowid",
        ),
        Select::new(["m.name"], "FROM sqlite_master AS m WHERE m.name = 'sqlite_sequence'"),
    ];
    let mut answers = database.select(overview).await?.into_iter();
    let mut next = || answers.next().unwrap_or_default();
    let (names, triggers, has_counters) = (next(), next(), !next().is_empty());

    let mut triggers: Vec<(String, Trigger)> = triggers
        .iter()
        .map(|row| {
            let trigger = Trigger { name: text(row, 1), sql: text(row, 2), keeps_index: false };
            (text(row, 0), trigger)
        })
        .collect();
    let natures: Vec<Option<Nature>> = names
        .iter()
        .map(|row| (text(row, 1) == "virtual").then(|| nature(&text(row, 4))))
        .collect();
    let texts: Vec<TextIndex> = names
        .iter()
        .zip(&natures)
        .filter_map(|(row, nature)| {
            let content = match nature.as_ref()? {
                Nature::Text => None,
                Nature::Index(content) => content.clone(),
                Nature::Tree | Nature::Look | Nature::Foreign => return None,
            };
            Some(TextIndex { name: text(row, 0), content, kept_by: None })
        })
        .collect();
    let mut indexes = keepers(texts, &mut triggers);

    let mut schema = Schema::default();
    let mut shapes = Vec::new();
    for (row, nature) in names.iter().zip(natures) {
        let (name, what) = (text(row, 0), text(row, 1));
        let kept = indexes.iter().any(|one| one.name == name && one.kept_by.is_some());
        let what = match (&nature, what.as_str()) {
            (Some(Nature::Index(_)), _) => "index",
            (Some(Nature::Text), _) if kept => "index",
            (Some(Nature::Text | Nature::Tree), _) | (None, "table") => "table",
            (Some(Nature::Look), _) => "view",
            (Some(Nature::Foreign), _) => "virtual",
            (None, other) => other,
        };
        if matches!(what, "table" | "index" | "virtual") && !selection.includes(&name) {
            schema.passed_over.push(PassedOver { name, what: "excluded".to_owned() });
        } else if what == "table" {
            shapes.push(Shape { nature, without_rowid: number(row, 2) != 0 });
            schema.tables.push(Table {
                columns: Vec::new(),
                primary_key: Vec::new(),
                key_never_null: false,
                rowid: None,
                foreign_keys: Vec::new(),
                documents: Vec::new(),
                unique: Vec::new(),
                triggers: triggers
                    .iter()
                    .filter(|(table, _)| table.eq_ignore_ascii_case(&name))
                    .map(|(_, trigger)| trigger.clone())
                    .collect(),
                strict: number(row, 3) != 0,
                counter: tokens(&text(row, 4))
                    .iter()
                    .any(|token| token.is("AUTOINCREMENT"))
                    .then_some(0),
                name,
            });
        } else {
            schema.passed_over.push(PassedOver { name, what: what.to_owned() });
        }
    }
    indexes.retain(|one| schema.passed(&one.name) == Some("index"));
    schema.indexes = indexes;
    if !schema.tables.is_empty() {
        details(database, &mut schema, &shapes, has_counters).await?;
    }
    Ok(schema)
}

/// What decides how the rows of a table are told apart.
struct Shape {
    /// Of a virtual table.
    nature: Option<Nature>,
    without_rowid: bool,
}

/// Fills in what each table is made of.
async fn details(
    database: &dyn ReadDatabase,
    schema: &mut Schema,
    shapes: &[Shape],
    has_counters: bool,
) -> Result<(), Halt> {
    let names: Vec<&str> = schema.tables.iter().map(|table| table.name.as_str()).collect();
    let names = serde_json::to_string(&names).map_err(|error| Halt::Bug(error.to_string()))?;
    let per_table = |pragma: &str, rest: &str| {
        format!("FROM json_each(?1) AS l, pragma_{pragma}(l.value) AS x {rest}")
    };
    let mut queries = vec![
        Select::new(
            [
                "l.value",
                "x.name",
                "x.type",
                "x.\"notnull\"",
                "x.pk",
                "x.hidden",
                "x.dflt_value IS NOT NULL",
            ],
            // 1 is a hidden column of a virtual table; 2 and 3 are generated columns.
            per_table("table_xinfo", "WHERE x.hidden <> 1 ORDER BY l.key, x.cid"),
        ),
        Select::new(
            [
                "l.value",
                "x.id",
                "x.\"table\"",
                "x.\"from\"",
                "x.\"to\"",
                "x.on_delete",
                "x.on_update",
            ],
            per_table("foreign_key_list", "ORDER BY l.key, x.id, x.seq"),
        ),
        Select::new(
            ["l.value", "i.name", "i.origin", "x.name", "x.cid"],
            "FROM json_each(?1) AS l, pragma_index_list(l.value) AS i, \
             pragma_index_xinfo(i.name) AS x WHERE i.\"unique\" = 1 \
             AND i.partial = 0 AND x.key = 1 ORDER BY l.key, i.name, x.seqno",
        ),
    ];
    if has_counters {
        queries.push(Select::new(
            ["l.value", "s.seq"],
            "FROM json_each(?1) AS l, sqlite_sequence AS s WHERE s.name = l.value",
        ));
    }
    let queries = queries.into_iter().map(|query| query.with(names.clone())).collect();
    let mut answers = database.select(queries).await?.into_iter();
    let mut next = || answers.next().unwrap_or_default();
    let (columns, keys, indexes, counters) = (next(), next(), next(), next());
    let tables = std::mem::take(&mut schema.tables);
    schema.tables = tables
        .into_iter()
        .zip(shapes)
        .map(|(mut table, shape)| {
            if let (Some(counter), Some(row)) =
                (&mut table.counter, of(&counters, &table.name).next())
            {
                *counter = number(row, 1);
            }
            complete(table, shape, &columns, &indexes)
        })
        .collect();
    let tables = schema.tables.clone();
    for table in &mut schema.tables {
        table.foreign_keys = foreign_keys(&keys, &table.name, &tables);
    }
    Ok(())
}

fn complete(mut table: Table, shape: &Shape, columns: &Rows, indexes: &Rows) -> Table {
    let without_rowid = shape.without_rowid;
    let mut key = Vec::new();
    for row in of(columns, &table.name) {
        let column = Column {
            name: text(row, 1),
            declared: text(row, 2),
            not_null: number(row, 3) != 0,
            generated: number(row, 5) != 0,
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

    if shape.nature == Some(Nature::Tree) {
        // Its first column is the rowid under another name, and no pragma says so.
        table.primary_key = table.columns.first().map(|id| id.name.clone()).into_iter().collect();
        table.key_never_null = true;
        table.rowid = None;
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
                    on_update: on_update(&text(row, 6)),
                    enforced: true,
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

/// As `pragma_foreign_key_list` spells it.
fn on_update(word: &str) -> OnUpdate {
    [OnUpdate::Restrict, OnUpdate::Cascade, OnUpdate::SetNull, OnUpdate::SetDefault]
        .into_iter()
        .find(|action| action.as_sql() == word)
        .unwrap_or(OnUpdate::NoAction)
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
