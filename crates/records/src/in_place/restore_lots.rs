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
use super::memory::{Displaced, Past, Stood, Users};
use super::pairs::{Pair, Turn};
use super::places::Places;
use super::spelling::spelled_otherwise;
use super::standing::{earlier, rivals};
use super::trouble::{Trouble, Troubled, Troubles, Why, failure, take_troubled};
use crate::database::{ReadDatabase, WriteDatabase};
use crate::misdirected::misdirected;
use crate::rewrite::mentions;
use crate::value::Value;

/// Takes lots back to `exported`, for the users that the journal selects; those whose account has
/// to stay keep their new ids.
pub struct RestoreLots {
    exchange: Exchange,
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
    /// A worker on `target`, the one database.
    pub fn new(
        target: Arc<dyn WriteDatabase>,
        knowledge: Arc<dyn Knowledge>,
        places: Arc<Places>,
    ) -> Self {
        let exchange = Exchange { target, knowledge, places };
        Self { exchange, races: Mutex::new(HashMap::new()) }
    }

    async fn prepare_one(&self, unit: &Unit) -> Result<Prepared, Halt> {
        let past = Past::of_effect(unit)?;
        let Exchange { knowledge, target, places } = &self.exchange;
        let Sorted { mut back, kept, others } = sort(knowledge.as_ref(), places, unit, &past)?;
        let troubles = obstacles(target.as_ref(), places, &back).await?;
        let troubled = take_troubled(&mut back, troubles);
        let left = Left { kept, troubled };
        if back.is_empty() {
            return Ok(match (left.failure(&places.kind), others.is_empty()) {
                (None, true) => Prepared::Advance(Done::default()),
                (None, false) => Prepared::Leave,
                (Some(failure), _) => Prepared::Fail { failure, blocks: Vec::new() },
            });
        }
        let (displaced, there) = self.to_come_back(&past.displaced, &back).await?;
        let users: BTreeSet<UnitId> = back.iter().map(|pair| pair.unit).collect();
        let stood = [past.stood.clone(), there].concat();
        let work = Work { pairs: back, turn: Turn::Back, stood, displaced };
        Ok(Prepared::Effect {
            intent: json!(Intent { users: Users::of(&users) }),
            payload: Box::new(Payload { work, past, left }),
        })
    }

    /// The rows that made room and have to come back; and those that are back, as rows to be
    /// left alone. They are back where the user's own row stands under the old id again.
    async fn to_come_back(
        &self,
        displaced: &[Displaced],
        pairs: &[Pair],
    ) -> Result<(Vec<Displaced>, Vec<Stood>), Halt> {
        let by_new: HashMap<&str, &Pair> =
            pairs.iter().map(|pair| (pair.new.as_str(), pair)).collect();
        let (mut missing, mut there) = (Vec::new(), Vec::new());
        for one in displaced {
            let row = earlier(one)?;
            let mut back = false;
            for (table, place) in self.exchange.places.each() {
                if table.table != one.table || place.is_document() {
                    continue;
                }
                let named = mentions(&table.form, &super::standing::only(&row, place.column));
                let pair = named.iter().find_map(|(_, id)| by_new.get(id.as_str()).copied());
                if let Some(pair) = pair {
                    let target = self.exchange.target.as_ref();
                    let asked = vec![(pair, row.clone())];
                    back |= !rivals(target, table, place, asked).await?.is_empty();
                }
            }
            if back {
                let places = self.exchange.places.each();
                let places = places.filter(|(table, _)| table.table == one.table);
                there.extend(places.map(|(table, place)| Stood::of(table, place, &row)));
            } else {
                missing.push(one.clone());
            }
        }
        Ok((missing, there))
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
            let (target, places) = (self.exchange.target.as_ref(), &self.exchange.places);
            let troubles = obstacles(target, places, &others).await?;
            left.troubled = take_troubled(&mut others, troubles);
        }
        let reader: &dyn ReadDatabase = self.exchange.target.as_ref();
        let knowledge = self.exchange.knowledge.as_ref();
        let (missing, back) = self.to_come_back(&past.displaced, &sorted.back).await?;
        let spared = [past.stood.clone(), back].concat();
        let places = &self.exchange.places;
        let carried = places.count_turned(reader, knowledge, &sorted.back, &spared).await?;
        // Sent again it does no harm: what is back already is not found any more.
        if carried.values().any(|rows| *rows > 0) || self.own(&missing, &sorted.back)? {
            return Ok(Probed::Absent);
        }
        past.turned_back(sorted.back.iter().map(|pair| pair.unit));
        Ok(Probed::Done(self.done(&past, &left)?))
    }

    /// Whether one of these rows made room for one of these users.
    fn own(&self, displaced: &[Displaced], pairs: &[Pair]) -> Result<bool, Halt> {
        let news: BTreeSet<&str> = pairs.iter().map(|pair| pair.new.as_str()).collect();
        for one in displaced {
            let named = |value: &Value| value.as_str().is_some_and(|id| news.contains(id));
            if earlier(one)?.iter().any(named) {
                return Ok(true);
            }
        }
        Ok(false)
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

/// What keeps ids of these users from going back, as far as it can be seen beforehand.
async fn obstacles(
    database: &dyn ReadDatabase,
    places: &Places,
    pairs: &[Pair],
) -> Result<Troubles, Halt> {
    spelled_otherwise(database, places, pairs, Turn::Back).await
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
) -> Result<LotBack, Halt> {
    let past = Past::of_effect(unit)?;
    let sorted = sort(knowledge, places, unit, &past)?;
    let mut back = LotBack { kept: sorted.kept.len() as u64, ..LotBack::default() };
    back.rows = places.count_turned(database, knowledge, &sorted.back, &past.stood).await?;
    let news: BTreeSet<&str> = sorted.back.iter().map(|pair| pair.new.as_str()).collect();
    for one in &past.displaced {
        let row = earlier(one)?;
        let named = |value: &Value| value.as_str().is_some_and(|id| news.contains(id));
        if row.iter().any(named) {
            *back.restored.entry(one.table.clone()).or_default() += 1;
        }
    }
    Ok(back)
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
