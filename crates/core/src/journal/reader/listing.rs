//! What people and machines ask for: counts, failures, histories, the mapping.

use std::collections::BTreeMap;

use rusqlite::params;

use super::{Reader, failure};
use crate::journal::Error;
use crate::journal::cache::{parse, state_from_columns};
use crate::journal::change::Detail;
use crate::state::{Condition, Stage, State};
use crate::unit::{Failure, Kind, Origin, UnitId};

/// How many units stand where, by kind.
pub type Counts = BTreeMap<Kind, Standing>;

/// How many units of one kind stand where. Each unit is counted once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Units on their way, by the stage that they have reached.
    pub moving: BTreeMap<Stage, u64>,
    /// Of those, how many have an effect whose outcome is not known.
    pub in_doubt: u64,
    /// Units that failed, by the stage at which they stand.
    pub failed: BTreeMap<Stage, u64>,
    /// Units that wait for another.
    pub held: BTreeMap<Stage, u64>,
    /// Units that a person took out.
    pub skipped: BTreeMap<Stage, u64>,
    /// Units that cannot be taken back safely.
    pub stuck: BTreeMap<Stage, u64>,
    /// Units that went back all the way.
    pub rolled_back: u64,
    /// Units whose pair of ids is proven, whatever their condition.
    pub mapped: u64,
}

impl Standing {
    /// All of them.
    pub fn total(&self) -> u64 {
        let groups = [&self.moving, &self.failed, &self.held, &self.skipped, &self.stuck];
        groups.into_iter().flat_map(BTreeMap::values).sum::<u64>() + self.rolled_back
    }
}

/// A unit that stands still.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailureRow {
    /// Its number.
    pub id: UnitId,
    /// Its kind.
    pub kind: Kind,
    /// Its source key.
    pub source_key: String,
    /// How a person recognises it.
    pub label: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Why, for a failed one.
    pub failure: Option<Failure>,
    /// What for, for a held one.
    pub waits: Vec<WaitRow>,
    /// Intents at this stage.
    pub attempts: u32,
}

/// One thing that a held unit waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitRow {
    /// A stable word to group by.
    pub code: String,
    /// The kind of what it waits for.
    pub kind: Kind,
    /// Its source key, when it is one unit.
    pub key: Option<String>,
    /// Its scope, when it is any unit of one.
    pub scope: Option<String>,
    /// How many parts of the held unit wait for it.
    pub parts: u64,
    /// One of them.
    pub example: Option<String>,
}

/// One entry of a unit's history.
#[derive(Clone, PartialEq, Debug)]
pub struct HistoryEntry {
    /// Its place in the log.
    pub seq: i64,
    /// When, in Unix milliseconds.
    pub at: i64,
    /// What happened.
    pub event: String,
    /// From which stage.
    pub from: Option<Stage>,
    /// To which stage.
    pub to: Option<Stage>,
    /// Which attempt it belongs to.
    pub attempt: u32,
    /// With what; for the export itself, without the unit's data.
    pub detail: Detail,
}

/// One pair of ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The unit.
    pub id: UnitId,
    /// Its kind.
    pub kind: Kind,
    /// Its id in the source.
    pub source_key: String,
    /// Its id in the target.
    pub target_key: String,
    /// Who created the counterpart.
    pub origin: Option<Origin>,
    /// How a person recognises it.
    pub label: Option<String>,
}

