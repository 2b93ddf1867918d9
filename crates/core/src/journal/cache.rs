//! From an entry to the cache, in one place.
//!
//! Live writes and replay both come through here, with the entry as it stands in the log, so the
//! cache cannot hold anything that the log does not say.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::Error;
use super::change::{Called, Detail, ExportedDetail, PAGE, PageDetail};
use crate::state::{Condition, Event, Stage, State, next_state};
use crate::unit::Kind;

/// One line of the log.
pub(super) struct Entry<'a> {
    pub(super) seq: i64,
    pub(super) unit: Option<i64>,
    pub(super) event: &'a str,
    pub(super) from: Option<Stage>,
    pub(super) to: Option<Stage>,
    pub(super) attempt: i64,
    pub(super) detail: Option<&'a str>,
}

const DOING: &str = "bring its cache up to date";

/// The cached position of a unit.
pub(super) struct Position {
    pub(super) kind: String,
    pub(super) state: State,
    pub(super) attempts: i64,
}

/// Where a unit stands according to the cache.
pub(super) fn position(conn: &Connection, unit: i64) -> Result<Position, Error> {
    let found: Option<(String, i64, String, i64)> = conn
        .prepare_cached("SELECT kind, stage, condition, attempts FROM unit WHERE id = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([unit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()
        })
        .map_err(Error::sqlite(DOING))?;
    let (kind, stage, condition, attempts) = found.ok_or(Error::UnknownUnit(unit))?;
    Ok(Position { kind, state: state_from_columns(stage, &condition)?, attempts })
}

/// A state from its two columns.
pub(super) fn state_from_columns(stage: i64, condition: &str) -> Result<State, Error> {
    let damaged = || Error::Damaged(format!("a unit at stage {stage}, condition {condition:?}"));
    Ok(State::new(
        Stage::from_rank(stage).ok_or_else(damaged)?,
        Condition::from_word(condition).ok_or_else(damaged)?,
    ))
}

/// Reads an entry's detail, naming the entry when it is unreadable.
pub(super) fn parse<T: serde::de::DeserializeOwned>(
    seq: i64,
    detail: Option<&str>,
) -> Result<T, Error> {
    serde_json::from_str(detail.unwrap_or("{}"))
        .map_err(|error| Error::Damaged(format!("entry {seq} cannot be read: {error}")))
}

/// Applies one entry. The state machine is asked again, whoever wrote it.
pub(super) fn apply(conn: &Connection, entry: &Entry<'_>) -> Result<(), Error> {
    let Some(unit) = entry.unit else {
        return if entry.event == PAGE {
            checkpoint(conn, &parse(entry.seq, entry.detail)?)
        } else {
            Ok(())
        };
    };
    let damaged =
        |what: &str| Error::Damaged(format!("entry {} of unit {unit}: {what}", entry.seq));
    let to = entry.to.ok_or_else(|| damaged("no stage"))?;
    let event = Event::from_word(entry.event, to).ok_or_else(|| damaged("unknown event"))?;
    if event == Event::Exported {
        return export(conn, entry.seq, unit, &parse(entry.seq, entry.detail)?);
    }
    let before = position(conn, unit)?;
    let state =
        next_state(Some(before.state), event).map_err(|source| Error::Illegal { unit, source })?;
    if state.stage != to || entry.from != Some(before.state.stage) {
        return Err(damaged("its stages do not follow from the entries before it"));
    }
    let detail: Detail = parse(entry.seq, entry.detail)?;
    step(conn, entry, unit, &before, event, state, &detail)
}

fn export(conn: &Connection, seq: i64, unit: i64, exported: &ExportedDetail) -> Result<(), Error> {
    let run = || -> rusqlite::Result<()> {
        conn.prepare_cached(
            "INSERT INTO unit (id, kind, scope, source_key, label, stage, condition, attempts,
                               exported_seq)
             VALUES (?1, ?2, ?3, ?4, ?5, 1, 'ready', 0, ?6)",
        )?
        .execute(params![
            unit,
            exported.kind.as_str(),
            exported.scope,
            exported.key,
            exported.label,
            seq
        ])?;
        name(conn, unit, exported.kind.as_str(), &exported.aliases)
    };
    run().map_err(Error::sqlite(DOING))
}

