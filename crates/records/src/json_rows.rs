//! Rows as one JSON string, and the SQL that takes them apart again.
//!
//! One string parameter holding an array of rows, read by `json_each(?1)`, escapes D1's limits of
//! 100 parameters and 100,000 bytes of SQL, and is exact: integers, reals, text with NUL and NULL
//! come out of JSON as they went in (measured against workerd's SQLite). Blobs and text that is
//! not UTF-8 are objects with hexadecimal digits, decoded by `unhex` only in columns that hold
//! such values. A value that is too large for the parameter of its row travels in parameters of
//! its own, in pieces.

use std::collections::HashMap;
use std::ops::Range;

use crate::value::{Value, hex};

/// Rows that travel in one parameter.
pub(crate) struct Chunk {
    /// The JSON array of rows.
    pub(crate) json: String,
    /// For each column, whether some value is written as an object.
    pub(crate) odd: Vec<bool>,
    /// Which rows.
    pub(crate) rows: Range<usize>,
    /// The expressions of columns whose value stands in `more`; only in a chunk of one row.
    large: HashMap<usize, String>,
    more: Vec<String>,
}

/// A value of at least this many bytes leaves the JSON of a row that is too large.
const LARGE: usize = 100_000;

/// Splits rows over parameters of at most `limit` bytes. A single row that is larger stands
/// alone in a chunk of its own size.
pub(crate) fn chunks<'a, R>(rows: impl IntoIterator<Item = R>, limit: usize) -> Vec<Chunk>
where
    R: IntoIterator<Item = &'a Value>,
{
    let mut done = Vec::new();
    let mut open = Chunk::empty(0);
    for (index, row) in rows.into_iter().enumerate() {
        let row: Vec<&Value> = row.into_iter().collect();
        let (row_json, odd) = write_row(&row);
        if row_json.len() + 2 > limit {
            if !open.rows.is_empty() {
                done.push(open.close());
            }
            done.push(Chunk::of_large_row(&row, index, limit).close());
            open = Chunk::empty(index + 1);
            continue;
        }
        if !open.rows.is_empty() && open.json.len() + row_json.len() + 2 > limit {
            done.push(open.close());
            open = Chunk::empty(index);
        }
        open.push(&row_json, &odd);
    }
    if !open.rows.is_empty() {
        done.push(open.close());
    }
    done
}

fn write_row(row: &[&Value]) -> (String, Vec<bool>) {
    let mut json = "[".to_owned();
    for (column, value) in row.iter().enumerate() {
        if column > 0 {
            json.push(',');
        }
        value.push_json(&mut json);
    }
    json.push(']');
    (json, row.iter().map(|value| value.is_odd()).collect())
}

impl Chunk {
    fn of_large_row(row: &[&Value], index: usize, limit: usize) -> Self {
        let mut chunk = Self::empty(index);
        let mut rest: Vec<&Value> = row.to_vec();
        for (column, value) in row.iter().enumerate() {
            let (bytes, kind) = match value {
                Value::Text(bytes) if bytes.len() >= LARGE => (bytes, "text"),
                Value::Blob(bytes) if bytes.len() >= LARGE => (bytes, "blob"),
                Value::Null
                | Value::Integer(_)
                | Value::Real(_)
                | Value::Text(_)
                | Value::Blob(_) => continue,
            };
            // Two digits a byte; joined again by `||`, which keeps the bytes as they are.
            let pieces: Vec<_> = bytes
                .chunks((limit / 2).max(1))
                .map(|piece| {
                    chunk.more.push(hex(piece));
                    format!("unhex(?{})", chunk.more.len() + 1)
                })
                .collect();
            let expression = format!("(+cast({} as {kind}))", pieces.join("||"));
            chunk.large.insert(column, expression);
            if let Some(place) = rest.get_mut(column) {
                *place = &Value::Null;
            }
        }
        let (json, odd) = write_row(&rest);
        chunk.push(&json, &odd);
        chunk
    }

    /// The strings to bind to `?1`, `?2`, …
    pub(crate) fn params(&self) -> Vec<String> {
        let mut params = Vec::with_capacity(1 + self.more.len());
        params.push(self.json.clone());
        params.extend(self.more.iter().cloned());
        params
    }

    /// The same, of a chunk that is not needed any more.
    pub(crate) fn into_params(self) -> Vec<String> {
        let mut params = vec![self.json];
        params.extend(self.more);
        params
    }

    fn empty(start: usize) -> Self {
        Self {
            json: "[".to_owned(),
            odd: Vec::new(),
            rows: start..start,
            large: HashMap::new(),
            more: Vec::new(),
        }
    }

    fn push(&mut self, row: &str, odd: &[bool]) {
        if !self.rows.is_empty() {
            self.json.push(',');
        }
        self.json.push_str(row);
        self.odd.resize(odd.len().max(self.odd.len()), false);
        for (seen, now) in self.odd.iter_mut().zip(odd) {
            *seen |= now;
        }
        self.rows.end += 1;
    }

    fn close(mut self) -> Self {
        self.json.push(']');
        self
    }

    /// The SQL expression for column `index` of the row `j.value`, without affinity.
    pub(crate) fn column(&self, index: usize) -> String {
        if let Some(expression) = self.large.get(&index) {
            return expression.clone();
        }
        if self.odd.get(index).copied().unwrap_or(false) {
            format!(
                "(CASE json_type(j.value,'$[{index}]') WHEN 'object' THEN \
                 coalesce(unhex(j.value->>'$[{index}].x'),\
                 cast(unhex(j.value->>'$[{index}].t') as text)) \
                 ELSE j.value->>{index} END)"
            )
        } else {
            format!("(j.value->>{index})")
        }
    }

