//! The worker that exchanges the ids of a lot.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use rehome_core::{
    Block, Condition, Done, Failure, Halt, Knowledge, Known, Outcome, Pass, Prepared, Probed, Rest,
    Stage, Step, Transition, Unit, UnitId, Wait, WaitFor, Way,
};
use serde_json::json;

use super::exchange::{Exchange, Refused, Work};
use super::lot::{LOT, LotData};
use super::memory::{LotDone, LotIntent, Past, Users};
use super::pairs::{Pair, Turn, sought};
use super::places::Places;
use super::spelling::spelled_otherwise;
use super::standing::{Known as Remembered, standing};
use super::trouble::{Trouble, Troubled, Why, failure, take_troubled};
use crate::database::{ReadDatabase, Select, WriteDatabase};
use crate::misdirected::misdirected;
use crate::policy::Unmapped;

/// Exchanges the ids of lots: `exported` to `imported`.
pub struct RewriteLots {
    exchange: Exchange,
    policy: Unmapped,
    /// How often in a row the database refused a lot because of what others had written.
    races: Mutex<HashMap<UnitId, u32>>,
}

/// What `apply` needs.
struct Payload {
    work: Work,
    past: Past,
    rest: Open,
}

/// Users of a lot whose ids are not exchanged now.
#[derive(Clone, Debug, Default)]
struct Open {
    /// They have no counterpart yet: how many, and one of them.
    waiting: u64,
    example: Option<String>,
    /// Those among them that this run was to move.
    blocks: Vec<Block>,
    /// They cannot come without a person.
    failed: Vec<Troubled>,
}

/// What remains of a lot.
enum LeftOver {
    /// It waits for users.
    Waits { waits: Vec<Wait>, blocks: Vec<Block> },
    /// It needs a person.
    Fails { failure: Failure, blocks: Vec<Block> },
}

/// A lot, sorted.
struct Sorted {
    /// Whose ids can be exchanged now.
    now: Vec<Pair>,
    /// Whose ids were exchanged before.
    again: Vec<Pair>,
    open: Open,
    /// The last user who still moves towards a counterpart.
    moving: Option<UnitId>,
}

impl RewriteLots {
    /// A worker on `target`, the one database.
    pub fn new(
        target: Arc<dyn WriteDatabase>,
        knowledge: Arc<dyn Knowledge>,
        places: Arc<Places>,
        policy: Unmapped,
    ) -> Self {
        Self {
            exchange: Exchange { target, knowledge, places },
            policy,
            races: Mutex::new(HashMap::new()),
        }
    }

    fn sort(&self, lot: &LotData, past: &Past) -> Result<Sorted, Halt> {
        let kind = &self.exchange.places.kind;
        let known = self.exchange.knowledge.between(kind, lot.after, lot.last, usize::MAX)?;
        let (now, again) = (Vec::new(), Vec::new());
        let mut sorted = Sorted { now, again, open: Open::default(), moving: None };
        for user in known {
            match standing_of(&user) {
                Standing::Mapped(pair) if past.done.contains(&user.id) => sorted.again.push(pair),
                Standing::Mapped(pair) => sorted.now.push(pair),
                Standing::Moving | Standing::Waiting | Standing::TakenOut
                    if past.done.contains(&user.id) => {}
                Standing::Moving => {
                    sorted.moving = Some(user.id);
                    wait_for(&mut sorted.open, kind, &user);
                }
                Standing::Waiting => wait_for(&mut sorted.open, kind, &user),
                Standing::TakenOut => {}
            }
        }
        Ok(sorted)
    }

