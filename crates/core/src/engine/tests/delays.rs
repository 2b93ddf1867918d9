//! When a request that was never sent goes out again, to the millisecond of virtual time.

use tokio::time::Instant;

use super::*;

/// Makes one thing, after so many busy answers.
struct Busy {
    /// What it is told, in this order, before it is made.
    answers: Vec<Option<Duration>>,
    attempts: Mutex<Vec<Instant>>,
}

impl Transition for Busy {
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
            let mut times = self.attempts.lock().unwrap();
            times.push(Instant::now());
            match self.answers.get(times.len() - 1) {
                Some(retry_after) => Outcome::NotSent {
                    reason: "busy".into(),
                    retry_after: *retry_after,
                    halt: None,
                },
                None => Outcome::Done(done(&unit.source_key)),
            }
        })
    }

    fn probe<'a>(&'a self, _: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// How long a thing waited before each attempt but its first.
async fn waits(answers: Vec<Option<Duration>>) -> Vec<Duration> {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let busy = Arc::new(Busy { answers, attempts: Mutex::default() });
    let settings = Settings { patience: Duration::from_secs(3600), ..Settings::default() };
    let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), settings)
        .source(Arc::new(Things { kind: THING, count: 1 }))
        .transition(Arc::clone(&busy) as Arc<dyn Transition>);
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let attempts = busy.attempts.lock().unwrap();
    attempts.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// The engine looks again within this time.
const SLACK: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn what_the_target_asks_for_is_waited_for() {
    let asked = Duration::from_secs(30);
    let waits = waits(vec![Some(asked)]).await;
    assert!(waits[0] >= asked && waits[0] < asked + SLACK, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn delays_double_up_to_the_cap_and_stay_there() {
    let waits = waits(vec![None; 12]).await;
    assert_eq!(waits.len(), 12);
    for (attempt, wait) in waits.iter().enumerate() {
        let plain = (Duration::from_millis(250) * 2u32.pow(attempt.min(7) as u32))
            .min(Duration::from_secs(20));
        // Jitter adds at most as much again.
        assert!(*wait >= plain && *wait < plain * 2 + SLACK, "attempt {attempt}: {waits:?}");
    }
}
