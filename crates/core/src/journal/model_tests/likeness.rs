//! Everything that a reader can be asked, asked of a journal and of the model.

use std::collections::{BTreeMap, HashSet};

use super::model::{Model, Row};
use super::moves::{ALIASES, KEYS, KINDS, NOTES, SCOPES, TARGETS};
use crate::journal::{Counts, Error, HistoryEntry, Mapping, Reader, Standing, WaitRow};
use crate::knowledge::Knowledge as _;
use crate::state::{Condition, Stage, State};
use crate::transition::Way;
use crate::unit::{Effect, Kind, Unit, UnitId};

/// More than there ever is.
const MANY: usize = 1000;
const START: UnitId = UnitId(0);

/// Panics where the journal says something else than the model.
pub(super) fn compare(reader: &Reader, model: &Model) {
    units(reader, model);
    names(reader, model);
    for kind in KINDS {
        queues(reader, model, &kind);
        ways_back(reader, model, &kind);
        lists(reader, model, &kind);
    }
    rest(reader, model);
}

/// A unit as the journal should show it.
fn unit(id: UnitId, row: &Row) -> Unit {
    let exported = row.exported.clone();
    Unit {
        id,
        kind: row.kind.clone(),
        scope: exported.scope,
        source_key: exported.source_key,
        target_key: row.target.clone(),
        origin: row.origin,
        label: exported.label,
        state: State::new(row.stage, row.condition),
        attempts: row.attempts,
        failure: row.failure.clone(),
        data: exported.data,
        intent: row.undo.clone().or_else(|| row.intent.clone()).flatten(),
        intent_void: !row.traces.is_empty() && !row.traces.contains(&true),
        effect: row
            .effect
            .as_ref()
            .map(|left| Effect { intent: left.intent.clone(), data: left.data.clone() }),
    }
}

fn units(reader: &Reader, model: &Model) {
    let beyond = UnitId(model.rows.len() as i64 + 1);
    let ids: Vec<_> = (0..=beyond.0).map(UnitId).collect();
    let found = reader.load(&ids).unwrap();
    assert_eq!(found.len(), model.rows.len());
    for (found, (id, row)) in found.iter().zip(model.units()) {
        // The debug form, because a unit cannot be compared: nothing of it is left out.
        assert_eq!(format!("{found:?}"), format!("{:?}", unit(id, row)));
        let waits: Vec<_> = row.waits.iter().map(wait).collect();
        assert_eq!(reader.waits(id).unwrap(), waits, "{id:?}");
        let history: Vec<_> = row
            .history
            .iter()
            .map(|line| HistoryEntry {
                seq: line.entry,
                at: 0,
                event: line.event.into(),
                from: line.from,
                to: Some(line.to),
                attempt: line.attempt,
                detail: line.detail.clone(),
            })
            .collect();
        assert_eq!(reader.history(id).unwrap(), history, "{id:?}");
    }
    assert!(matches!(reader.unit(beyond), Err(Error::UnknownUnit(id)) if id == beyond.0));
    assert!(reader.history(beyond).unwrap().is_empty(), "a refused step leaves no trace");
}

fn wait(wait: &crate::unit::Wait) -> WaitRow {
    WaitRow {
        code: wait.code.clone(),
        kind: wait.kind.clone(),
        key: wait.key.clone(),
        scope: wait.scope.clone(),
        parts: wait.parts,
        example: wait.example.clone(),
    }
}

fn ids(units: &[Unit]) -> Vec<UnitId> {
    units.iter().map(|unit| unit.id).collect()
}

/// A unit is found under each of its names, and under no other.
fn names(reader: &Reader, model: &Model) {
    for name in KEYS.iter().chain(&ALIASES).chain(&TARGETS) {
        let goes_by = |row: &Row| {
            row.exported.source_key == *name
                || row.target.as_deref() == Some(name)
                || row.exported.aliases.iter().any(|alias| alias == name)
        };
        let found = reader.find(&[(*name).to_owned()]).unwrap();
        assert_eq!(ids(&found), model.those(goes_by), "{name}");
    }
}

/// What the lanes of a run are given.
fn queues(reader: &Reader, model: &Model, kind: &Kind) {
    use Condition::{InDoubt, Intended, Ready, Undoing};
    for stage in Stage::ALL {
        let ready =
            model.those(|row| row.kind == *kind && row.stage == stage && row.condition == Ready);
        // By twos, as a lane asks: each batch goes on where the last one ended.
        let mut found = Vec::new();
        loop {
            let after = found.last().copied().unwrap_or(START);
            let batch = reader.ready_ids(kind, stage, after, 2).unwrap();
            found.extend(&batch);
            if batch.len() < 2 {
                break;
            }
        }
        assert_eq!(found, ready, "{kind} {stage}");
        let reached = model.those(|row| row.kind == *kind && row.stage >= stage);
        let found = reader.standing_at_least(kind, stage, START, MANY).unwrap();
        assert_eq!(ids(&found), reached, "{kind} {stage}");
        let way = Way::Forth { from: stage, to: Stage::Verified };
        let doubtful = model.those(|row| {
            row.kind == *kind && row.stage == stage && [Intended, InDoubt].contains(&row.condition)
        });
        assert_eq!(ids(&reader.in_doubt(kind, &way, START, MANY).unwrap()), doubtful, "{way:?}");
        for scope in scopes() {
            let moves = |row: &Row| {
                row.kind == *kind
                    && scope.is_none_or(|scope| row.exported.scope == scope)
                    && row.stage < stage
                    && matches!(
                        row.condition,
                        Ready | Intended | InDoubt | Undoing | Condition::UndoInDoubt
                    )
            };
            let read = model.sources.get(kind).is_some_and(|source| source.done);
            let settled = read && model.those(moves).is_empty();
            let found = reader.settled(kind, scope, stage).unwrap();
            assert_eq!(found, settled, "{kind} {scope:?} {stage}");
        }
    }
}