fn checkpoint(conn: &Connection, page: &PageDetail) -> Result<(), Error> {
    conn.prepare_cached(
        "INSERT INTO checkpoint (kind, cursor, done, total, pages) VALUES (?1, ?2, ?3, ?4, 1)
         ON CONFLICT (kind) DO UPDATE SET cursor = excluded.cursor, done = excluded.done,
             total = coalesce(excluded.total, total), pages = pages + 1",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            page.kind.as_str(),
            page.cursor.to_string(),
            page.done,
            page.total
        ])
    })
    .map(drop)
    .map_err(Error::sqlite(DOING))
}

fn step(
    conn: &Connection,
    entry: &Entry<'_>,
    unit: i64,
    before: &Position,
    event: Event,
    state: State,
    detail: &Detail,
) -> Result<(), Error> {
    let columns = Columns::of(entry.seq, before, event, state, detail);
    let failure = detail.failure.as_ref().map(serde_json::to_string).transpose();
    let failure = failure.map_err(|error| Error::Damaged(error.to_string()))?;
    let updated = conn
        .prepare_cached(
            "UPDATE unit SET stage = ?2, condition = ?3, attempts = ?4,
                 target_key = CASE WHEN ?8 THEN NULL ELSE coalesce(?5, target_key) END,
                 origin = CASE WHEN ?8 THEN NULL ELSE coalesce(?6, origin) END,
                 failure = CASE WHEN ?14 THEN coalesce(?7, failure) ELSE ?7 END,
                 done_intent_seq = CASE WHEN ?11 THEN NULL
                                        WHEN ?12 THEN coalesce(intent_seq, done_intent_seq)
                                        ELSE done_intent_seq END,
                 done_seq = CASE WHEN ?11 THEN NULL ELSE coalesce(?10, done_seq) END,
                 void = CASE ?16 WHEN 'begun' THEN iif(void = 1 OR intent_seq IS NULL, 2, 0)
                                 WHEN 'unsent' THEN iif(void = 2, 1, void)
                                 WHEN 'absent' THEN intent_seq IS NOT NULL
                                 WHEN 'over' THEN 0
                                 ELSE void END,
                 intent_seq = CASE WHEN ?13 THEN NULL ELSE coalesce(?9, intent_seq) END,
                 undo_seq = CASE WHEN ?14 THEN coalesce(?15, undo_seq) END
             WHERE id = ?1",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                unit,
                state.stage.rank(),
                state.condition.as_str(),
                entry.attempt,
                detail.target,
                detail.origin.map(crate::unit::Origin::as_str),
                failure,
                columns.forget_target,
                columns.intent,
                columns.effect,
                columns.forget_effect,
                columns.effect_under_intent,
                columns.forget_intent,
                columns.undoing,
                columns.undo,
                columns.trace,
            ])
        });
    match updated {
        Ok(_) => {}
        Err(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
        {
            return Err(Error::TargetTaken {
                kind: Kind::from_name(before.kind.clone()),
                target_key: detail.target.clone().unwrap_or_default(),
            });
        }
        Err(source) => {
            return Err(Error::Sqlite { doing: DOING, source });
        }
    }
    if matches!(event, Event::Reopened(_)) {
        renew(conn, entry.seq, unit, &before.kind, detail).map_err(Error::sqlite(DOING))?;
    }
    waits(conn, entry.seq, unit, before, detail).map_err(Error::sqlite(DOING))
}

/// What the export knows of a unit from now on stands in this entry.
fn renew(
    conn: &Connection,
    seq: i64,
    unit: i64,
    kind: &str,
    detail: &Detail,
) -> rusqlite::Result<()> {
    if detail.data.is_some() {
        conn.prepare_cached("UPDATE unit SET exported_seq = ?2 WHERE id = ?1")?
            .execute([unit, seq])?;
    }
    if let Some(Called { label, aliases, gone }) = &detail.called {
        conn.prepare_cached("UPDATE unit SET label = ?2 WHERE id = ?1")?
            .execute(params![unit, label])?;
        let mut lost =
            conn.prepare_cached("DELETE FROM alias WHERE kind = ?1 AND alias = ?2 AND unit = ?3")?;
        for name in gone {
            lost.execute(params![kind, name, unit])?;
        }
        name(conn, unit, kind, aliases)?;
    }
    Ok(())
}