impl Reader {
    /// How many units stand where.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn counts(&self) -> Result<Counts, Error> {
        let rows: Vec<(String, i64, String, u64)> = self.read("count units", |conn| {
            conn.prepare_cached(
                "SELECT kind, stage, condition, count(*) FROM unit GROUP BY kind, stage, condition",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
            .collect()
        })?;
        let mut counts = Counts::new();
        for (kind, stage, condition, units) in rows {
            let State { stage, condition } = state_from_columns(stage, &condition)?;
            let standing = counts.entry(Kind::from_name(kind)).or_default();
            let group = match condition {
                Condition::Ready => &mut standing.moving,
                Condition::Intended
                | Condition::InDoubt
                | Condition::Undoing
                | Condition::UndoInDoubt => {
                    standing.in_doubt += units;
                    &mut standing.moving
                }
                Condition::Stuck => &mut standing.stuck,
                Condition::RolledBack => {
                    standing.rolled_back += units;
                    continue;
                }
                Condition::Failed => &mut standing.failed,
                Condition::Held => &mut standing.held,
                Condition::Skipped => &mut standing.skipped,
            };
            *group.entry(stage).or_default() += units;
            if stage >= Stage::Mapped {
                standing.mapped += units;
            }
        }
        Ok(counts)
    }

    /// How many units of a scope stand where, for each scope of a kind: (scope, stage,
    /// condition, units).
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn scopes(&self, kind: &Kind) -> Result<Vec<(String, State, u64)>, Error> {
        let rows: Vec<(String, i64, String, u64)> = self.read("count units by scope", |conn| {
            conn.prepare_cached(
                "SELECT scope, stage, condition, count(*) FROM unit WHERE kind = ?1
                 GROUP BY scope, stage, condition ORDER BY min(id)",
            )?
            .query_map([kind.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect()
        })?;
        rows.into_iter()
            .map(|(scope, stage, condition, units)| {
                Ok((scope, state_from_columns(stage, &condition)?, units))
            })
            .collect()
    }

    /// How many units each failure and hold code stands for: (kind, condition, code, units).
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn codes(&self) -> Result<Vec<(Kind, Condition, String, u64)>, Error> {
        let rows: Vec<(String, String, String, u64)> = self.read("count failures", |conn| {
            conn.prepare_cached(
                "SELECT u.kind, u.condition,
                     coalesce(json_extract(u.failure, '$.code'),
                              (SELECT w.code FROM wait w WHERE w.unit = u.id
                               ORDER BY w.rowid LIMIT 1), u.condition) AS code,
                     count(*)
                 FROM unit u WHERE u.condition IN ('failed', 'held', 'skipped', 'stuck')
                 GROUP BY 1, 2, 3 ORDER BY 1, 2, 4 DESC, 3",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
            .collect()
        })?;
        rows.into_iter()
            .map(|(kind, condition, code, units)| {
                let condition = state_from_columns(1, &condition)?.condition;
                Ok((Kind::from_name(kind), condition, code, units))
            })
            .collect()
    }

    /// Failed, held and skipped units with numbers above `after`, in their order; only those of
    /// one condition, when given.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn failures(
        &self,
        condition: Option<Condition>,
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<FailureRow>, Error> {
        type Raw = (i64, String, String, Option<String>, i64, String, Option<String>, u32);
        let rows: Vec<Raw> = self.read("read failures", |conn| {
            conn.prepare_cached(
                "SELECT id, kind, source_key, label, stage, condition, failure, attempts
                 FROM unit WHERE +condition IN ('failed', 'held', 'skipped', 'stuck')
                     AND (?1 IS NULL OR condition = ?1) AND id > ?2
                 ORDER BY id LIMIT ?3",
            )?
            .query_map(params![condition.map(Condition::as_str), after.0, limit as i64], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                    row.get(7)?,
                ))
            })?
            .collect()
        })?;
        rows.into_iter()
            .map(|(id, kind, source_key, label, stage, condition, text, attempts)| {
                Ok(FailureRow {
                    id: UnitId(id),
                    kind: Kind::from_name(kind),
                    source_key,
                    label,
                    state: state_from_columns(stage, &condition)?,
                    failure: failure(text.as_deref())?,
                    waits: self.waits(UnitId(id))?,
                    attempts,
                })
            })
            .collect()
    }