    async fn prepare_one(&self, unit: &Unit, pass: Pass) -> Result<Prepared, Halt> {
        let lot = LotData::of(unit)?;
        let mut past = Past::of(unit)?;
        let Sorted { mut now, again, mut open, moving } = self.sort(&lot, &past)?;
        if let (Some(last), Pass::Patient) = (moving, pass) {
            return Ok(Prepared::Wait(WaitFor::Unit(last, Stage::Mapped)));
        }
        let mut unsure = past.unsure.clone();
        // The application has gone on writing old ids.
        if self.any_left(&again).await? {
            unsure.extend(again.iter().map(|pair| pair.unit));
            now.extend(again);
        } else if !self.any_left(&now).await? {
            // Nobody's rows are to be taken back for those of whom nothing was exchanged.
            let sent: Vec<_> = past.unsure.iter().copied().collect();
            past.finish(sent.into_iter());
            return self.without_effect(&past, open);
        }
        let known = Remembered { unsure, displaced: &past.displaced };
        let (target, places) = (self.exchange.target.as_ref(), self.exchange.places.as_ref());
        let found = match standing(target, places, &now, &known).await? {
            Ok(found) => found,
            Err(why) => return Ok(too_much(why, &now, &places.kind)),
        };
        let mut troubles = spelled_otherwise(target, places, &now, Turn::Forth).await?;
        troubles.extend(found.conflicts);
        open.failed.extend(take_troubled(&mut now, troubles));
        let displaced = found.displaced.clone();
        past.stood.extend(found.stood);
        for one in &found.displaced {
            if !past.displaced.contains(one) {
                past.displaced.push(one.clone());
            }
        }
        if now.is_empty() {
            return self.without_effect(&past, open);
        }
        let about: BTreeSet<UnitId> =
            now.iter().map(|pair| pair.unit).chain(past.unsure.iter().copied()).collect();
        let intent = LotIntent {
            users: Users::of(&about),
            stood: past.stood.clone(),
            displaced: past.displaced.clone(),
        };
        let work = Work { pairs: now, turn: Turn::Forth, stood: Vec::new(), displaced };
        Ok(Prepared::Effect {
            intent: json!(intent),
            payload: Box::new(Payload { work, past, rest: open }),
        })
    }

    /// No id of these users is to be exchanged.
    fn without_effect(&self, past: &Past, open: Open) -> Result<Prepared, Halt> {
        Ok(match self.left_over(open) {
            None => {
                let data = Some(past.to_done().json()?);
                Prepared::Advance(Done { data, ..Done::default() })
            }
            Some(LeftOver::Waits { waits, blocks }) => Prepared::Hold { waits, blocks },
            Some(LeftOver::Fails { failure, blocks }) => Prepared::Fail { failure, blocks },
        })
    }

    fn rest(&self, open: Open) -> Option<Rest> {
        self.left_over(open).map(|left| match left {
            LeftOver::Waits { waits, blocks } => Rest::Held { waits, blocks },
            LeftOver::Fails { failure, blocks } => Rest::Failed { failure, blocks },
        })
    }

    /// What remains of a lot when all that can be exchanged is. A failure wins over a wait: a
    /// person is needed either way, and what waits is found again then.
    fn left_over(&self, open: Open) -> Option<LeftOver> {
        let kind = &self.exchange.places.kind;
        if let Some(failure) = failure(kind, &open.failed, Turn::Forth) {
            let block = |one: &Troubled| Block { kind: kind.clone(), key: one.user.clone() };
            let blocks = open.failed.iter().map(block).chain(open.blocks).collect();
            return Some(LeftOver::Fails { failure, blocks });
        }
        match self.policy {
            Unmapped::Keep => None,
            Unmapped::Hold | Unmapped::Skip if open.waiting == 0 => None,
            Unmapped::Hold | Unmapped::Skip => Some(LeftOver::Waits {
                waits: vec![Wait {
                    code: "user_unmapped".to_owned(),
                    kind: kind.clone(),
                    key: None,
                    // Looked at again when a run starts, and after any effect on such a unit.
                    scope: Some(String::new()),
                    stage: Stage::Mapped,
                    parts: open.waiting,
                    example: open.example,
                }],
                blocks: open.blocks,
            }),
        }
    }

    /// Whether one of the ids that would be exchanged stands anywhere.
    async fn any_left(&self, pairs: &[Pair]) -> Result<bool, Halt> {
        if pairs.is_empty() {
            return Ok(false);
        }
        let places = self.exchange.places.as_ref();
        any(self.exchange.target.as_ref(), places, &sought(pairs, Turn::Forth)).await
    }

