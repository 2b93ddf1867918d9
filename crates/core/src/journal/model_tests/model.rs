//! What a journal must say, stated a second time: plain maps, one small table of rules, no SQL
//! and not a line of the code that is tested.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::journal::{Ack, Change, Detail};
use crate::state::Condition::{
    self, Failed, Held, InDoubt, Intended, Ready, RolledBack, Skipped, Stuck, UndoInDoubt, Undoing,
};
use crate::state::{Event, Stage};
use crate::transition::Exported;
use crate::unit::{Block, Failure, Kind, Origin, UnitId, Wait};

/// Where an event leads.
#[derive(Clone, Copy)]
enum Goes {
    /// To a condition, at the same stage.
    To(Condition),
    /// To a higher stage, ready.
    Up,
    /// To a lower stage, ready; at the lowest, which it may have left or not, rolled back.
    Down,
    /// From the last stage to the one before it, failed.
    Differs,
    /// To a lower stage, ready; for what stands still also to the same.
    Again,
}

/// Where an undo may begin.
const RESTING: &[Condition] = &[Ready, Failed, Held, Skipped, RolledBack];

/// Every event that may happen to a known unit, in which conditions, and where it leads.
const RULES: [(&str, &[Condition], Goes); 23] = [
    ("intended", &[Ready], Goes::To(Intended)),
    ("done", &[Intended, InDoubt], Goes::Up),
    ("partly", &[Intended, InDoubt], Goes::To(Ready)),
    ("rejected", &[Intended, InDoubt], Goes::To(Failed)),
    ("unknown", &[Intended, InDoubt], Goes::To(InDoubt)),
    ("doubted", &[Ready], Goes::To(InDoubt)),
    ("not_sent", &[Intended, Undoing], Goes::To(Ready)),
    ("absent", &[Intended, InDoubt, Undoing, UndoInDoubt], Goes::To(Ready)),
    ("advanced", &[Ready], Goes::Up),
    ("failed", &[Ready], Goes::To(Failed)),
    ("held", &[Ready], Goes::To(Held)),
    ("released", &[Held, RolledBack], Goes::To(Ready)),
    ("skipped", &[Ready, Failed, Held, RolledBack], Goes::To(Skipped)),
    ("retried", &[Failed, Skipped, Stuck], Goes::To(Ready)),
    ("differed", &[Ready], Goes::Differs),
    ("reopened", &[Ready, Failed, Held], Goes::Again),
    ("undo_intended", RESTING, Goes::To(Undoing)),
    ("undone", &[Undoing, UndoInDoubt], Goes::Down),
    ("rejected", &[Undoing, UndoInDoubt], Goes::To(Stuck)),
    ("unknown", &[Undoing, UndoInDoubt], Goes::To(UndoInDoubt)),
    ("reverted", RESTING, Goes::Down),
    ("stuck", RESTING, Goes::To(Stuck)),
    ("exported", &[], Goes::To(Ready)),
];

/// Where a unit stands after an event; `None` when it may not happen.
pub(super) fn leads(stage: Stage, at: Condition, event: Event) -> Option<(Stage, Condition)> {
    let named = match event {
        Event::Advanced(to)
        | Event::Done(to)
        | Event::Undone(to)
        | Event::Reverted(to)
        | Event::Reopened(to) => to,
        _ => stage,
    };
    let (_, _, goes) =
        RULES.iter().find(|(word, from, _)| *word == event.as_str() && from.contains(&at))?;
    match goes {
        Goes::To(condition) => Some((stage, *condition)),
        Goes::Up => (named > stage).then_some((named, Ready)),
        Goes::Down if named == Stage::Exported => Some((named, RolledBack)),
        Goes::Down => (named < stage).then_some((named, Ready)),
        Goes::Again => {
            let still = at != Ready && named == stage;
            (named < stage || still).then_some((named, Ready))
        }
        Goes::Differs => (stage == Stage::Verified).then_some((Stage::Imported, Failed)),
    }
}

/// Why nothing of a change was recorded.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Refusal {
    /// It may not happen to this unit.
    Illegal(i64),
    /// No such unit.
    Unknown(i64),
    /// Another unit of the kind has this counterpart.
    Taken(Kind, String),
}

/// The data of an entry, which it need not have.
pub(super) type Said = Option<Value>;

/// What an effect left in the target.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// The entry that recorded it.
    pub(super) entry: i64,
    /// What the intent said under which it happened.
    pub(super) intent: Said,
    /// What the outcome said.
    pub(super) data: Said,
}

/// One entry of a unit's history.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) entry: i64,
    pub(super) event: &'static str,
    pub(super) from: Option<Stage>,
    pub(super) to: Stage,
    pub(super) attempt: u32,
    pub(super) detail: Detail,
}