    /// What a held unit waits for.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn waits(&self, unit: UnitId) -> Result<Vec<WaitRow>, Error> {
        self.read("read what a unit waits for", |conn| {
            conn.prepare_cached(
                "SELECT code, kind, key, scope, parts, example FROM wait WHERE unit = ?1
                 ORDER BY rowid",
            )?
            .query_map([unit.0], |row| {
                Ok(WaitRow {
                    code: row.get(0)?,
                    kind: Kind::from_name(row.get::<_, String>(1)?),
                    key: row.get(2)?,
                    scope: row.get(3)?,
                    parts: row.get(4)?,
                    example: row.get(5)?,
                })
            })?
            .collect()
        })
    }

    /// Everything that happened to a unit, in order.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn history(&self, unit: UnitId) -> Result<Vec<HistoryEntry>, Error> {
        type Raw = (i64, i64, String, Option<i64>, Option<i64>, u32, Option<String>);
        let rows: Vec<Raw> = self.read("read a history", |conn| {
            conn.prepare_cached(
                "SELECT seq, at, event, from_stage, to_stage, attempt,
                        CASE WHEN event = 'exported' THEN NULL ELSE detail END
                 FROM entry WHERE unit = ?1 ORDER BY seq",
            )?
            .query_map([unit.0], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                ))
            })?
            .collect()
        })?;
        rows.into_iter()
            .map(|(seq, at, event, from, to, attempt, detail)| {
                Ok(HistoryEntry {
                    seq,
                    at,
                    event,
                    from: from.and_then(Stage::from_rank),
                    to: to.and_then(Stage::from_rank),
                    attempt,
                    detail: parse(seq, detail.as_deref())?,
                })
            })
            .collect()
    }

    /// Proven pairs of ids of a kind, with numbers above `after`, in their order.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn mappings(
        &self,
        kind: &Kind,
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<Mapping>, Error> {
        self.read("read the mapping", |conn| {
            conn.prepare_cached(
                "SELECT id, source_key, target_key, origin, label FROM unit
                 WHERE +kind = ?1 AND stage >= ?2 AND target_key IS NOT NULL AND id > ?3
                 ORDER BY id LIMIT ?4",
            )?
            .query_map(
                params![kind.as_str(), Stage::Mapped.rank(), after.0, limit as i64],
                |row| {
                    let origin: Option<String> = row.get(3)?;
                    Ok(Mapping {
                        id: UnitId(row.get(0)?),
                        kind: kind.clone(),
                        source_key: row.get(1)?,
                        target_key: row.get(2)?,
                        origin: origin.as_deref().and_then(Origin::from_word),
                        label: row.get(4)?,
                    })
                },
            )?
            .collect()
        })
    }

    /// How many entries since a moment (Unix milliseconds) say that a unit advanced. Looks at the
    /// end of the log only, so it counts 100,000 at most.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn advanced_since(&self, moment: i64) -> Result<u64, Error> {
        self.read("measure its pace", |conn| {
            conn.prepare_cached(
                "SELECT count(*) FROM entry
                 WHERE seq > (SELECT coalesce(max(seq), 0) - 100000 FROM entry)
                     AND at >= ?1 AND event IN ('advanced', 'done')",
            )?
            .query_row([moment], |row| row.get(0))
        })
    }

    /// When the latest entry was made, in Unix milliseconds; `None` in an empty log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last_at(&self) -> Result<Option<i64>, Error> {
        self.read("read its last entry", |conn| {
            conn.prepare_cached(
                "SELECT max(at) FROM entry WHERE seq = (SELECT max(seq) FROM entry)",
            )?
            .query_row([], |row| row.get(0))
        })
    }

    /// The latest note of this word, and when it was made, in Unix milliseconds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn note(&self, event: &str) -> Result<Option<(i64, serde_json::Value)>, Error> {
        use rusqlite::OptionalExtension as _;
        let row: Option<(i64, i64, Option<String>)> = self.read("read a note", |conn| {
            conn.prepare_cached(
                "SELECT seq, at, detail FROM entry WHERE unit IS NULL AND event = ?1
                 ORDER BY seq DESC LIMIT 1",
            )?
            .query_row([event], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()
        })?;
        row.map(|(seq, at, detail)| Ok((at, parse(seq, detail.as_deref())?))).transpose()
    }
}
