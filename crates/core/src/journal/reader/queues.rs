//! What there is to do: the work queues of the lanes, read by the batch.

use rusqlite::params;

use super::{Reader, UNIT, page, those, units};
use crate::journal::Error;
use crate::state::{Condition, Stage};
use crate::transition::Way;
use crate::unit::{Kind, Unit, UnitId};

impl Reader {
    /// Ready, selected units of a kind at a stage, with numbers above `after`, in their order: a
    /// page as of [`Reader::standing_at_least`].
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn ready(
        &self,
        kind: &Kind,
        stage: Stage,
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<Unit>, Error> {
        let ids = self.ready_ids(kind, stage, after, limit)?;
        page(&self.lock(), &those(), params![serde_json::json!(ids).to_string()])
    }

    /// The numbers of the units that [`Reader::ready`] would give: cheap, because it reads an
    /// index only.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn ready_ids(
        &self,
        kind: &Kind,
        stage: Stage,
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<UnitId>, Error> {
        let conn = self.lock();
        let (filter, parameter) = self.filter(&conn, kind)?;
        let sql = format!(
            "SELECT u.id FROM unit u WHERE u.kind = ?1 AND u.stage = ?3
             AND u.condition = 'ready' AND u.id > ?4 {filter} ORDER BY u.id LIMIT ?5"
        );
        conn.prepare_cached(&sql)
            .and_then(|mut statement| {
                let values = params![kind.as_str(), parameter, stage.rank(), after.0, limit as i64];
                statement.query_map(values, |row| row.get(0).map(UnitId))?.collect()
            })
            .map_err(Error::sqlite("look for ready units"))
    }

    /// The numbers of the selected units of a kind (in one scope, or in all) of which there is
    /// something to take back: they stand above `to`, or at `exported` with an effect. Stuck ones
    /// are left out, and those with an effect or an undo under way.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn undoable_ids(
        &self,
        kind: &Kind,
        to: Stage,
        scope: Option<&str>,
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<UnitId>, Error> {
        let conn = self.lock();
        let (filter, parameter) = self.filter(&conn, kind)?;
        let sql = format!(
            "SELECT u.id FROM unit u WHERE +u.kind = ?1
             AND (u.stage > ?3 OR (?3 = 1 AND u.done_seq IS NOT NULL))
             AND u.condition IN ('ready', 'failed', 'held', 'skipped', 'rolled_back')
             AND (?6 IS NULL OR u.scope = ?6) AND u.id > ?4 {filter} ORDER BY u.id LIMIT ?5"
        );
        conn.prepare_cached(&sql)
            .and_then(|mut statement| {
                let values =
                    params![kind.as_str(), parameter, to.rank(), after.0, limit as i64, scope];
                statement.query_map(values, |row| row.get(0).map(UnitId))?.collect()
            })
            .map_err(Error::sqlite("look for units to take back"))
    }

    /// Units of a kind (in one scope, or in all) that have left an effect in the target, whatever
    /// their condition, with numbers above `after`. A plan weighs also those that no undo may
    /// touch now: what they left is there and may keep other things from going.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn with_effect(
        &self,
        kind: &Kind,
        scope: Option<&str>,
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<Unit>, Error> {
        let sql = format!(
            "{UNIT} WHERE +u.kind = ?1 AND u.done_seq IS NOT NULL
             AND (?2 IS NULL OR u.scope = ?2) AND u.id > ?3 ORDER BY u.id LIMIT ?4"
        );
        units(&self.lock(), &sql, params![kind.as_str(), scope, after.0, limit as i64])
    }

    /// Units that a step has left with an intent and without a known outcome, with numbers above
    /// `after`. Effects and undos are told apart: each is probed by its own worker.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn in_doubt(
        &self,
        kind: &Kind,
        way: &Way,
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<Unit>, Error> {
        let (conditions, stage, scope) = match way {
            Way::Forth { from, .. } => ("'intended', 'in_doubt'", Some(from.rank()), None),
            Way::Back { scope, .. } => ("'undoing', 'undo_in_doubt'", None, scope.as_deref()),
        };
        let sql = format!(
            "{UNIT} WHERE u.kind = ?1 AND u.condition <> 'ready' AND u.condition IN ({conditions})
             AND (?2 IS NULL OR u.stage = ?2) AND (?5 IS NULL OR u.scope = ?5)
             AND u.id > ?3 ORDER BY u.id LIMIT ?4"
        );
        units(&self.lock(), &sql, params![kind.as_str(), stage, after.0, limit as i64, scope])
    }

    /// Ready units of every kind with a forward intent of their stage of which a probe has found no
    /// trace, and was believed, with numbers above `after`. A request may still arrive later than
    /// that. Those that were doubted since their latest intent are not among them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn believed_absent(&self, after: UnitId, limit: usize) -> Result<Vec<UnitId>, Error> {
        self.read("look for absences that were believed", |conn| {
            conn.prepare_cached(
                "SELECT u.id FROM unit u
                 WHERE u.condition = 'ready' AND u.intent_seq IS NOT NULL AND u.id > ?1
                     AND EXISTS (SELECT 1 FROM entry e WHERE e.unit = u.id AND e.event = 'absent'
                                     AND e.from_stage = u.stage)
                     AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.unit = u.id
                                         AND e.event = 'doubted' AND e.seq > u.intent_seq)
                 ORDER BY u.id LIMIT ?2",
            )?
            .query_map(params![after.0, limit as i64], |row| row.get(0).map(UnitId))?
            .collect()
        })
    }

    /// Units in one of these conditions, of every kind, with numbers above `after`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn in_condition(
        &self,
        conditions: &[Condition],
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<UnitId>, Error> {
        let words: Vec<_> = conditions.iter().map(|condition| condition.as_str()).collect();
        self.read("look for units in a condition", |conn| {
            conn.prepare_cached(
                "SELECT id FROM unit WHERE condition <> 'ready'
                     AND condition IN (SELECT value FROM json_each(?1)) AND id > ?2
                 ORDER BY id LIMIT ?3",
            )?
            .query_map(
                params![serde_json::json!(words).to_string(), after.0, limit as i64],
                |row| row.get(0).map(UnitId),
            )?
            .collect()
        })
    }

    /// Units that went back all the way, with numbers above `after`: a run takes them up again.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn rolled_back(&self, after: UnitId, limit: usize) -> Result<Vec<UnitId>, Error> {
        self.in_condition(&[Condition::RolledBack], after, limit)
    }

    /// Held units of which something that they wait for has come, or will not come any more
    /// because a person took it out; with numbers above `after`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn releasable(&self, after: UnitId, limit: usize) -> Result<Vec<UnitId>, Error> {
        self.read("look for released units", |conn| {
            conn.prepare_cached(
                "SELECT DISTINCT w.unit FROM wait w JOIN unit h ON h.id = w.unit
                 WHERE h.condition = 'held' AND w.unit > ?1 AND (
                     (w.key IS NOT NULL AND EXISTS (
                         SELECT 1 FROM unit u WHERE u.kind = w.kind AND u.source_key = w.key
                             AND (u.stage >= w.stage OR u.condition = 'skipped')))
                     OR (w.key IS NULL AND EXISTS (
                         SELECT 1 FROM unit u WHERE u.kind = w.kind
                             AND (w.scope IS NULL OR u.scope = w.scope)
                             AND u.id <> w.unit AND u.done_seq > w.since)))
                 ORDER BY w.unit LIMIT ?2",
            )?
            .query_map(params![after.0, limit as i64], |row| row.get(0).map(UnitId))?
            .collect()
        })
    }

    /// Held units that wait for any effect in a scope, with numbers above `after`. Such an effect
    /// may have come between the look that led to the hold and the hold itself, so a run looks at
    /// them once more when it starts.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn held_for_a_scope(&self, after: UnitId, limit: usize) -> Result<Vec<UnitId>, Error> {
        self.read("look for held units", |conn| {
            conn.prepare_cached(
                "SELECT DISTINCT w.unit FROM wait w JOIN unit h ON h.id = w.unit
                 WHERE h.condition = 'held' AND w.key IS NULL AND w.scope IS NOT NULL
                     AND w.unit > ?1
                 ORDER BY w.unit LIMIT ?2",
            )?
            .query_map(params![after.0, limit as i64], |row| row.get(0).map(UnitId))?
            .collect()
        })
    }
}
