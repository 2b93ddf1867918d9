//! The way back: the same protocol, the other direction.

use super::scripted::{Scripted, exported};
use super::*;
use crate::journal::Change;

/// Takes back what [`Make`] made, with the world's faults.
struct Unmake {
    world: Arc<World>,
    used: Vec<String>,
}

impl Transition for Unmake {
    fn step(&self) -> Step {
        let way = Way::Back { to: Stage::Exported, scope: None };
        Step { kind: THING, way, batch: 20, concurrency: 8 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move {
            let made = self.world.made.lock().unwrap();
            let decide = |unit: &Unit| {
                assert!(unit.effect.is_some(), "what is taken back was done before");
                if self.used.contains(&unit.source_key) {
                    let failure = Failure::new("used", "somebody uses it");
                    return Prepared::Fail { failure, blocks: vec![] };
                }
                match made.get(&unit.source_key) {
                    Some(1) => Prepared::Effect {
                        intent: json!({"unmake": unit.source_key}),
                        payload: Box::new(()),
                    },
                    _ => Prepared::Advance(Done::default()),
                }
            };
            Ok(units.iter().map(decide).collect())
        })
    }

    fn apply<'a>(
        &'a self,
        unit: &'a Unit,
        _: Box<dyn Any + Send + Sync>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            assert_eq!(unit.intent, Some(json!({"unmake": unit.source_key})));
            tokio::time::sleep(Duration::from_millis(10)).await;
            let dice = self.world.random.lock().unwrap().u8(0..100);
            let (before, after, unsent) = self.world.faults;
            let lost = Outcome::Unknown { reason: "connection reset".into() };
            if dice < unsent {
                return Outcome::NotSent { reason: "busy".into(), retry_after: None, halt: None };
            }
            if dice < unsent + before {
                return lost;
            }
            let times = self.world.made.lock().unwrap().insert(unit.source_key.clone(), 0);
            assert_eq!(times, Some(1), "taken back once, and only what was there");
            if dice < unsent + before + after { lost } else { Outcome::Done(Done::default()) }
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move {
            let made = self.world.made.lock().unwrap();
            let found = |unit: &Unit| {
                assert_eq!(unit.intent, Some(json!({"unmake": unit.source_key})));
                match made[&unit.source_key] {
                    0 => Probed::Done(Done::default()),
                    _ => Probed::Absent,
                }
            };
            Ok(units.iter().map(found).collect())
        })
    }
}

fn back(journal: &Arc<Journal>, world: &Arc<World>, used: &[&str], only_doubts: bool) -> Engine {
    let used = used.iter().map(|key| (*key).to_owned()).collect();
    let settings = Settings { only_doubts, ..Settings::default() };
    Engine::new(Arc::clone(journal), Arc::new(Unwatched), settings)
        .transition(Arc::new(Unmake { world: Arc::clone(world), used }))
}