/// Gives a unit the names under which it must be found.
fn name(conn: &Connection, unit: i64, kind: &str, aliases: &[String]) -> rusqlite::Result<()> {
    let mut alias = conn.prepare_cached(
        "INSERT INTO alias (kind, alias, unit) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    for name in aliases {
        alias.execute(params![kind, name, unit])?;
    }
    Ok(())
}

/// What an entry means for the columns that point back into the log.
struct Columns {
    /// It is a forward intent.
    intent: Option<i64>,
    /// An intent stays known while the stage lasts: a probe and a later intent both need it.
    forget_intent: bool,
    /// It records what is now there of the unit's effect.
    effect: Option<i64>,
    /// That effect happened under the unit's present intent, when there is one; what an undo
    /// leaves, or a later look finds again, is still the effect of the earlier one.
    effect_under_intent: bool,
    /// Nothing of the effect is there any more.
    forget_effect: bool,
    /// The counterpart is gone, or is not ours to name any more.
    forget_target: bool,
    /// It is the intent of an undo.
    undo: Option<i64>,
    /// An undo is under way or in doubt. Why a person took the unit out stays known meanwhile.
    undoing: bool,
    /// What it says about traces of the intents of this stage; `None` when nothing. Kept because
    /// a worker that starts anew must not take for its own what others have put there since.
    trace: Option<&'static str>,
}

impl Columns {
    fn of(seq: i64, before: &Position, event: Event, state: State, detail: &Detail) -> Self {
        let moved = state.stage != before.state.stage;
        let forth = match event {
            Event::Done(_) | Event::Partly => true,
            // Found to be there already: what brought it is known from an earlier intent, if any.
            Event::Advanced(_) => before.state.stage == Stage::Exported && detail.data.is_some(),
            _ => false,
        };
        let back = matches!(event, Event::Undone(_) | Event::Reverted(_));
        let remains = back && detail.data.is_some();
        let all_the_way = back && state.stage == Stage::Exported;
        Self {
            intent: (event == Event::Intended).then_some(seq),
            forget_intent: moved || back,
            effect: (forth || remains).then_some(seq),
            effect_under_intent: forth,
            forget_effect: all_the_way && !remains,
            forget_target: all_the_way,
            undo: (event == Event::UndoIntended).then_some(seq),
            trace: trace(before.state.condition, event, moved || back),
            undoing: matches!(state.condition, Condition::Undoing | Condition::UndoInDoubt),
        }
    }
}

/// The word for what an event tells of the traces of forward intents.
fn trace(before: Condition, event: Event, over: bool) -> Option<&'static str> {
    let forth = matches!(before, Condition::Intended | Condition::InDoubt);
    if over || matches!(event, Event::Partly | Event::Doubted) {
        Some("over")
    } else if event == Event::Intended {
        Some("begun")
    } else if forth && event == Event::NotSent {
        Some("unsent")
    } else if forth && event == Event::Absent {
        Some("absent")
    } else {
        None
    }
}

/// Waits and blocks last as long as the condition that brought them.
fn waits(
    conn: &Connection,
    seq: i64,
    unit: i64,
    before: &Position,
    detail: &Detail,
) -> rusqlite::Result<()> {
    if matches!(before.state.condition, Condition::Held | Condition::Failed) {
        conn.prepare_cached("DELETE FROM wait WHERE unit = ?1")?.execute([unit])?;
        conn.prepare_cached("DELETE FROM block WHERE unit = ?1")?.execute([unit])?;
    }
    for wait in &detail.waits {
        conn.prepare_cached(
            "INSERT INTO wait (unit, code, kind, key, scope, stage, parts, example, since)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            unit,
            wait.code,
            wait.kind.as_str(),
            wait.key,
            wait.scope,
            wait.stage.rank(),
            wait.parts,
            wait.example,
            seq
        ])?;
    }
    for block in &detail.blocks {
        conn.prepare_cached(
            "INSERT INTO block (unit, kind, key) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![unit, block.kind.as_str(), block.key])?;
    }
    Ok(())
}
