//! The worker that gives a lot its old ids back.
//!
//! What was exchanged is exchanged again the other way round: every row that carries a new id of
//! the lot's users gets the old one, whoever put it there, but for the rows that carried it before
//! rehome came. A row that the application has put in since belongs to the same person, whose
//! account under the new id is about to go; left as it is, it would point at nobody.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use rehome_core::{
    Condition, Done, Failure, Halt, Kind, Knowledge, Outcome, Pass, Prepared, Probed, Rest, Stage,
    Step, Transition, Unit, UnitId, Way,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::exchange::{Exchange, Work};
use super::lot::{LOT, LotData};
use super::memory::{Past, Users};
use super::obstacles::{Accounts, homecoming, obstacles};
use super::pairs::{Pair, Turn};
use super::places::Places;
use super::trouble::{Trouble, Troubled, Troubles, Why, failure, take_troubled};
use crate::database::{ReadDatabase, WriteDatabase};
use crate::misdirected::misdirected;

/// Takes lots back to `exported`, for the users that the journal selects; those whose account has
/// to stay keep their new ids.
pub struct RestoreLots {
    exchange: Exchange,
    accounts: Accounts,
    races: Mutex<HashMap<UnitId, u32>>,
}

/// What is journaled before ids go back.
#[derive(Serialize, Deserialize)]
struct Intent {
    users: Users,
}

struct Payload {
    work: Work,
    past: Past,
    left: Left,
}

/// Users of a lot whose new ids stay.
#[derive(Default)]
struct Left {
    /// Because their accounts do.
    kept: BTreeSet<UnitId>,
    /// Because something is in the way.
    troubled: Vec<Troubled>,
}

impl Left {
    /// What a person is told of them; `None` when there are none.
    fn failure(&self, kind: &Kind) -> Option<Failure> {
        let kept = || (!self.kept.is_empty()).then(|| kept(&self.kept));
        failure(kind, &self.troubled, Turn::Back).or_else(kept)
    }
}

/// A lot, sorted.
struct Sorted {
    /// Whose ids go back.
    back: Vec<Pair>,
    /// Whose account stays, and with it the new id.
    kept: BTreeSet<UnitId>,
    /// Whom nobody asked for.
    others: BTreeSet<UnitId>,
}

impl RestoreLots {
    /// A worker on `target`, the one database. `accounts`: what becomes of those that this
    /// migration made, when the ids are back.
    pub fn new(
        target: Arc<dyn WriteDatabase>,
        knowledge: Arc<dyn Knowledge>,
        places: Arc<Places>,
        accounts: Accounts,
    ) -> Self {
        let exchange = Exchange { target, knowledge, places };
        Self { exchange, accounts, races: Mutex::new(HashMap::new()) }
    }

    async fn prepare_one(&self, unit: &Unit) -> Result<Prepared, Halt> {
        let past = Past::of_effect(unit)?;
        let Exchange { knowledge, target, places } = &self.exchange;
        let Sorted { mut back, kept, others } = sort(knowledge.as_ref(), places, unit, &past)?;
        let troubles = self.obstacles(&past, &back).await?;
        let troubled = take_troubled(&mut back, troubles);
        let left = Left { kept, troubled };
        if back.is_empty() {
            return Ok(match (left.failure(&places.kind), others.is_empty()) {
                (None, true) => Prepared::Advance(Done::default()),
                (None, false) => Prepared::Leave,
                (Some(failure), _) => Prepared::Fail { failure, blocks: Vec::new() },
            });
        }
        let home = homecoming(target.as_ref(), places, &past.displaced, &back).await?;
        let users: BTreeSet<UnitId> = back.iter().map(|pair| pair.unit).collect();
        let stood = [past.stood.clone(), home.there].concat();
        let work = Work { pairs: back, turn: Turn::Back, stood, displaced: home.missing };
        Ok(Prepared::Effect {
            intent: json!(Intent { users: Users::of(&users) }),
            payload: Box::new(Payload { work, past, left }),
        })
    }