/// All scopes at once, and each.
fn scopes() -> impl Iterator<Item = Option<&'static str>> {
    std::iter::once(None).chain(SCOPES.map(Some))
}

/// What the lanes of a rollback are given.
fn ways_back(reader: &Reader, model: &Model, kind: &Kind) {
    use Condition::{Failed, Held, Ready, RolledBack, Skipped, UndoInDoubt, Undoing};
    for scope in scopes() {
        let here =
            |row: &Row| row.kind == *kind && scope.is_none_or(|scope| row.exported.scope == scope);
        for to in Stage::ALL {
            let something =
                |row: &Row| row.stage > to || (to == Stage::Exported && row.effect.is_some());
            let free = [Ready, Failed, Held, Skipped, RolledBack];
            let undoable =
                model.those(|row| here(row) && something(row) && free.contains(&row.condition));
            let found = reader.undoable_ids(kind, to, scope, START, MANY).unwrap();
            assert_eq!(found, undoable, "{kind} {to} {scope:?}");
        }
        let way = Way::Back { to: Stage::Exported, scope: scope.map(str::to_owned) };
        let doubtful =
            model.those(|row| here(row) && [Undoing, UndoInDoubt].contains(&row.condition));
        assert_eq!(ids(&reader.in_doubt(kind, &way, START, MANY).unwrap()), doubtful, "{way:?}");
        let left = model.those(|row| here(row) && row.effect.is_some());
        let found = reader.with_effect(kind, scope, START, MANY).unwrap();
        assert_eq!(ids(&found), left, "{kind} {scope:?}");
    }
}

/// What is told of a kind: its mapping, its source, who of it is blocked.
fn lists(reader: &Reader, model: &Model, kind: &Kind) {
    let mapped = |(id, row): (UnitId, &Row)| {
        let target_key = row.target.clone()?;
        (row.kind == *kind && row.stage >= Stage::Mapped).then(|| Mapping {
            id,
            kind: kind.clone(),
            source_key: row.exported.source_key.clone(),
            target_key,
            origin: row.origin,
            label: row.exported.label.clone(),
        })
    };
    let mappings: Vec<_> = model.units().filter_map(mapped).collect();
    assert_eq!(reader.mappings(kind, START, MANY).unwrap(), mappings);

    let source = model.sources.get(kind);
    let found = reader.checkpoint(kind).unwrap();
    let found = found.map(|it| (it.cursor, it.done, it.total));
    assert_eq!(found, source.map(|it| (it.cursor.clone(), it.done, it.total)));
    assert_eq!(reader.export_done(kind).unwrap(), source.is_some_and(|source| source.done));

    let keys: Vec<_> = KEYS.map(str::to_owned).into();
    let blocked: HashSet<_> = model
        .rows
        .iter()
        .flat_map(|row| &row.blocks)
        .filter(|block| block.kind == *kind)
        .map(|block| block.key.clone())
        .collect();
    assert_eq!(reader.blocked(kind, &keys).unwrap(), blocked);
}

/// What is told of the whole.
fn rest(reader: &Reader, model: &Model) {
    assert_eq!(reader.counts().unwrap(), counts(model));
    assert_eq!(reader.releasable(START, MANY).unwrap(), model.releasable());
    assert_eq!(reader.rolled_back(START, MANY).unwrap(), model.rolled_back());
    let group = |row: &Row| {
        let awaits = row.waits.iter().any(|wait| wait.key.is_none() && wait.scope.is_some());
        row.condition == Condition::Held && awaits
    };
    assert_eq!(reader.held_for_a_scope(START, MANY).unwrap(), model.those(group));
    for word in NOTES {
        let note = model.notes.get(word).map(|detail| (0, detail.clone()));
        assert_eq!(reader.note(word).unwrap(), note, "{word}");
    }
}

fn counts(model: &Model) -> Counts {
    let mut counts = Counts::new();
    for row in &model.rows {
        let Standing { moving, in_doubt, failed, held, skipped, stuck, rolled_back, mapped } =
            counts.entry(row.kind.clone()).or_default();
        let one_more = |group: &mut BTreeMap<Stage, u64>| {
            *group.entry(row.stage).or_default() += 1;
        };
        match row.condition {
            Condition::Ready => one_more(moving),
            Condition::Intended
            | Condition::InDoubt
            | Condition::Undoing
            | Condition::UndoInDoubt => {
                one_more(moving);
                *in_doubt += 1;
            }
            Condition::Failed => one_more(failed),
            Condition::Held => one_more(held),
            Condition::Skipped => one_more(skipped),
            Condition::Stuck => one_more(stuck),
            Condition::RolledBack => *rolled_back += 1,
        }
        *mapped += u64::from(row.stage >= Stage::Mapped);
    }
    counts
}