    async fn probe_one(&self, unit: &Unit) -> Result<Probed, Halt> {
        let lot = LotData::of(unit)?;
        let mut past = Past::of(unit)?;
        let Sorted { now, open, .. } = self.sort(&lot, &past)?;
        let about: Vec<Pair> =
            now.into_iter().filter(|pair| past.unsure.contains(&pair.unit)).collect();
        if !self.any_left(&about).await? {
            past.finish(about.iter().map(|pair| pair.unit));
            let done = Done { data: Some(past.to_done().json()?), ..Done::default() };
            // Others of the lot may still wait: they are found when it is prepared anew.
            return Ok(match self.rest(open) {
                None => Probed::Done(done),
                Some(_) => Probed::Part(done),
            });
        }
        // Nobody but rehome exchanges ids: when no row carries a new one but those that did
        // before, the request, which is atomic, has not happened.
        let none = Remembered::default();
        let (target, places) = (self.exchange.target.as_ref(), self.exchange.places.as_ref());
        let there = match standing(target, places, &about, &none).await? {
            Ok(there) => there.stood,
            Err(_) => return self.part(&past),
        };
        let before: BTreeMap<_, _> = past
            .stood
            .iter()
            .map(|one| Ok(((&one.table, &one.place, one.inside), one.keys.to_set()?)))
            .collect::<Result<_, Halt>>()?;
        for one in &there {
            let keys = one.keys.keys()?;
            let known = before.get(&(&one.table, &one.place, one.inside));
            if keys.iter().any(|key| known.is_none_or(|known| !known.contains(key))) {
                return self.part(&past);
            }
        }
        Ok(Probed::Absent)
    }

    fn part(&self, past: &Past) -> Result<Probed, Halt> {
        Ok(Probed::Part(Done { data: Some(past.to_done().json()?), ..Done::default() }))
    }

    fn race(&self, unit: &Unit, raced: Option<bool>) -> u32 {
        let mut races = self.races.lock().unwrap_or_else(PoisonError::into_inner);
        match raced {
            None => races.get(&unit.id).copied().unwrap_or(0),
            Some(true) => {
                let count = races.entry(unit.id).or_default();
                *count += 1;
                *count
            }
            Some(false) => races.remove(&unit.id).unwrap_or(0),
        }
    }

    async fn perform(&self, unit: &Unit, payload: Payload) -> Outcome {
        let Payload { work, mut past, rest: mut open } = payload;
        let pairs = work.pairs.clone();
        let races = self.race(unit, None);
        let refused: Refused = match self.exchange.perform(work, races, unit.attempts).await {
            Ok(refused) => refused,
            Err(stopped) => {
                self.race(unit, Some(stopped.raced));
                let Some(written) = stopped.written else { return stopped.outcome };
                // Whoever an earlier intent left unsure stays so.
                let unsure = past.unsure.clone();
                past.finish(written.into_iter());
                let kept = |user: &UnitId| !past.done.contains(user) && !unsure.contains(user);
                let void = pairs.iter().map(|pair| pair.unit).filter(kept).collect();
                let data = LotDone { void: Users::of(&void), ..past.to_done() };
                return match data.json() {
                    Ok(data) => {
                        let rest = Some(Rest::More);
                        Outcome::Done(Done { data: Some(data), rest, ..Done::default() })
                    }
                    Err(halt) => Outcome::Unknown { reason: halt.to_string() },
                };
            }
        };
        self.race(unit, Some(false));
        let written = pairs.iter().filter(|pair| !refused.contains_key(&pair.unit));
        past.finish(written.map(|pair| pair.unit));
        for pair in &pairs {
            if let Some(message) = refused.get(&pair.unit) {
                let trouble = Trouble { why: Why::RowRejected, told: message.clone() };
                open.failed.push(Troubled { user: pair.old.clone(), trouble });
            }
        }
        match past.to_done().json() {
            Ok(data) => {
                Outcome::Done(Done { data: Some(data), rest: self.rest(open), ..Done::default() })
            }
            Err(halt) => Outcome::Unknown { reason: halt.to_string() },
        }
    }
}