/// A unit.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) exported: Exported,
    pub(super) stage: Stage,
    pub(super) condition: Condition,
    pub(super) attempts: u32,
    pub(super) target: Option<String>,
    pub(super) origin: Option<Origin>,
    pub(super) failure: Option<Failure>,
    /// The latest intent of the present stage.
    pub(super) intent: Option<Said>,
    /// For each intent of the present stage, whether something of it may be in the target.
    pub(super) traces: Vec<bool>,
    /// The intent of the undo under way.
    pub(super) undo: Option<Said>,
    pub(super) effect: Option<Left>,
    /// What it waits for, and the entry that said so.
    pub(super) waits: Vec<Wait>,
    pub(super) since: i64,
    pub(super) blocks: Vec<Block>,
    pub(super) history: Vec<Line>,
}

/// How far a source was read: where to go on, whether that is its end, how many units it holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Source {
    pub(super) cursor: Value,
    pub(super) done: bool,
    pub(super) total: Option<u64>,
}

/// A journal.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Unit 1 is the first.
    pub(super) rows: Vec<Row>,
    pub(super) sources: BTreeMap<Kind, Source>,
    /// The latest note of each word.
    pub(super) notes: BTreeMap<&'static str, Value>,
    /// How many entries the log has.
    pub(super) entries: i64,
    /// What the latest move was answered.
    pub(super) answers: Vec<Result<Ack, Refusal>>,
}

impl Model {
    /// Every unit with its number.
    pub(super) fn units(&self) -> impl Iterator<Item = (UnitId, &Row)> {
        (1..).map(UnitId).zip(&self.rows)
    }

    /// The numbers of those that `wanted` picks.
    pub(super) fn those(&self, wanted: impl Fn(&Row) -> bool) -> Vec<UnitId> {
        self.units().filter(|(_, row)| wanted(row)).map(|(id, _)| id).collect()
    }

    /// Units that went back all the way.
    pub(super) fn rolled_back(&self) -> Vec<UnitId> {
        self.those(|row| row.condition == RolledBack)
    }

    /// Held units of which one wait is over: the awaited unit is there or was taken out; for any
    /// of a group, another unit of it left something in the target since.
    pub(super) fn releasable(&self) -> Vec<UnitId> {
        let over = |id: UnitId, held: &Row, wait: &Wait| {
            self.units().any(|(other, row)| match (&wait.key, &wait.scope) {
                _ if row.kind != wait.kind => false,
                (Some(key), _) => {
                    row.exported.source_key == *key
                        && (row.stage >= wait.stage || row.condition == Skipped)
                }
                (None, Some(scope)) if row.exported.scope != *scope => false,
                (None, _) => {
                    other != id && row.effect.as_ref().is_some_and(|it| it.entry > held.since)
                }
            })
        };
        self.units()
            .filter(|(_, row)| row.condition == Held)
            .filter(|(id, row)| row.waits.iter().any(|wait| over(*id, row, wait)))
            .map(|(id, _)| id)
            .collect()
    }

    /// Records the changes, all or none.
    pub(super) fn submit(&mut self, changes: &[Change]) -> Result<Ack, Refusal> {
        let before = self.clone();
        let mut ack = Ack::default();
        for change in changes {
            let recorded = match change {
                Change::Page { kind, units, cursor, done, total } => {
                    ack.new_units += self.export(kind, units);
                    self.entries += 1;
                    let source = self.sources.entry(kind.clone()).or_default();
                    let total = total.or(source.total);
                    *source = Source { cursor: cursor.clone(), done: *done, total };
                    Ok(())
                }
                Change::Step { unit, event, detail } => self.step(*unit, *event, detail),
                Change::Note { event, detail } => {
                    self.entries += 1;
                    self.notes.insert(event, detail.clone());
                    Ok(())
                }
            };
            if let Err(refusal) = recorded {
                *self = before;
                return Err(refusal);
            }
            ack.seq = self.entries;
        }
        Ok(ack)
    }

    /// Returns how many of the units were new.
    fn export(&mut self, kind: &Kind, units: &[Exported]) -> u64 {
        let mut new = 0;
        for unit in units {
            let same = |row: &Row| row.kind == *kind && row.exported.source_key == unit.source_key;
            if self.rows.iter().any(same) {
                continue;
            }
            self.entries += 1;
            new += 1;
            let first = Line {
                entry: self.entries,
                event: "exported",
                from: None,
                to: Stage::Exported,
                attempt: 0,
                detail: Detail::default(),
            };
            self.rows.push(Row {
                kind: kind.clone(),
                exported: unit.clone(),
                stage: Stage::Exported,
                condition: Ready,
                attempts: 0,
                target: None,
                origin: None,
                failure: None,
                intent: None,
                traces: Vec::new(),
                undo: None,
                effect: None,
                waits: Vec::new(),
                since: 0,
                blocks: Vec::new(),
                history: vec![first],
            });
        }
        new
    }

