//! Two units that claim the same counterpart in the target.

use super::*;
use crate::journal::Change;
use crate::progress::Progress;

/// Finds, or makes, the same counterpart for everything.
struct SameForAll {
    with_an_effect: bool,
}

impl Transition for SameForAll {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Exported, to: Stage::Created };
        Step { kind: THING, way, batch: 3, concurrency: 1 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        let decide = |_| match self.with_an_effect {
            true => Prepared::Effect { intent: json!({}), payload: Box::new(()) },
            false => Prepared::Advance(done("same")),
        };
        let decided = units.iter().map(decide).collect();
        Box::pin(async move { Ok(decided) })
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { Outcome::Done(done("same")) })
    }

    fn probe<'a>(&'a self, _: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_has_it_and_the_others_fail_without_ending_the_run() {
    for with_an_effect in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let journal = open_inline(&dir);
        let page = Things { kind: THING, count: 3 }.next_page(None).await.unwrap();
        let Page { units, cursor, done, total } = page;
        let page = Change::Page { kind: THING, units, cursor, done, total };
        journal.submit(vec![page]).await.unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&told);
        let watcher = move |progress: &Progress| {
            if let Progress::Failed { failure, .. } = progress {
                ear.lock().unwrap().push(failure.code.clone());
            }
        };
        let engine = Engine::new(Arc::clone(&journal), Arc::new(watcher), Settings::default())
            .transition(Arc::new(SameForAll { with_an_effect }));
        assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
        assert_eq!(standing(&journal, &THING).moving[&Stage::Created], 1);
        let failed = journal.reader().unwrap().failures(None, UnitId(0), 10).unwrap();
        let codes = failed.into_iter().filter_map(|row| row.failure).map(|f| f.code);
        assert_eq!(codes.collect::<Vec<_>>(), ["target_taken", "target_taken"]);
        assert_eq!(*told.lock().unwrap(), ["target_taken", "target_taken"]);
    }
}