impl Past {
    /// These users' ids are exchanged.
    fn finish(&mut self, users: impl Iterator<Item = UnitId>) {
        for user in users {
            self.unsure.remove(&user);
            self.done.insert(user);
        }
    }
}

/// Whether one of the sought ids stands in any place.
pub(super) async fn any(
    database: &dyn ReadDatabase,
    places: &Places,
    sought: &str,
) -> Result<bool, Halt> {
    let question = |(table, place): (&super::places::TablePlaces, &super::places::Place)| {
        let from =
            format!("FROM {} AS t WHERE {} LIMIT 1", table.form.target_table(), place.holds("t"));
        Select::new(["1"], from).with(sought)
    };
    let questions: Vec<_> = places.each().map(question).collect();
    if questions.is_empty() {
        return Ok(false);
    }
    Ok(database.select(questions).await?.iter().any(|rows| !rows.is_empty()))
}

enum Standing {
    Mapped(Pair),
    Moving,
    Waiting,
    TakenOut,
}

fn standing_of(user: &Known) -> Standing {
    match (user.state.condition, &user.target_key) {
        (Condition::Skipped, _) => Standing::TakenOut,
        _ if !user.selected => Standing::Waiting,
        (
            Condition::Ready
            | Condition::Intended
            | Condition::InDoubt
            | Condition::Failed
            | Condition::Held,
            Some(new),
        ) if user.state.stage >= Stage::Mapped => Standing::Mapped(Pair {
            unit: user.id,
            old: user.source_key.clone(),
            new: new.clone(),
            origin: user.origin,
        }),
        (Condition::Ready | Condition::Intended | Condition::InDoubt, _) => Standing::Moving,
        (
            Condition::Failed
            | Condition::Held
            | Condition::Undoing
            | Condition::UndoInDoubt
            | Condition::Stuck
            | Condition::RolledBack,
            _,
        ) => Standing::Waiting,
    }
}

fn wait_for(open: &mut Open, kind: &rehome_core::Kind, user: &Known) {
    open.waiting += 1;
    if open.example.is_none() {
        open.example = Some(user.source_key.clone());
    }
    // Nobody else can move before the lot is looked at again.
    if user.selected {
        open.blocks.push(Block { kind: kind.clone(), key: user.source_key.clone() });
    }
}

fn too_much(why: String, now: &[Pair], kind: &rehome_core::Kind) -> Prepared {
    let block = |pair: &Pair| Block { kind: kind.clone(), key: pair.old.clone() };
    let failure = Failure::new("already_rewritten", why).with_hint(
        "it looks as if these rows had been moved by something else; see what they are, then \
         `rehome retry`",
    );
    Prepared::Fail { failure, blocks: now.iter().map(block).collect() }
}

impl Transition for RewriteLots {
    fn step(&self) -> Step {
        Step {
            kind: LOT,
            way: Way::Forth { from: Stage::Exported, to: Stage::Imported },
            batch: 1,
            concurrency: 1,
        }
    }

    fn flight_time(&self) -> std::time::Duration {
        self.exchange.target.flight_time()
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move {
            let mut prepared = Vec::with_capacity(units.len());
            for unit in units {
                prepared.push(self.prepare_one(unit, pass).await?);
            }
            Ok(prepared)
        })
    }

    fn apply<'a>(
        &'a self,
        unit: &'a Unit,
        payload: Box<dyn Any + Send + Sync>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            match payload.downcast::<Payload>() {
                Ok(payload) => self.perform(unit, *payload).await,
                Err(_) => misdirected(),
            }
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move {
            let mut probed = Vec::with_capacity(units.len());
            for unit in units {
                probed.push(self.probe_one(unit).await?);
            }
            Ok(probed)
        })
    }
}
