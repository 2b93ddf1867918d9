//! When a request that was never sent goes out again, to the millisecond of virtual time.

use tokio::time::Instant;

use super::scripted::{Scripted, exported};
use super::*;

/// How long a thing waited before each attempt but its first, when it is answered so before it is
/// made.
async fn waits(answers: Vec<Option<Duration>>) -> Vec<Duration> {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 1).await;
    let attempts: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let times = Arc::clone(&attempts);
    let busy = Scripted::new(1).applying(move |key| {
        let mut times = times.lock().unwrap();
        times.push(Instant::now());
        std::future::ready(match answers.get(times.len() - 1) {
            Some(retry_after) => {
                Outcome::NotSent { reason: "busy".into(), retry_after: *retry_after, halt: None }
            }
            None => Outcome::Done(done(key)),
        })
    });
    let settings = Settings { patience: Duration::from_secs(3600), ..Settings::default() };
    let engine =
        Engine::new(Arc::clone(&journal), Arc::new(Unwatched), settings).transition(Arc::new(busy));
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let attempts = attempts.lock().unwrap();
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