    /// `left = column` for each pair, joined by AND; the left side's collation decides, as it
    /// does for the index behind it.
    pub(crate) fn matches<'a>(
        &self,
        alias: &str,
        columns: impl IntoIterator<Item = &'a String>,
    ) -> String {
        let pairs: Vec<_> = columns
            .into_iter()
            .enumerate()
            .map(|(index, name)| format!("{alias}.{name} = {}", self.column(index)))
            .collect();
        pairs.join(" AND ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{ReadDatabase, Select, Statement, WriteDatabase, Written};
    use crate::sqlite::SqliteWriter;
    use proptest::prelude::*;

    #[tokio::test]
    async fn a_large_value_travels_in_pieces() {
        let (_folder, database) = database();
        let blob: Vec<u8> = (0..250_000u32).map(|n| (n % 251) as u8).collect();
        let rows = vec![
            vec![Value::Integer(1), Value::Null, Value::text("a")],
            vec![Value::Integer(2), Value::Blob(blob.clone().into()), Value::Text(blob.into())],
            vec![Value::Integer(3), Value::Null, Value::text("b")],
        ];
        let chunks = chunks(rows.iter(), 150_000);
        assert_eq!(chunks.len(), 3);
        let statements = chunks
            .iter()
            .map(|chunk| {
                assert!(chunk.params().iter().all(|param| param.len() <= 150_000));
                let columns: Vec<_> = (0..3).map(|i| chunk.column(i)).collect();
                Statement {
                    sql: format!(
                        "INSERT INTO t SELECT {} FROM json_each(?1) AS j",
                        columns.join(",")
                    ),
                    params: chunk.params(),
                }
            })
            .collect();
        let written = database.write(statements).await;
        assert!(matches!(written, Written::Done { changes: 3 }), "{written:?}");
        let read = database
            .select(vec![Select::new(["id", "a", "b"], "FROM t ORDER BY id")])
            .await
            .unwrap();
        assert_eq!(read, [rows]);
    }

    #[test]
    fn rows_are_split_by_size_and_none_is_lost() {
        let rows: Vec<Vec<Value>> = (0..100).map(|n| vec![Value::Integer(n)]).collect();
        let chunks = chunks(rows.iter(), 20);
        assert!(chunks.len() > 5);
        let mut next = 0;
        for chunk in &chunks {
            assert!(chunk.json.len() <= 20, "{}", chunk.json);
            assert_eq!(chunk.rows.start, next);
            next = chunk.rows.end;
        }
        assert_eq!(next, 100);
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            prop_oneof![Just(i64::MIN), Just(i64::MAX), Just((1 << 53) + 1)]
                .prop_map(Value::Integer),
            any::<u64>().prop_map(|bits| {
                let real = f64::from_bits(bits);
                Value::Real(if real.is_nan() { 1.0 } else { real })
            }),
            prop_oneof![
                Just(f64::INFINITY),
                Just(f64::NEG_INFINITY),
                Just(-0.0),
                Just(1.0),
                Just(1e16),
                Just(5e-324),
                Just(0.1 + 0.2)
            ]
            .prop_map(Value::Real),
            any::<String>().prop_map(Value::text),
            "[a-c\\x00;'\"\\\\\n\r]{0,12}".prop_map(Value::text),
            proptest::collection::vec(any::<u8>(), 0..40)
                .prop_map(|bytes| Value::Text(bytes.into())),
            proptest::collection::vec(any::<u8>(), 0..40)
                .prop_map(|bytes| Value::Blob(bytes.into())),
        ]
    }

    #[allow(clippy::disallowed_methods, reason = "a test sets up its own database")]
    fn database() -> (tempfile::TempDir, SqliteWriter) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sqlite");
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b);")
            .unwrap();
        let database = SqliteWriter::open(&path).unwrap();
        (folder, database)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Every value comes back from a real SQLite as it was: through JSON, through a literal,
        /// and through the journal's form.
        #[test]
        fn values_survive_every_way(rows in proptest::collection::vec((value(), value()), 1..20)) {
            let (_folder, database) = database();
            let rows: Vec<Vec<Value>> = rows
                .into_iter()
                .enumerate()
                .map(|(id, (a, b))| vec![Value::Integer(id as i64), a, b])
                .collect();
            let mut statements = Vec::new();
            for chunk in chunks(rows.iter(), 200) {
                let columns: Vec<_> = (0..3).map(|i| chunk.column(i)).collect();
                statements.push(Statement::with(
                    format!("INSERT INTO t SELECT {} FROM json_each(?1) AS j", columns.join(",")),
                    chunk.json,
                ));
            }
            let literal: Vec<Select> = rows
                .iter()
                .map(|row| Select::new(row.iter().map(Value::to_sql), ""))
                .collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (written, read, literals) = runtime.block_on(async {
                let written = database.write(statements).await;
                let read = database
                    .select(vec![Select::new(["id", "a", "b"], "FROM t ORDER BY id")])
                    .await
                    .unwrap()
                    .remove(0);
                (written, read, database.select(literal).await.unwrap())
            });
            prop_assert!(matches!(written, Written::Done { .. }), "{written:?}");
            prop_assert_eq!(&read, &rows);
            for (row, back) in rows.iter().zip(literals) {
                prop_assert_eq!(&back, &vec![row.clone()]);
                for value in row {
                    let text = value.to_json().to_string();
                    let json = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(&Value::from_json(&json).unwrap(), value);
                    prop_assert!(!value.to_sql().contains(';'));
                }
            }
        }
    }
}
