//! A way in for fuzz targets and properties: a log that somebody else wrote, replayed.
//!
//! A journal is a file, and a file can be damaged or forged. Whatever its rows say, replaying
//! them ends with an error or with a cache that obeys the state machine.

use std::path::Path;

use rusqlite::Connection;

use super::{Error, replay, schema, setup};

/// One row of the log, as columns.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The unit's number.
    pub unit: Option<i64>,
    /// The event's word.
    pub event: String,
    /// The number of the stage before.
    pub from: Option<i64>,
    /// The number of the stage after.
    pub to: Option<i64>,
    /// JSON, or not.
    pub detail: Option<String>,
}

/// A journal in memory that forgets each log after it was replayed.
#[derive(Debug)]
pub struct Scratch(Connection);

impl Scratch {
    /// An empty one.
    ///
    /// # Errors
    /// When SQLite cannot open it.
    pub fn new() -> Result<Self, Error> {
        schema::open_scratch(Path::new(":memory:")).map(Self)
    }

    /// Replays a log and reads `pins` as what the migration is bound to. Gives the number of
    /// entries that were applied.
    ///
    /// # Errors
    /// When the log cannot have happened, or the pins are none.
    pub fn replay(&self, rows: &[Row], pins: &str) -> Result<u64, Error> {
        let doing = "try a log";
        // Dropped at the end, whatever happened: rolled back.
        let tx = self.0.unchecked_transaction().map_err(Error::sqlite(doing))?;
        for row in rows {
            tx.prepare_cached(
                "INSERT INTO entry (unit, at, event, from_stage, to_stage, attempt, detail)
                 VALUES (?1, 0, ?2, ?3, ?4, 0, ?5)",
            )
            .and_then(|mut insert| {
                insert.execute((row.unit, &row.event, row.from, row.to, &row.detail))
            })
            .map_err(Error::sqlite(doing))?;
        }
        let entries = replay::rebuild_cache(&tx)?;
        tx.prepare_cached("INSERT INTO setup (id, name, created_at, pins) VALUES (1, '', 0, ?1)")
            .and_then(|mut insert| insert.execute([pins]))
            .map_err(Error::sqlite(doing))?;
        setup::read(&tx)?;
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Event;
    use proptest::prelude::*;

    /// Details as they are, and as they are not.
    fn detail() -> impl Strategy<Value = Option<String>> {
        let known = prop::sample::select(vec![
            r#"{"kind":"user","key":"u1","aliases":["a"],"data":{}}"#,
            r#"{"kind":"user","key":"u2","scope":"s","label":"l","aliases":["a","a"],"data":null}"#,
            r#"{"kind":"user","cursor":[1],"done":true,"total":18446744073709551615}"#,
            r#"{"target":"t1","origin":"created","data":{"x":1}}"#,
            r#"{"failure":{"code":"c","message":"m"},"blocks":[{"kind":"user","key":"u2"}]}"#,
            r#"{"waits":[{"code":"c","kind":"user","key":"u2","stage":"mapped","parts":9}]}"#,
            r#"{"data":{"at":1}}"#,
            r#"{"failure":"#,
            "[]",
        ]);
        prop_oneof![
            4 => known.prop_map(|text| Some(text.to_owned())),
            1 => any::<String>().prop_map(Some),
            1 => Just(None),
        ]
    }

    fn row() -> impl Strategy<Value = Row> {
        let words: Vec<_> = Event::all().into_iter().map(Event::as_str).chain(["page"]).collect();
        let event = prop_oneof![
            9 => prop::sample::select(words).prop_map(str::to_owned),
            1 => any::<String>(),
        ];
        let stage = || prop_oneof![8 => (0_i64..7).prop_map(Some), 1 => any::<Option<i64>>()];
        let unit = prop_oneof![8 => (1_i64..4).prop_map(Some), 1 => any::<Option<i64>>()];
        (unit, event, stage(), stage(), detail()).prop_map(|(unit, event, from, to, detail)| Row {
            unit,
            event,
            from,
            to,
            detail,
        })
    }

    #[test]
    fn a_log_that_can_have_happened_is_replayed() {
        let row = |event: &str, from, to, detail: &str| Row {
            unit: Some(1),
            event: event.to_owned(),
            from,
            to,
            detail: Some(detail.to_owned()),
        };
        let log = [
            row("exported", None, Some(1), r#"{"kind":"user","key":"u1","data":{}}"#),
            row("intended", Some(1), Some(1), r#"{"data":{"at":1}}"#),
            row("done", Some(1), Some(2), r#"{"target":"t1","origin":"created"}"#),
        ];
        let scratch = Scratch::new().unwrap();
        assert_eq!(scratch.replay(&log, "{}").unwrap(), 3);
        assert!(scratch.replay(&log[1..], "{}").is_err(), "nobody was exported");
        assert!(scratch.replay(&log, "[").is_err(), "bound to nothing");
        assert_eq!(scratch.replay(&log, "{}").unwrap(), 3, "and is forgotten each time");
    }

    #[test]
    fn any_log_is_replayed_or_refused() {
        let scratch = Scratch::new().unwrap();
        proptest!(|(rows in prop::collection::vec(row(), 0..12), pins in ".{0,20}")| {
            if let Ok(entries) = scratch.replay(&rows, &pins) {
                prop_assert_eq!(entries, rows.len() as u64);
            }
        });
    }
}