    async fn probe_one(&self, unit: &Unit) -> Result<Probed, Halt> {
        let mut past = Past::of_effect(unit)?;
        let mut sorted =
            sort(self.exchange.knowledge.as_ref(), &self.exchange.places, unit, &past)?;
        let mut left = Left { kept: sorted.kept, troubled: Vec::new() };
        if let Some(json) = &unit.intent {
            let intent = Intent::deserialize(json)
                .map_err(|error| Halt::Bug(format!("the undo of {}: {error}", unit.source_key)))?;
            let meant = intent.users.to_set()?;
            let (back, mut others) =
                sorted.back.into_iter().partition(|pair| meant.contains(&pair.unit));
            sorted.back = back;
            // They were not meant because something was in their way.
            let troubles = self.obstacles(&past, &others).await?;
            left.troubled = take_troubled(&mut others, troubles);
        }
        let reader: &dyn ReadDatabase = self.exchange.target.as_ref();
        let knowledge = self.exchange.knowledge.as_ref();
        let places = &self.exchange.places;
        let home = homecoming(reader, places, &past.displaced, &sorted.back).await?;
        let spared = [past.stood.clone(), home.there].concat();
        let carried = places.count_turned(reader, knowledge, &sorted.back, &spared).await?;
        // Sent again it does no harm: what is back already is not found any more.
        if carried.values().any(|rows| *rows > 0) || !home.missing.is_empty() {
            return Ok(Probed::Absent);
        }
        past.turned_back(sorted.back.iter().map(|pair| pair.unit));
        Ok(Probed::Done(self.done(&past, &left)?))
    }

    /// See [`obstacles`].
    async fn obstacles(&self, past: &Past, pairs: &[Pair]) -> Result<Troubles, Halt> {
        let Exchange { knowledge, target, places } = &self.exchange;
        let about = (past.stood.as_slice(), past.displaced.as_slice(), self.accounts);
        obstacles(target.as_ref(), knowledge.as_ref(), places, pairs, about).await
    }

    /// What remains of a lot.
    fn done(&self, past: &Past, left: &Left) -> Result<Done, Halt> {
        if past.is_empty() {
            return Ok(Done::default());
        }
        let failure = left.failure(&self.exchange.places.kind);
        let rest = failure.map(|failure| Rest::Failed { failure, blocks: Vec::new() });
        Ok(Done { data: Some(past.to_done().json()?), rest, ..Done::default() })
    }

    async fn perform(&self, unit: &Unit, payload: Payload) -> Outcome {
        let Payload { work, mut past, mut left } = payload;
        let pairs = work.pairs.clone();
        let races = self.race(unit, None);
        let refused = match self.exchange.perform(work, races, unit.attempts).await {
            Ok(refused) => refused,
            Err(stopped) => {
                self.race(unit, Some(stopped.raced));
                return stopped.outcome;
            }
        };
        self.race(unit, Some(false));
        let came = pairs.iter().filter(|pair| !refused.contains_key(&pair.unit));
        past.turned_back(came.map(|pair| pair.unit));
        for pair in pairs {
            if let Some(message) = refused.get(&pair.unit) {
                let trouble = Trouble { why: Why::RowRejected, told: message.clone() };
                left.troubled.push(Troubled { user: pair.old, trouble });
            }
        }
        match self.done(&past, &left) {
            Ok(done) => Outcome::Done(done),
            Err(halt) => Outcome::Unknown { reason: halt.to_string() },
        }
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
}

fn kept(users: &BTreeSet<UnitId>) -> Failure {
    Failure::new(
        "rows_kept",
        format!("the rows of {} users stay, because their accounts do", users.len()),
    )
    .with_hint("`rehome failures` names the accounts and why they stay")
}

fn sort(
    knowledge: &dyn Knowledge,
    places: &Places,
    unit: &Unit,
    past: &Past,
) -> Result<Sorted, Halt> {
    let lot = LotData::of(unit)?;
    let known = knowledge.between(&places.kind, lot.after, lot.last, usize::MAX)?;
    let mut sorted = Sorted { back: Vec::new(), kept: BTreeSet::new(), others: BTreeSet::new() };
    for user in known {
        if !past.done.contains(&user.id) && !past.unsure.contains(&user.id) {
            continue;
        }
        match (user.selected, user.state.condition, user.target_key) {
            (false, _, _) => {
                sorted.others.insert(user.id);
            }
            (true, Condition::Stuck, _) => {
                sorted.kept.insert(user.id);
            }
            (
                true,
                Condition::Ready
                | Condition::Intended
                | Condition::InDoubt
                | Condition::Failed
                | Condition::Held
                | Condition::Skipped
                | Condition::Undoing
                | Condition::UndoInDoubt
                | Condition::RolledBack,
                Some(new),
            ) => sorted.back.push(Pair {
                unit: user.id,
                old: user.source_key,
                new,
                origin: user.origin,
            }),
            // Without a counterpart nothing of it is there.
            (
                true,
                Condition::Ready
                | Condition::Intended
                | Condition::InDoubt
                | Condition::Failed
                | Condition::Held
                | Condition::Skipped
                | Condition::Undoing
                | Condition::UndoInDoubt
                | Condition::RolledBack,
                None,
            ) => {}
        }
    }
    Ok(sorted)
}

/// What taking a lot back would do: rows by table, and how many users keep theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LotBack {
    /// Rows that would get an old id back.
    pub rows: BTreeMap<String, u64>,
    /// Rows that made room and would come back.
    pub restored: BTreeMap<String, u64>,
    /// Users whose rows stay because their accounts do.
    pub kept: u64,
    /// Users whose rows stay because something is in their way, which keeps their accounts.
    pub troubled: Vec<UserKept>,
}

