//! Statements in a file: what a database takes that can do many of them in one go.
//!
//! The values stand in the text, because such a file has no parameters. It is a temporary file
//! without a name: rows of people are in it, and it must not outlive the process, however that
//! ends. It goes out as it was written, from the disk, so that memory does not grow with it.

use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};

use md5::{Digest as _, Md5};
use rehome_core::Halt;

use crate::layout::Form;
use crate::value::{Value, hex};

/// D1 takes statements of up to 100,000 bytes
/// (<https://developers.cloudflare.com/d1/platform/limits/>); one is closed before that.
const STATEMENT: usize = 90_000;

/// A file that is being written.
pub(crate) struct Writer {
    file: BufWriter<File>,
    sum: Md5,
    length: u64,
    statements: u64,
    rows: u64,
}

/// A file of statements, each of which ends with `;` and a new line.
#[derive(Debug)]
pub struct Script {
    file: File,
    sum: String,
    length: u64,
    statements: u64,
    rows: u64,
}

impl Script {
    /// The file, at its beginning.
    pub fn into_file(self) -> File {
        self.file
    }

    /// The MD5 of its content, in hexadecimal digits.
    pub fn md5(&self) -> &str {
        &self.sum
    }

    /// How many bytes it holds.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// How many statements it holds.
    pub const fn statements(&self) -> u64 {
        self.statements
    }

    /// How many rows it inserts.
    pub const fn rows(&self) -> u64 {
        self.rows
    }
}

impl Writer {
    /// An empty file in the system's folder for temporary files.
    ///
    /// # Errors
    /// [`Halt::Refused`] when there is no room for it; the same of all that follows.
    pub(crate) fn new() -> Result<Self, Halt> {
        let file = tempfile::tempfile().map_err(|error| trouble(&error))?;
        let (file, sum) = (BufWriter::new(file), Md5::new());
        Ok(Self { file, sum, length: 0, statements: 0, rows: 0 })
    }

    /// Appends a statement, given without its `;`.
    pub(crate) fn push(&mut self, sql: &str) -> Result<(), Halt> {
        for part in [sql.as_bytes(), b";\n"] {
            self.sum.update(part);
            self.file.write_all(part).map_err(|error| trouble(&error))?;
            self.length += part.len() as u64;
        }
        self.statements += 1;
        Ok(())
    }

    /// Appends what inserts these rows of the form, many in a statement. A row whose place is
    /// taken refuses the file.
    pub(crate) fn insert<'a>(
        &mut self,
        form: &Form,
        rows: impl IntoIterator<Item = &'a [Value]>,
    ) -> Result<(), Halt> {
        // OR ABORT wins over an `ON CONFLICT REPLACE` of the schema, which would overwrite.
        let head = format!(
            "INSERT OR ABORT INTO {} ({}) VALUES ",
            form.target_table(),
            form.target.join(", ")
        );
        let mut sql = String::new();
        for row in rows {
            let tuple = tuple(row);
            if !sql.is_empty() && sql.len() + tuple.len() + 1 > STATEMENT {
                self.push(&sql)?;
                sql.clear();
            }
            sql.push_str(if sql.is_empty() { &head } else { "," });
            sql.push_str(&tuple);
            self.rows += 1;
        }
        if sql.is_empty() { Ok(()) } else { self.push(&sql) }
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> Result<Script, Halt> {
        let Self { file, sum, length, statements, rows } = self;
        let mut file = file.into_inner().map_err(|error| trouble(error.error()))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| trouble(&error))?;
        Ok(Script { file, sum: hex(&sum.finalize()), length, statements, rows })
    }
}

/// Whether a row fits into a statement of its own; the names of its columns are short beside it.
pub(crate) fn fits(row: &[Value]) -> bool {
    // The longest written form of a value has two digits a byte, and a cast around them.
    let written: usize = row.iter().map(|value| value.size() * 2 + 24).sum();
    written < STATEMENT - 10_000
}

fn tuple(row: &[Value]) -> String {
    let values: Vec<_> = row.iter().map(Value::to_sql).collect();
    format!("({})", values.join(","))
}

fn trouble(error: &std::io::Error) -> Halt {
    Halt::Refused {
        message: format!("the file of an import cannot be written: {error}"),
        hint: "it stands in the system's folder for temporary files (TMPDIR); see that there is \
               room, then run again"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn form() -> Form {
        let mut form = Form::empty("t", "t");
        form.target = vec!["\"id\"".to_owned(), "\"content\"".to_owned()];
        form
    }

    fn text(script: Script) -> String {
        let mut text = String::new();
        script.into_file().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn rows_share_statements_of_a_bounded_length_and_come_back_exactly() {
        let rows: Vec<Vec<Value>> = (0..4_000)
            .map(|n| {
                let content = match n % 5 {
                    0 => Value::text("it's; a\nline\0".repeat(3)),
                    1 => Value::Blob(vec![0, 255, 7].into()),
                    2 => Value::Real(f64::from(n) / 3.0),
                    3 => Value::Text(vec![0xff, b'a'].into()),
                    _ => Value::Null,
                };
                vec![Value::Integer(i64::MIN + i64::from(n)), content]
            })
            .collect();
        assert!(rows.iter().all(|row| fits(row)));
        let mut writer = Writer::new().unwrap();
        writer.insert(&form(), rows.iter().map(Vec::as_slice)).unwrap();
        let script = writer.finish().unwrap();
        let (sum, length, statements) =
            (script.md5().to_owned(), script.length(), script.statements());
        assert_eq!(script.rows(), 4_000);
        let text = text(script);
        assert_eq!((sum, length), (hex(&Md5::digest(&text)), text.len() as u64));
        let each: Vec<_> = text.split_terminator(";\n").collect();
        assert_eq!(each.len() as u64, statements);
        assert!(statements > 2 && each.iter().all(|sql| sql.len() <= STATEMENT + 1));

        let database = rusqlite::Connection::open_in_memory().unwrap();
        database.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, content)").unwrap();
        database.execute_batch(&text).unwrap();
        let mut read = database.prepare("SELECT id, content FROM t ORDER BY id").unwrap();
        let there: Vec<Vec<Value>> = read
            .query_map([], |row| {
                let value = |index| {
                    Ok::<_, rusqlite::Error>(match row.get_ref(index)? {
                        rusqlite::types::ValueRef::Null => Value::Null,
                        rusqlite::types::ValueRef::Integer(number) => Value::Integer(number),
                        rusqlite::types::ValueRef::Real(number) => Value::Real(number),
                        rusqlite::types::ValueRef::Text(bytes) => Value::Text(bytes.into()),
                        rusqlite::types::ValueRef::Blob(bytes) => Value::Blob(bytes.into()),
                    })
                };
                Ok(vec![value(0)?, value(1)?])
            })
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(there, rows);
    }

    #[test]
    fn a_row_too_long_for_a_statement_is_told_apart() {
        assert!(fits(&[Value::text("a".repeat(30_000))]));
        assert!(!fits(&[Value::text("a".repeat(60_000))]));
        assert!(!fits(&[Value::Blob(vec![0; 1_000_000].into())]));
    }

    #[test]
    fn no_rows_are_no_statement() {
        let mut writer = Writer::new().unwrap();
        writer.insert(&form(), []).unwrap();
        assert_eq!(writer.finish().unwrap().length(), 0);
    }
}
