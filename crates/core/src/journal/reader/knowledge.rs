//! The reader as workers see it: [`Knowledge`].

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Row, params};

use super::{Reader, Selection, last_of_first, rests};
use crate::journal::Error;
use crate::journal::cache::state_from_columns;
use crate::knowledge::{Knowledge, Known};
use crate::state::Stage;
use crate::unit::{Kind, Origin, UnitId};

/// Every query starts from the names asked for: CROSS JOIN keeps SQLite from turning the loops
/// around, which would read the list of names anew for every unit.
const KNOWN: &str =
    "SELECT u.id, u.source_key, u.target_key, u.origin, u.stage, u.condition, n.value";

/// A row of [`KNOWN`]: the unit, and the name that it was asked for under.
fn known_from_row(row: &Row<'_>) -> rusqlite::Result<(Known, i64, String, String)> {
    let origin: Option<String> = row.get(3)?;
    Ok((
        Known {
            id: UnitId(row.get(0)?),
            source_key: row.get(1)?,
            target_key: row.get(2)?,
            origin: origin.as_deref().and_then(Origin::from_word),
            // Replaced below; a row carries its state as two columns.
            state: crate::state::State::new(Stage::Exported, crate::state::Condition::Ready),
            selected: true,
        },
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
    ))
}

impl Reader {
    /// What is known of the selected units of a kind with numbers above `after`, in their order.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn known_after(
        &self,
        kind: &Kind,
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<Known>, Error> {
        let conn = self.lock();
        let (filter, parameter) = self.filter(&conn, kind)?;
        let sql = format!(
            "SELECT u.id, u.source_key, u.target_key, u.origin, u.stage, u.condition, ''
             FROM unit u WHERE +u.kind = ?1 AND u.id > ?3 {filter} ORDER BY u.id LIMIT ?4"
        );
        let rows: Vec<_> = conn
            .prepare_cached(&sql)
            .and_then(|mut statement| {
                let values = params![kind.as_str(), parameter, after.0, limit as i64];
                statement.query_map(values, known_from_row)?.collect()
            })
            .map_err(Error::sqlite("read what is known of units"))?;
        rows.into_iter()
            .map(|(mut known, stage, condition, _)| {
                known.state = state_from_columns(stage, &condition)?;
                Ok(known)
            })
            .collect()
    }

    fn known(
        &self,
        kind: &Kind,
        names: &[String],
        from: &str,
    ) -> Result<Vec<(String, Known)>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let conn = self.lock();
        let sql = format!("{KNOWN} {from}");
        let rows: Vec<_> = conn
            .prepare_cached(&sql)
            .and_then(|mut statement| {
                statement
                    .query_map(
                        params![kind.as_str(), serde_json::json!(names).to_string()],
                        known_from_row,
                    )?
                    .collect::<Result<_, _>>()
            })
            .map_err(Error::sqlite("look units up"))?;
        let selected = self.selected(&conn, kind, &rows)?;
        rows.into_iter()
            .map(|(mut known, stage, condition, name)| {
                known.state = state_from_columns(stage, &condition)?;
                known.selected = selected.as_ref().is_none_or(|ids| ids.contains(&known.id));
                Ok((name, known))
            })
            .collect()
    }

    /// Which of the units are selected; `None` for all.
    fn selected(
        &self,
        conn: &Connection,
        kind: &Kind,
        rows: &[(Known, i64, String, String)],
    ) -> Result<Option<HashSet<UnitId>>, Error> {
        match &self.selection {
            Selection::First { kind: limited, count } if limited == kind => {
                let last = last_of_first(conn, kind, *count)?;
                Ok(Some(rows.iter().map(|row| row.0.id).filter(|id| id.0 <= last).collect()))
            }
            Selection::Only { kind: limited, .. } if limited == kind => {
                let ids: Vec<i64> = rows.iter().map(|row| row.0.id.0).collect();
                let (filter, parameter) = self.filter(conn, kind)?;
                let sql = format!(
                    "SELECT u.id FROM unit u
                     WHERE u.kind = ?1 AND u.id IN (SELECT value FROM json_each(?3)) {filter}"
                );
                conn.prepare_cached(&sql)
                    .and_then(|mut statement| {
                        statement
                            .query_map(
                                params![
                                    kind.as_str(),
                                    parameter,
                                    serde_json::json!(ids).to_string()
                                ],
                                |row| row.get(0).map(UnitId),
                            )?
                            .collect::<Result<_, _>>()
                    })
                    .map(Some)
                    .map_err(Error::sqlite("select units"))
            }
            Selection::All | Selection::First { .. } | Selection::Only { .. } => Ok(None),
        }
    }
}

