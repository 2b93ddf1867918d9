//! How long a batch that is not full waits for more.

use tokio::time::Instant;

use super::*;
use crate::journal::Change;

/// Advances what it gets, by the hundred if it can, and notes when it was asked about how many.
struct Patient {
    linger: Duration,
    asked: Mutex<Vec<(Instant, usize)>>,
}

impl Transition for Patient {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Exported, to: Stage::Created };
        Step { kind: THING, way, batch: 30, concurrency: 1 }
    }

    fn linger(&self) -> Duration {
        self.linger
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        self.asked.lock().unwrap().push((Instant::now(), units.len()));
        let advance = |_| Prepared::Advance(Done::default());
        Box::pin(async move { Ok(units.iter().map(advance).collect()) })
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { panic!("it has no effects") })
    }

    fn probe<'a>(&'a self, _: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// When the worker was asked about how many of fifty units, while somebody commits every 200 ms.
async fn asked(linger: u64, commits: u32) -> Vec<(u128, usize)> {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let page = Things { kind: THING, count: 50 }.next_page(None).await.unwrap();
    let Page { units, cursor, done, total } = page;
    let page = Change::Page { kind: THING, units, cursor, done, total };
    journal.submit(vec![page]).await.unwrap();
    let worker = Patient { linger: Duration::from_millis(linger), asked: Mutex::default() };
    let worker = Arc::new(worker);
    let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), Settings::default())
        .transition(Arc::clone(&worker) as Arc<dyn Transition>);
    let begun = Instant::now();
    let others = async {
        for _ in 0..commits {
            tokio::time::sleep(Duration::from_millis(200)).await;
            journal.submit(Vec::new()).await.unwrap();
        }
    };
    let interrupt = Interrupt::default();
    let (end, ()) = tokio::join!(engine.run(&interrupt), others);
    assert_eq!(end.unwrap(), Finish::Quiescent);
    let asked = worker.asked.lock().unwrap();
    asked.iter().map(|(at, many)| ((*at - begun).as_millis(), *many)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_full_waits_only_while_others_move() {
    // No time to wait: taken at once.
    assert_eq!(asked(0, 0).await, [(0, 30), (0, 20)]);
    // Nobody moves: the rest waits for a moment of quiet.
    let quiet = asked(1000, 0).await;
    assert_eq!(quiet[0], (0, 30));
    assert!((300..340).contains(&quiet[1].0) && quiet[1].1 == 20, "{quiet:?}");
    // Others move all the time: it waits as long as its worker allows, and no longer.
    let busy = asked(1000, 10).await;
    assert!((1000..1040).contains(&busy[1].0) && busy[1].1 == 20, "{busy:?}");
    // Others stop moving: it waits until they were quiet for that moment.
    let between = asked(1000, 2).await;
    assert!((700..740).contains(&between[1].0) && between[1].1 == 20, "{between:?}");
}
