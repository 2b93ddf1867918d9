//! Whole migrations of made-up things, in virtual time, from a seed.

mod again;
mod back;
mod bounds;
mod delays;
mod following;
mod last;
mod lingering;
mod losses;
mod order;
mod parts;
mod releases;
mod scripted;
mod stopping;
mod taken;
mod together;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Engine, Finish, Interrupt, Settings};
use crate::clock::TimerClock;
use crate::journal::{Journal, Open, Reader, Selection, Setup, Writing, check_replay};
use crate::progress::Unwatched;
use crate::*;

const THING: Kind = Kind::new("thing");
const PART: Kind = Kind::new("part");

/// The world outside: what exists in the target, and how often each was made.
struct World {
    made: Mutex<BTreeMap<String, u32>>,
    random: Mutex<fastrand::Rng>,
    /// Of a hundred effects, how many are lost before, lost after, not sent.
    faults: (u8, u8, u8),
    refused: Mutex<Vec<String>>,
}

impl World {
    fn new(seed: u64, faults: (u8, u8, u8)) -> Arc<Self> {
        Arc::new(Self {
            made: Mutex::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            faults,
            refused: Mutex::default(),
        })
    }

    fn make(&self, key: &str) -> Outcome {
        if self.refused.lock().unwrap().iter().any(|refused| refused == key) {
            return Outcome::Rejected(Failure::new("refused", format!("{key} is refused")));
        }
        let dice = self.random.lock().unwrap().u8(0..100);
        let (before, after, unsent) = self.faults;
        if dice < unsent {
            return Outcome::NotSent { reason: "busy".into(), retry_after: None, halt: None };
        }
        let lost = Outcome::Unknown { reason: "connection reset".into() };
        if dice < unsent + before {
            return lost;
        }
        *self.made.lock().unwrap().entry(key.to_owned()).or_default() += 1;
        if dice < unsent + before + after {
            return lost;
        }
        Outcome::Done(done(key))
    }
}

fn done(key: &str) -> Done {
    Done { target: Some(format!("t-{key}")), origin: Some(Origin::Created), ..Done::default() }
}

struct Things {
    kind: Kind,
    count: usize,
}

impl Source for Things {
    fn kind(&self) -> Kind {
        self.kind.clone()
    }

    fn next_page<'a>(&'a self, cursor: Option<Value>) -> BoxFuture<'a, Result<Page, Halt>> {
        Box::pin(async move {
            let start = cursor.and_then(|cursor| cursor.as_u64()).unwrap_or(0) as usize;
            let end = (start + 50).min(self.count);
            let units = (start..end)
                .map(|n| Exported {
                    source_key: format!("{}{n}", self.kind),
                    scope: String::new(),
                    label: None,
                    aliases: vec![format!("name:{n}")],
                    data: json!({ "n": n }),
                })
                .collect();
            let total = Some(self.count as u64);
            Ok(Page { units, cursor: json!(end), done: end == self.count, total })
        })
    }
}

struct Make(Arc<World>);

impl Transition for Make {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Exported, to: Stage::Created };
        Step { kind: THING, way, batch: 20, concurrency: 8 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move {
            let made = self.0.made.lock().unwrap();
            Ok(units
                .iter()
                .map(|unit| {
                    assert!(!made.contains_key(&unit.source_key), "looked up before, never twice");
                    Prepared::Effect { intent: json!({}), payload: Box::new(()) }
                })
                .collect())
        })
    }

    fn apply<'a>(
        &'a self,
        unit: &'a Unit,
        _: Box<dyn Any + Send + Sync>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.0.make(&unit.source_key)
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move {
            let made = self.0.made.lock().unwrap();
            let found = |unit: &Unit| match made.contains_key(&unit.source_key) {
                true => Probed::Done(done(&unit.source_key)),
                false => Probed::Absent,
            };
            Ok(units.iter().map(found).collect())
        })
    }
}

/// Reads only: `from` to `to`. Parts wait for the thing of the same number.
struct Pass1 {
    step: Step,
    reader: Option<Reader>,
}

impl Transition for Pass1 {
    fn step(&self) -> Step {
        self.step.clone()
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move {
            let Some(reader) = &self.reader else {
                return Ok(units.iter().map(|_| Prepared::Advance(Done::default())).collect());
            };
            let mut out = Vec::new();
            for unit in units {
                let key = format!("thing{}", unit.data["n"]);
                let known = reader.by_source(&THING, std::slice::from_ref(&key))?;
                let thing = known.get(&key);
                let wait = Wait {
                    code: "thing_missing".into(),
                    kind: THING,
                    key: Some(key.clone()),
                    scope: None,
                    stage: Stage::Mapped,
                    parts: 1,
                    example: None,
                };
                out.push(match (thing, pass) {
                    (Some(thing), _) if thing.state.stage >= Stage::Mapped => {
                        Prepared::Advance(Done::default())
                    }
                    (Some(thing), Pass::Patient)
                        if thing.state.condition == Condition::Ready && thing.selected =>
                    {
                        Prepared::Wait(WaitFor::Unit(thing.id, Stage::Mapped))
                    }
                    (None, Pass::Patient) if !reader.export_done(&THING)? => {
                        Prepared::Wait(WaitFor::Export(THING))
                    }
                    _ => Prepared::Hold { waits: vec![wait], blocks: vec![] },
                });
            }
            Ok(out)
        })
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { panic!("it has no effects") })
    }

    fn probe<'a>(&'a self, _: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn open(dir: &tempfile::TempDir) -> Arc<Journal> {
    let clock = TimerClock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let setup = Setup { name: "test".into(), pins: BTreeMap::new() };
    Arc::new(Journal::open(&dir.path().join("j"), &setup, Arc::new(clock)).unwrap())
}

