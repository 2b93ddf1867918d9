//! A unit whose effect is lost time and again, while all others go well.

use super::*;
use crate::journal::Change;
use crate::progress::Progress;

/// Makes things, a second each. Of the first no request ever arrives, nor an answer.
#[derive(Default)]
struct Deaf {
    attempts: Mutex<BTreeMap<String, u32>>,
}

impl Transition for Deaf {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Exported, to: Stage::Created };
        Step { kind: THING, way, batch: 1, concurrency: 1 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        let effect = |_| Prepared::Effect { intent: json!({}), payload: Box::new(()) };
        Box::pin(async move { Ok(units.iter().map(effect).collect()) })
    }

    fn apply<'a>(
        &'a self,
        unit: &'a Unit,
        _: Box<dyn Any + Send + Sync>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            *self.attempts.lock().unwrap().entry(unit.source_key.clone()).or_default() += 1;
            match unit.source_key.as_str() {
                "thing0" => Outcome::Unknown { reason: "connection reset".into() },
                key => Outcome::Done(done(key)),
            }
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move { Ok(units.iter().map(|_| Probed::Absent).collect()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_lost_twelve_times_without_a_trace_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let deaf = Arc::new(Deaf::default());
    let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), Settings::default())
        .source(Arc::new(Things { kind: THING, count: 150 }))
        .transition(Arc::clone(&deaf) as Arc<dyn Transition>);
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let attempts = deaf.attempts.lock().unwrap().clone();
    assert_eq!(attempts["thing0"], 12);
    assert_eq!(attempts.values().sum::<u32>(), 12 + 149);
    let reader = journal.reader().unwrap();
    let failed = reader.failures(Some(Condition::Failed), UnitId(0), 10).unwrap();
    let codes: Vec<_> = failed.into_iter().filter_map(|row| row.failure).map(|f| f.code).collect();
    assert_eq!(codes, ["no_answer"]);
    assert_eq!(standing(&journal, &THING).moving[&Stage::Created], 149);
}

/// How often, and for how long, a run says that it waits for what earlier processes left in doubt.
async fn announced(in_doubt: bool, only_doubts: bool) -> Vec<Option<Duration>> {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let page = Things { kind: THING, count: 2 }.next_page(None).await.unwrap();
    let Page { units, cursor, done, total } = page;
    let page = Change::Page { kind: THING, units, cursor, done, total };
    journal.submit(vec![page, Change::step(UnitId(1), Event::Skipped)]).await.unwrap();
    if in_doubt {
        let lost = [Event::Intended, Event::Unknown].map(|event| Change::step(UnitId(2), event));
        journal.submit(lost.into()).await.unwrap();
    }
    let notes = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&notes);
    let watcher = move |progress: &Progress| {
        if let Progress::Waiting { delay, .. } = progress {
            heard.lock().unwrap().push(*delay);
        }
    };
    let settings = Settings { only_doubts, ..Settings::default() };
    let engine = Engine::new(Arc::clone(&journal), Arc::new(watcher), settings)
        .transition(Arc::new(Deaf::default()));
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let notes = notes.lock().unwrap();
    notes.clone()
}

#[tokio::test(start_paused = true)]
async fn only_a_run_that_does_nothing_else_says_that_it_waits_for_answers() {
    assert_eq!(announced(true, true).await, [Some(Duration::from_secs(5))]);
    assert_eq!(announced(false, true).await, []);
    assert_eq!(announced(true, false).await, []);
}
