//! A unit whose effect is lost time and again, while all others go well.

use super::*;

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
    let journal = open(&dir);
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