/// A journal whose commits take no virtual time. While the ordinary one waits for its thread, a
/// paused clock runs ahead to the next timer.
fn open_inline(dir: &tempfile::TempDir) -> Arc<Journal> {
    let clock = TimerClock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let setup = Setup { name: "test".into(), pins: BTreeMap::new() };
    let writing = Writing::Inline(Arc::new(Open));
    let path = dir.path().join("j");
    Arc::new(Journal::open_with(&path, &setup, Arc::new(clock), writing).unwrap())
}

fn engine(journal: &Arc<Journal>, world: &Arc<World>, count: usize, settings: Settings) -> Engine {
    let reader = journal.reader().unwrap().select(settings.selection.clone());
    let step = |kind, from, to| {
        let way = Way::Forth { from, to };
        Step { kind, way, batch: 20, concurrency: 1 }
    };
    Engine::new(Arc::clone(journal), Arc::new(Unwatched), settings)
        .source(Arc::new(Things { kind: THING, count }))
        .source(Arc::new(Things { kind: PART, count }))
        .transition(Arc::new(Make(Arc::clone(world))))
        .transition(Arc::new(Pass1 {
            step: step(THING, Stage::Created, Stage::Mapped),
            reader: None,
        }))
        .transition(Arc::new(Pass1 {
            step: step(PART, Stage::Exported, Stage::Imported),
            reader: Some(reader),
        }))
}

fn standing(journal: &Journal, kind: &Kind) -> crate::journal::Standing {
    journal.reader().unwrap().counts().unwrap().remove(kind).unwrap()
}

fn judge(dir: &tempfile::TempDir, world: &World, count: usize) {
    let made = world.made.lock().unwrap();
    assert_eq!(made.len(), count);
    assert!(made.values().all(|times| *times == 1), "nothing twice");
    drop(made);
    check_replay(&dir.path().join("j"), &dir.path().join("scratch")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn everything_arrives_once_whatever_is_lost() {
    for seed in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(seed, (5, 5, 5));
        let journal = open(&dir);
        let engine = engine(&journal, &world, 230, Settings { seed, ..Settings::default() });
        assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
        assert_eq!(standing(&journal, &THING).mapped, 230);
        assert_eq!(standing(&journal, &PART).moving[&Stage::Imported], 230);
        judge(&dir, &world, 230);
    }
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(1, (3, 3, 3));
    let journal = open(&dir);
    for round in 0u64.. {
        let engine = engine(&journal, &world, 120, Settings { seed: round, ..Settings::default() });
        let interrupt = Interrupt::default();
        let stop = interrupt.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(40 + 60 * round)).await;
            stop.throw();
        });
        let finish = engine.run(&interrupt).await.unwrap();
        timer.abort();
        if finish == Finish::Quiescent {
            assert!(round > 2, "it was interrupted before");
            break;
        }
    }
    judge(&dir, &world, 120);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_failed_unit_is_held_and_released() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(1, (0, 0, 0));
    *world.refused.lock().unwrap() = vec!["thing3".into(), "thing77".into()];
    let journal = open(&dir);
    let run = engine(&journal, &world, 100, Settings::default());
    run.run(&Interrupt::default()).await.unwrap();
    assert_eq!(standing(&journal, &THING).failed[&Stage::Exported], 2);
    assert_eq!(standing(&journal, &PART).held[&Stage::Exported], 2);

    world.refused.lock().unwrap().clear();
    let failed = journal.reader().unwrap().failures(Some(Condition::Failed), UnitId(0), 10);
    for row in failed.unwrap() {
        assert_eq!(row.failure.unwrap().code, "refused");
        let retried = crate::journal::Change::step(row.id, Event::Retried);
        journal.submit(vec![retried]).await.unwrap();
    }
    run.run(&Interrupt::default()).await.unwrap();
    assert_eq!(standing(&journal, &PART).moving[&Stage::Imported], 100);
    judge(&dir, &world, 100);
}

#[tokio::test(start_paused = true)]
async fn a_pilot_moves_the_first_few_and_the_next_run_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(1, (0, 0, 0));
    let journal = open(&dir);
    let selection = Selection::First { kind: THING, count: 7 };
    let pilot = Settings { selection, ..Settings::default() };
    engine(&journal, &world, 60, pilot).run(&Interrupt::default()).await.unwrap();
    assert_eq!(standing(&journal, &THING).mapped, 7);
    assert_eq!(standing(&journal, &PART).moving[&Stage::Imported], 7);
    assert_eq!(standing(&journal, &PART).held[&Stage::Exported], 53);

    let all = engine(&journal, &world, 60, Settings::default());
    all.run(&Interrupt::default()).await.unwrap();
    assert_eq!(standing(&journal, &PART).moving[&Stage::Imported], 60);
    judge(&dir, &world, 60);
}

#[tokio::test(start_paused = true)]
async fn nothing_but_trouble_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(1, (100, 0, 0));
    let journal = open(&dir);
    let engine = engine(&journal, &world, 10, Settings::default());
    let halt = engine.run(&Interrupt::default()).await.unwrap_err();
    assert!(matches!(halt, Halt::Remote { trouble: RemoteTrouble::Unreachable, .. }), "{halt}");
    assert!(world.made.lock().unwrap().is_empty());
}