impl Knowledge for Reader {
    fn by_source(
        &self,
        kind: &Kind,
        source_keys: &[String],
    ) -> Result<HashMap<String, Known>, Error> {
        let from =
            "FROM json_each(?2) n CROSS JOIN unit u ON u.kind = ?1 AND u.source_key = n.value";
        Ok(self.known(kind, source_keys, from)?.into_iter().collect())
    }

    fn by_target(
        &self,
        kind: &Kind,
        target_keys: &[String],
    ) -> Result<HashMap<String, Known>, Error> {
        let from =
            "FROM json_each(?2) n CROSS JOIN unit u ON u.kind = ?1 AND u.target_key = n.value";
        Ok(self.known(kind, target_keys, from)?.into_iter().collect())
    }

    fn between(
        &self,
        kind: &Kind,
        after: UnitId,
        last: UnitId,
        limit: usize,
    ) -> Result<Vec<Known>, Error> {
        let conn = self.lock();
        let rows: Vec<_> = conn
            .prepare_cached(
                "SELECT u.id, u.source_key, u.target_key, u.origin, u.stage, u.condition, ''
                 FROM unit u WHERE u.id > ?2 AND u.id <= ?3 AND +u.kind = ?1
                 ORDER BY u.id LIMIT ?4",
            )
            .and_then(|mut statement| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let values = params![kind.as_str(), after.0, last.0, limit];
                statement.query_map(values, known_from_row)?.collect::<Result<_, _>>()
            })
            .map_err(Error::sqlite("read a range of units"))?;
        let selected = self.selected(&conn, kind, &rows)?;
        rows.into_iter()
            .map(|(mut known, stage, condition, _)| {
                known.state = state_from_columns(stage, &condition)?;
                known.selected = selected.as_ref().is_none_or(|ids| ids.contains(&known.id));
                Ok(known)
            })
            .collect()
    }

    fn claimants(
        &self,
        kind: &Kind,
        aliases: &[String],
    ) -> Result<HashMap<String, Vec<Known>>, Error> {
        let from = "FROM json_each(?2) n CROSS JOIN alias a ON a.kind = ?1 AND a.alias = n.value
                    CROSS JOIN unit u ON u.id = a.unit ORDER BY u.id";
        let mut claims: HashMap<String, Vec<Known>> = HashMap::new();
        for (alias, known) in self.known(kind, aliases, from)? {
            claims.entry(alias).or_default().push(known);
        }
        Ok(claims)
    }

    fn cursor(&self, kind: &Kind) -> Result<Option<serde_json::Value>, Error> {
        Ok(self.checkpoint(kind)?.map(|checkpoint| checkpoint.cursor))
    }

    fn target_keys(&self, kind: &Kind) -> Result<Vec<String>, Error> {
        self.read("read where units are in the target", |conn| {
            conn.prepare_cached(
                "SELECT target_key FROM unit
                 WHERE kind = ?1 AND target_key IS NOT NULL ORDER BY id",
            )?
            .query_map([kind.as_str()], |row| row.get(0))?
            .collect()
        })
    }

    fn export_done(&self, kind: &Kind) -> Result<bool, Error> {
        Ok(self.checkpoint(kind)?.is_some_and(|checkpoint| checkpoint.done))
    }

    fn blocked(&self, kind: &Kind, source_keys: &[String]) -> Result<HashSet<String>, Error> {
        self.read("look for blocked units", |conn| {
            conn.prepare_cached(
                "SELECT DISTINCT b.key FROM json_each(?2) n
                 CROSS JOIN block b ON b.kind = ?1 AND b.key = n.value",
            )?
            .query_map(params![kind.as_str(), serde_json::json!(source_keys).to_string()], |row| {
                row.get(0)
            })?
            .collect()
        })
    }

    fn settled(&self, kind: &Kind, scope: Option<&str>, stage: Stage) -> Result<bool, Error> {
        if !self.export_done(kind)? {
            return Ok(false);
        }
        let moving: Vec<(String, i64)> = self.read("see what still moves", |conn| {
            conn.prepare_cached(
                "SELECT condition, count(*) FROM unit
                 WHERE kind = ?1 AND (?2 IS NULL OR scope = ?2) AND stage < ?3
                 GROUP BY condition",
            )?
            .query_map(params![kind.as_str(), scope, stage.rank()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect()
        })?;
        for (condition, _) in moving {
            if !rests(state_from_columns(1, &condition)?.condition) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