/// A user whose rows cannot go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserKept {
    /// Its number in the journal.
    pub unit: UnitId,
    /// Its identity in the source.
    pub source_key: String,
    /// What is in the way.
    pub failure: Failure,
}

/// Says what [`RestoreLots`] would do with a lot. Only reads.
///
/// # Errors
/// When the database or the journal cannot be read.
pub async fn weigh(
    database: &dyn ReadDatabase,
    knowledge: &dyn Knowledge,
    places: &Places,
    unit: &Unit,
    accounts: Accounts,
) -> Result<LotBack, Halt> {
    let past = Past::of_effect(unit)?;
    let Sorted { mut back, kept, others: _ } = sort(knowledge, places, unit, &past)?;
    let about = (past.stood.as_slice(), past.displaced.as_slice(), accounts);
    let troubles = obstacles(database, knowledge, places, &back, about).await?;
    let mut lot = LotBack { kept: kept.len() as u64, ..LotBack::default() };
    lot.troubled = back
        .iter()
        .filter_map(|pair| {
            let failure = troubles.get(&pair.unit)?.failure(Turn::Back);
            Some(UserKept { unit: pair.unit, source_key: pair.old.clone(), failure })
        })
        .collect();
    back.retain(|pair| !troubles.contains_key(&pair.unit));
    lot.rows = places.count_turned(database, knowledge, &back, &past.stood).await?;
    for one in homecoming(database, places, &past.displaced, &back).await?.missing {
        *lot.restored.entry(one.table).or_default() += 1;
    }
    Ok(lot)
}

/// The users whose rows carry new ids because of this lot.
///
/// # Errors
/// When the journal holds something else.
pub fn held(unit: &Unit) -> Result<BTreeSet<UnitId>, Halt> {
    let past = Past::of_effect(unit)?;
    Ok(past.done.union(&past.unsure).copied().collect())
}

impl Past {
    /// These users' ids are the old ones again.
    fn turned_back(&mut self, users: impl Iterator<Item = UnitId>) {
        for user in users {
            self.done.remove(&user);
            self.unsure.remove(&user);
        }
        if self.is_empty() {
            *self = Self::default();
        }
    }

    fn is_empty(&self) -> bool {
        self.done.is_empty() && self.unsure.is_empty()
    }
}

impl Transition for RestoreLots {
    fn step(&self) -> Step {
        let way = Way::Back { to: Stage::Exported, scope: None };
        Step { kind: LOT, way, batch: 1, concurrency: 1 }
    }

    fn flight_time(&self) -> std::time::Duration {
        self.exchange.target.flight_time()
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move {
            let mut prepared = Vec::with_capacity(units.len());
            for unit in units {
                prepared.push(self.prepare_one(unit).await?);
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