async fn forth(journal: &Arc<Journal>, world: &Arc<World>, count: usize) {
    let forth = engine(journal, world, count, Settings::default());
    assert_eq!(forth.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
}

fn there(world: &World) -> usize {
    world.made.lock().unwrap().values().filter(|times| **times > 0).count()
}

#[tokio::test(start_paused = true)]
async fn everything_is_taken_back_once_whatever_is_lost() {
    for seed in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(seed, (5, 5, 5));
        let journal = open(&dir);
        forth(&journal, &world, 130).await;
        let back = back(&journal, &world, &[], false);
        assert_eq!(back.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
        assert_eq!(there(&world), 0);
        assert_eq!(standing(&journal, &THING).rolled_back, 130);
        let unit = journal.reader().unwrap().unit(UnitId(1)).unwrap();
        assert_eq!((unit.target_key, unit.origin, unit.effect), (None, None, None));
        check_replay(&dir.path().join("j"), &dir.path().join("scratch")).unwrap();

        // And forth again.
        world.made.lock().unwrap().clear();
        forth(&journal, &world, 130).await;
        assert_eq!(standing(&journal, &THING).mapped, 130);
        assert_eq!(there(&world), 130);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_used_is_stuck_and_a_person_can_put_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(1, (0, 0, 0));
    let journal = open(&dir);
    forth(&journal, &world, 30).await;
    let run = back(&journal, &world, &["thing4", "thing9"], false);
    run.run(&Interrupt::default()).await.unwrap();
    assert_eq!(there(&world), 2);
    let standing_now = standing(&journal, &THING);
    assert_eq!((standing_now.stuck[&Stage::Mapped], standing_now.rolled_back), (2, 28));
    // Stuck ones are not offered again until somebody says so.
    run.run(&Interrupt::default()).await.unwrap();
    assert_eq!(standing(&journal, &THING).stuck[&Stage::Mapped], 2);
    let stuck = journal.reader().unwrap().in_condition(&[Condition::Stuck], UnitId(0), 10).unwrap();
    let retried = stuck.iter().map(|unit| Change::step(*unit, Event::Retried)).collect();
    journal.submit(retried).await.unwrap();
    back(&journal, &world, &[], false).run(&Interrupt::default()).await.unwrap();
    assert_eq!(there(&world), 0);
    check_replay(&dir.path().join("j"), &dir.path().join("scratch")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_person_took_out_stays_out_after_it_was_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(1, (0, 100, 0));
    let journal = open(&dir);
    forth(&journal, &world, 5).await;
    let skip = Change::failure(UnitId(1), Event::Skipped, Failure::new("skipped", "left"), vec![]);
    journal.submit(vec![skip]).await.unwrap();
    // Every answer is lost, so the undo is finished by a probe.
    back(&journal, &world, &[], false).run(&Interrupt::default()).await.unwrap();
    assert_eq!(there(&world), 0);
    let unit = journal.reader().unwrap().unit(UnitId(1)).unwrap();
    assert_eq!(unit.state, State::new(Stage::Exported, Condition::Skipped));
    assert_eq!(unit.failure.unwrap().message, "left");
}

#[tokio::test(start_paused = true)]
async fn doubts_of_one_direction_are_settled_before_the_other_begins() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(3, (30, 30, 0));
    let journal = open(&dir);
    forth(&journal, &world, 20).await;
    // As if killed between the intent of an undo and its outcome, in both forms.
    for (unit, gone) in [(1, true), (2, false)] {
        let key = journal.reader().unwrap().unit(UnitId(unit)).unwrap().source_key;
        let intent = json!({"unmake": key});
        let change = Change::intent(UnitId(unit), Event::UndoIntended, intent);
        journal.submit(vec![change]).await.unwrap();
        if gone {
            world.made.lock().unwrap().insert(key, 0);
        }
    }
    let settle = back(&journal, &world, &[], true);
    settle.run(&Interrupt::default()).await.unwrap();
    let reader = journal.reader().unwrap();
    let state = |unit| reader.unit(UnitId(unit)).unwrap().state;
    assert_eq!(state(1), State::new(Stage::Exported, Condition::RolledBack));
    assert_eq!(state(2), State::new(Stage::Mapped, Condition::Ready));
    assert_eq!(standing(&journal, &THING).mapped, 19, "nothing else was touched");
}

#[tokio::test(start_paused = true)]
async fn before_going_back_an_absence_is_believed_only_when_nothing_can_arrive_any_more() {
    let second = Duration::from_secs(1);
    for (arrives, stage) in [(34, Stage::Created), (36, Stage::Exported)] {
        let dir = tempfile::tempdir().unwrap();
        let journal = exported(&dir, 1).await;
        journal.submit(vec![Change::step(UnitId(1), Event::Intended)]).await.unwrap();
        let arrival = tokio::time::Instant::now() + arrives * second;
        let late = Scripted::new(10).flying(30 * second).probing(move || {
            if tokio::time::Instant::now() >= arrival {
                Probed::Done(Done::default())
            } else {
                Probed::Absent
            }
        });
        let settings = Settings { only_doubts: true, ..Settings::default() };
        let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), settings)
            .transition(Arc::new(late));
        assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
        let unit = journal.reader().unwrap().unit(UnitId(1)).unwrap();
        assert_eq!(unit.state, State::new(stage, Condition::Ready), "after {arrives} s");
    }
}
