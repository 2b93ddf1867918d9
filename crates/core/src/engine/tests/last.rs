//! The last pass: what waits for something that will not come in this run.

use super::*;
use crate::journal::Change;

/// Waits for a kind that nobody exports: for ever, or until it is asked for the last time.
struct Hopeful {
    gives_up: bool,
    asked: Mutex<Vec<Pass>>,
}

impl Transition for Hopeful {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Exported, to: Stage::Imported };
        Step { kind: THING, way, batch: 20, concurrency: 1 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        self.asked.lock().unwrap().push(pass);
        let decide = |_| match pass {
            Pass::Final if self.gives_up => Prepared::Hold { waits: vec![], blocks: vec![] },
            Pass::Final | Pass::Patient => Prepared::Wait(WaitFor::Export(PART)),
        };
        let decided = units.iter().map(decide).collect();
        Box::pin(async move { Ok(decided) })
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { panic!("it has no effects") })
    }

    fn probe<'a>(&'a self, _: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// How a run over three things ends, in which passes their worker was asked, and how many are held.
async fn run(gives_up: bool) -> (Result<Finish, Halt>, Vec<Pass>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let page = Things { kind: THING, count: 3 }.next_page(None).await.unwrap();
    let Page { units, cursor, done, total } = page;
    journal.submit(vec![Change::Page { kind: THING, units, cursor, done, total }]).await.unwrap();
    let hopeful = Arc::new(Hopeful { gives_up, asked: Mutex::default() });
    let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), Settings::default())
        .transition(Arc::clone(&hopeful) as Arc<dyn Transition>);
    let end = engine.run(&Interrupt::default()).await;
    let asked = hopeful.asked.lock().unwrap().clone();
    let held = standing(&journal, &THING).held.get(&Stage::Exported).copied().unwrap_or(0);
    (end, asked, held)
}

#[tokio::test(start_paused = true)]
async fn who_still_waits_when_nothing_moves_is_asked_once_more_and_held() {
    let (end, asked, held) = run(true).await;
    assert_eq!(end.unwrap(), Finish::Quiescent);
    assert_eq!(asked, [Pass::Patient, Pass::Final]);
    assert_eq!(held, 3);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_waits_even_then_is_a_bug_and_not_an_endless_run() {
    let (end, asked, held) = run(false).await;
    assert!(matches!(end, Err(Halt::Bug(_))), "{end:?}");
    assert_eq!(asked, [Pass::Patient, Pass::Final]);
    assert_eq!(held, 0);
}
