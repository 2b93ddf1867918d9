//! The order in which a lane takes units, and that none is left behind.

use super::*;
use crate::journal::{Change, Detail};

/// Maps things. While it looks at the second, the first becomes ready behind its back.
struct Overtaken(Arc<Journal>);

impl Transition for Overtaken {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Created, to: Stage::Mapped };
        Step { kind: THING, way, batch: 20, concurrency: 1 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move {
            if units.iter().any(|unit| unit.id == UnitId(2)) {
                self.0.submit(vec![created(1)]).await?;
            }
            Ok(units.iter().map(|_| Prepared::Advance(Done::default())).collect())
        })
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { panic!("it has no effects") })
    }

    fn probe<'a>(&'a self, _: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn created(unit: i64) -> Change {
    let detail = Detail { target: Some(format!("t{unit}")), ..Detail::default() };
    Change::Step { unit: UnitId(unit), event: Event::Advanced(Stage::Created), detail }
}

/// Takes back every thing but the first, which it leaves alone, one at a time.
struct AllButTheFirst;

impl Transition for AllButTheFirst {
    fn step(&self) -> Step {
        let way = Way::Back { to: Stage::Exported, scope: None };
        Step { kind: THING, way, batch: 1, concurrency: 1 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        let decide = |unit: &Unit| match unit.id {
            UnitId(1) => Prepared::Leave,
            _ => Prepared::Advance(Done::default()),
        };
        Box::pin(async move { Ok(units.iter().map(decide).collect()) })
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { panic!("it has no effects") })
    }

    fn probe<'a>(&'a self, _: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A journal of two things, of which some have a counterpart.
async fn two(dir: &tempfile::TempDir, with: &[i64]) -> Arc<Journal> {
    let journal = open_inline(dir);
    let page = Things { kind: THING, count: 2 }.next_page(None).await.unwrap();
    let Page { units, cursor, done, total } = page;
    let page = Change::Page { kind: THING, units, cursor, done, total };
    journal.submit(vec![page]).await.unwrap();
    journal.submit(with.iter().map(|unit| created(*unit)).collect()).await.unwrap();
    journal
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_left_alone_does_not_keep_the_next_from_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let journal = two(&dir, &[1, 2]).await;
    let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), Settings::default())
        .transition(Arc::new(AllButTheFirst));
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let reader = journal.reader().unwrap();
    let stands = |unit| reader.unit(UnitId(unit)).unwrap().state;
    assert_eq!(stands(1), State::new(Stage::Created, Condition::Ready));
    assert_eq!(stands(2), State::new(Stage::Exported, Condition::RolledBack));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_becomes_ready_behind_the_others_is_not_left_there() {
    let dir = tempfile::tempdir().unwrap();
    let journal = two(&dir, &[2]).await;
    let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), Settings::default())
        .transition(Arc::new(Overtaken(Arc::clone(&journal))));
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    assert_eq!(standing(&journal, &THING).mapped, 2);
}