    fn step(&mut self, unit: UnitId, event: Event, detail: &Detail) -> Result<(), Refusal> {
        let index = usize::try_from(unit.0 - 1).map_err(|_| Refusal::Unknown(unit.0))?;
        let row = self.rows.get(index).ok_or(Refusal::Unknown(unit.0))?;
        let (stage, condition) =
            leads(row.stage, row.condition, event).ok_or(Refusal::Illegal(unit.0))?;
        let back = matches!(event.as_str(), "undone" | "reverted");
        let home = back && stage == Stage::Exported;
        if let Some(target) = &detail.target
            && !home
        {
            let taken = |(id, other): (UnitId, &Row)| {
                id != unit && other.kind == row.kind && other.target.as_ref() == Some(target)
            };
            if self.units().any(taken) {
                return Err(Refusal::Taken(row.kind.clone(), target.clone()));
            }
        }
        self.entries += 1;
        let entry = self.entries;
        self.rows[index].happen(entry, event, (stage, condition), detail);
        Ok(())
    }
}

impl Row {
    fn happen(
        &mut self,
        entry: i64,
        event: Event,
        (stage, condition): (Stage, Condition),
        detail: &Detail,
    ) {
        let word = event.as_str();
        let from = self.stage;
        let moved = stage != from;
        let back = matches!(word, "undone" | "reverted");
        let home = back && stage == Stage::Exported;

        self.attempts = match word {
            "intended" | "undo_intended" => self.attempts + 1,
            "retried" => 0,
            _ if moved => 0,
            _ => self.attempts,
        };

        if word == "reopened" {
            if let Some(called) = &detail.called {
                self.exported.label.clone_from(&called.label);
                self.exported.aliases.retain(|name| !called.gone.contains(name));
                self.exported.aliases.extend(called.aliases.iter().cloned());
            }
            if let Some(data) = &detail.data {
                self.exported.data = data.clone();
            }
        }

        // What is in the target: brought there by an effect, found there by the first advance, or
        // left over there by an undo. The latter does not change how it came there.
        let earlier = self.effect.as_ref().and_then(|left| left.intent.clone());
        let found = word == "advanced" && from == Stage::Exported && detail.data.is_some();
        if matches!(word, "done" | "partly") || found {
            let intent = self.intent.clone().unwrap_or(earlier);
            self.effect = Some(Left { entry, intent, data: detail.data.clone() });
        } else if back && detail.data.is_some() {
            self.effect = Some(Left { entry, intent: earlier, data: detail.data.clone() });
        } else if home {
            self.effect = None;
        }

        // The counterpart is known until the unit is home again.
        if home {
            (self.target, self.origin) = (None, None);
        } else {
            self.target = detail.target.clone().or(self.target.take());
            self.origin = detail.origin.or(self.origin);
        }

        // An intent is known while its stage lasts, an undo's while the undo does.
        let undoing = matches!(condition, Undoing | UndoInDoubt);
        match word {
            "intended" => self.intent = Some(detail.data.clone()),
            "undo_intended" => self.undo = Some(detail.data.clone()),
            _ => {}
        }
        // A request that never took effect left nothing; a probe speaks of all that came before.
        let forth = matches!(self.condition, Intended | InDoubt);
        match (word, self.traces.last_mut()) {
            ("intended", _) => self.traces.push(true),
            ("not_sent", Some(latest)) if forth => *latest = false,
            ("absent", _) if forth => self.traces.fill(false),
            ("doubted", _) => self.traces.fill(true),
            _ => {}
        }
        if moved || back {
            self.intent = None;
            self.traces.clear();
        }
        if !undoing {
            self.undo = None;
        }

        // A reason is that of the latest entry; an undo under way has none and hides none.
        if !undoing || detail.failure.is_some() {
            self.failure.clone_from(&detail.failure);
        }

        // Waits and blocks last as long as the hold or the failure that brought them.
        if matches!(self.condition, Held | Failed) {
            self.waits.clear();
            self.blocks.clear();
        }
        if !detail.waits.is_empty() {
            self.since = entry;
            self.waits.extend(detail.waits.iter().cloned());
        }
        self.blocks.extend(detail.blocks.iter().cloned());

        (self.stage, self.condition) = (stage, condition);
        self.history.push(Line {
            entry,
            event: word,
            from: Some(from),
            to: stage,
            attempt: self.attempts,
            detail: detail.clone(),
        });
    }
}
