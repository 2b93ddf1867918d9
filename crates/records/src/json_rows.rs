//! Rows as one JSON string, and the SQL that takes them apart again.
//!
//! One string parameter holding an array of rows, read by `json_each(?1)`, escapes D1's limits of
//! 100 parameters and 100,000 bytes of SQL, and is exact: integers, reals, text with NUL and NULL
//! come out of JSON as they went in (measured against workerd's SQLite). Blobs and text that is
//! not UTF-8 are objects with hexadecimal digits, decoded by `unhex` only in columns that hold
//! such values.

use std::ops::Range;

use crate::value::Value;

/// Rows that travel in one parameter.
pub(crate) struct Chunk {
    /// The JSON array of rows.
    pub(crate) json: String,
    /// For each column, whether some value is written as an object.
    pub(crate) odd: Vec<bool>,
    /// Which rows.
    pub(crate) rows: Range<usize>,
}

/// Splits rows over parameters of at most `limit` bytes. A single row that is larger stands
/// alone in a chunk of its own size.
pub(crate) fn chunks<'a, R>(rows: impl IntoIterator<Item = R>, limit: usize) -> Vec<Chunk>
where
    R: IntoIterator<Item = &'a Value>,
{
    let mut done = Vec::new();
    let mut open = Chunk::empty(0);
    let mut row_json = String::new();
    for (index, row) in rows.into_iter().enumerate() {
        row_json.clear();
        row_json.push('[');
        let mut odd = Vec::new();
        for (column, value) in row.into_iter().enumerate() {
            if column > 0 {
                row_json.push(',');
            }
            value.push_json(&mut row_json);
            odd.push(value.is_odd());
        }
        row_json.push(']');
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

impl Chunk {
    fn empty(start: usize) -> Self {
        Self { json: "[".to_owned(), odd: Vec::new(), rows: start..start }
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
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Blob),
        ]
    }

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
