//! What is still under way when a run is asked to stop.

use super::*;
use crate::journal::Change;

/// Takes a second for an effect, and then learns that its key is not valid any more.
#[derive(Default)]
struct LockedOut {
    attempts: Mutex<u32>,
}

impl Transition for LockedOut {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Exported, to: Stage::Created };
        Step { kind: THING, way, batch: 3, concurrency: 1 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        let effect = |_| Prepared::Effect { intent: json!({}), payload: Box::new(()) };
        Box::pin(async move { Ok(units.iter().map(effect).collect()) })
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            *self.attempts.lock().unwrap() += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let halt = Halt::Remote {
                remote: "target".into(),
                trouble: RemoteTrouble::Authentication,
                message: "the key was refused".into(),
                hint: String::new(),
            };
            Outcome::NotSent { reason: "401".into(), retry_after: None, halt: Some(halt) }
        })
    }

    fn probe<'a>(&'a self, _: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// How a run over three things ends that is interrupted after a while, and after how many requests.
async fn run(interrupted_after: Duration) -> (Result<Finish, Halt>, u32) {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let page = Things { kind: THING, count: 3 }.next_page(None).await.unwrap();
    let Page { units, cursor, done, total } = page;
    let page = Change::Page { kind: THING, units, cursor, done, total };
    journal.submit(vec![page]).await.unwrap();
    let locked_out = Arc::new(LockedOut::default());
    let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), Settings::default())
        .transition(Arc::clone(&locked_out) as Arc<dyn Transition>);
    let interrupt = Interrupt::default();
    let stop = async {
        tokio::time::sleep(interrupted_after).await;
        interrupt.throw();
    };
    let (end, ()) = tokio::join!(engine.run(&interrupt), stop);
    assert_eq!(standing(&journal, &THING).moving[&Stage::Exported], 3, "nothing is in doubt");
    let attempts = *locked_out.attempts.lock().unwrap();
    (end, attempts)
}

#[tokio::test(start_paused = true)]
async fn a_reason_to_stop_is_told_even_after_the_interrupt_and_no_request_follows_it() {
    for interrupted_after in [Duration::from_millis(500), Duration::from_secs(60)] {
        let (end, attempts) = run(interrupted_after).await;
        let Err(halt) = end else { panic!("{end:?}") };
        assert!(halt.to_string().contains("the key was refused"), "{halt}");
        assert_eq!(attempts, 1);
    }
}
