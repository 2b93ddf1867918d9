//! An effect of which a probe finds a part.

use super::*;
use crate::journal::Change;

/// Its first answer is lost, with half of the effect done; the second half goes well.
#[derive(Default)]
struct Halves {
    attempts: Mutex<u32>,
}

impl Transition for Halves {
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
            let mut attempts = self.attempts.lock().unwrap();
            *attempts += 1;
            match *attempts {
                1 => Outcome::Unknown { reason: "connection reset".into() },
                _ => Outcome::Done(done(&unit.source_key)),
            }
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        let half = || Done { data: Some(json!("half")), ..done("half") };
        Box::pin(async move { Ok(units.iter().map(|_| Probed::Part(half())).collect()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_there_is_recorded_and_the_rest_follows() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let page = Things { kind: THING, count: 1 }.next_page(None).await.unwrap();
    let Page { units, cursor, done, total } = page;
    let page = Change::Page { kind: THING, units, cursor, done, total };
    journal.submit(vec![page]).await.unwrap();
    let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), Settings::default())
        .transition(Arc::new(Halves::default()));
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let story = journal.reader().unwrap().history(UnitId(1)).unwrap();
    let words: Vec<_> = story.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(words, ["exported", "intended", "unknown", "partly", "intended", "done"]);
    let detail = &story[3].detail;
    assert_eq!(detail.target.as_deref(), Some("t-half"));
    assert_eq!((detail.origin, &detail.data), (Some(Origin::Created), &Some(json!("half"))));
}
