//! `rehome map`: which old id became which new id, for those who keep ids elsewhere.

use std::io::{self, Write};

use rehome_migration::document::MapDoc;
use rehome_migration::{Config, ledger};

use crate::args::{Map, MapFormat};
use crate::context::Context;
use crate::exit;
use crate::failure::Failure;
use crate::file::Whole;
use crate::out::Data;

/// Writes the map, pair by pair: it may be long.
pub(crate) fn map(context: &Context, arguments: &Map) -> Result<u8, Failure> {
    if let (true, None, Some(format @ (MapFormat::Csv | MapFormat::Sql))) =
        (context.json, &arguments.output, arguments.format)
    {
        let word = if format == MapFormat::Csv { "csv" } else { "sql" };
        return Err(Failure::usage(
            format!("--json asks for JSON on standard output, and --format for {word}"),
            "leave one of them out, or write a file (`--output FILE`)",
        ));
    }
    let config = context.config()?;
    let format = match (arguments.format, context.json) {
        (Some(format), _) => format,
        (None, true) => MapFormat::Json,
        (None, false) => MapFormat::Csv,
    };
    match &arguments.output {
        Some(path) => {
            let mut file = Whole::create(path)?;
            write(&config, format, &mut file, Whole::failed(path))?;
            file.finish()?;
        }
        None => {
            let mut data = Data::open();
            write(&config, format, &mut data, Failure::writing_stdout)?;
            data.end()?;
        }
    }
    Ok(exit::DONE)
}

fn write(
    config: &Config,
    format: MapFormat,
    stream: &mut dyn Write,
    failed: impl FnOnce(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut writer = Writer { format, stream, pairs: 0 };
    let mut written = Ok(());
    // After the first trouble the rest is only counted past; nobody reads it any more.
    ledger::map(config, &mut |pair| {
        if written.is_ok() {
            written = writer.pair(&pair);
        }
    })?;
    written.and_then(|()| writer.end()).map_err(failed)
}

struct Writer<'a> {
    format: MapFormat,
    stream: &'a mut dyn Write,
    pairs: u64,
}

impl Writer<'_> {
    /// What stands before the first pair. Not written before there is one, or none is to come: where
    /// there is no journal, nothing is printed.
    fn begin(&mut self) -> io::Result<()> {
        match self.format {
            MapFormat::Csv => writeln!(self.stream, "kind,source_id,target_id,origin,email"),
            MapFormat::Json => write!(self.stream, "["),
            MapFormat::Ndjson => Ok(()),
            MapFormat::Sql => writeln!(
                self.stream,
                "CREATE TABLE IF NOT EXISTS id_map (\n  kind TEXT NOT NULL,\n  source_id TEXT NOT \
                 NULL,\n  target_id TEXT NOT NULL,\n  origin TEXT NOT NULL,\n  email TEXT,\n  \
                 PRIMARY KEY (kind, source_id)\n);"
            ),
        }
    }

    fn pair(&mut self, pair: &MapDoc) -> io::Result<()> {
        if self.pairs == 0 {
            self.begin()?;
        }
        self.pairs += 1;
        let MapDoc { kind, source_id, target_id, origin, email } = pair;
        match self.format {
            MapFormat::Csv => {
                let mut line = csv::Writer::from_writer(Vec::new());
                let email = email.as_deref().unwrap_or_default();
                line.write_record([kind, source_id, target_id, origin, email])?;
                let line = line.into_inner().map_err(csv::IntoInnerError::into_error)?;
                self.stream.write_all(&line)
            }
            MapFormat::Json => {
                write!(self.stream, "{}", if self.pairs > 1 { ",\n" } else { "\n" })?;
                serde_json::to_writer(&mut *self.stream, pair)?;
                Ok(())
            }
            MapFormat::Ndjson => {
                serde_json::to_writer(&mut *self.stream, pair)?;
                writeln!(self.stream)
            }
            MapFormat::Sql => {
                let quoted = [kind, source_id, target_id, origin].map(|text| quote(text));
                let email = email.as_deref().map_or_else(|| "NULL".to_owned(), quote);
                writeln!(
                    self.stream,
                    "INSERT INTO id_map (kind, source_id, target_id, origin, email) VALUES ({}, \
                     {email});",
                    quoted.join(", ")
                )
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.pairs == 0 {
            self.begin()?;
        }
        match self.format {
            MapFormat::Json if self.pairs > 0 => writeln!(self.stream, "\n]"),
            MapFormat::Json => writeln!(self.stream, "]"),
            MapFormat::Csv | MapFormat::Ndjson | MapFormat::Sql => Ok(()),
        }
    }
}

/// A text literal of standard SQL.
fn quote(text: &str) -> String {
    // A NUL would end the statement for most clients; no id or address has one.
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(email: Option<&str>) -> MapDoc {
        MapDoc {
            kind: "user".into(),
            source_id: "user_a".into(),
            target_id: "user_b".into(),
            origin: "created".into(),
            email: email.map(str::to_owned),
        }
    }

    fn written(format: MapFormat, pairs: &[MapDoc]) -> String {
        let mut bytes = Vec::new();
        let mut writer = Writer { format, stream: &mut bytes, pairs: 0 };
        pairs.iter().for_each(|pair| writer.pair(pair).unwrap());
        writer.end().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn addresses_with_quotes_and_commas_stay_whole() {
        let nasty = pair(Some("\"o'neill, sr\"@example.com"));
        let csv = written(MapFormat::Csv, &[nasty.clone(), pair(None)]);
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        assert_eq!(
            reader.headers().unwrap(),
            &["kind", "source_id", "target_id", "origin", "email"][..]
        );
        let first = reader.records().next().unwrap().unwrap();
        assert_eq!(first.get(4), nasty.email.as_deref());

        let other = MapDoc { source_id: "user_c".into(), ..pair(None) };
        let sql = written(MapFormat::Sql, &[nasty.clone(), other]);
        let database = rusqlite::Connection::open_in_memory().unwrap();
        database.execute_batch(&sql).unwrap();
        let email: Option<String> = database
            .query_row("SELECT email FROM id_map WHERE source_id = 'user_a'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(email, nasty.email);
        let missing: Option<String> = database
            .query_row("SELECT email FROM id_map WHERE source_id = 'user_c'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(missing, None);
    }

    #[test]
    fn json_is_an_array_of_any_length() {
        for pairs in [Vec::new(), vec![pair(None)], vec![pair(None), pair(Some("a@b"))]] {
            let text = written(MapFormat::Json, &pairs);
            let read: Vec<MapDoc> = serde_json::from_str(&text).unwrap();
            assert_eq!(read, pairs);
            let lines = written(MapFormat::Ndjson, &pairs);
            assert_eq!(lines.lines().count(), pairs.len());
        }
    }
}
