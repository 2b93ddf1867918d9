//! How long a batch that is not full waits for more.

use tokio::time::Instant;

use super::scripted::{Scripted, alone, exported};
use super::*;

/// When the worker, who takes thirty at once, was asked about how many of fifty units, while
/// somebody commits every 200 ms.
async fn asked(linger: u64, commits: u32) -> Vec<(u128, usize)> {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 50).await;
    let asked: Arc<Mutex<Vec<(Instant, usize)>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let worker =
        Scripted::new(30).lingering(Duration::from_millis(linger)).preparing(move |units, _| {
            noted.lock().unwrap().push((Instant::now(), units.len()));
            let advance = units.iter().map(|_| Prepared::Advance(Done::default())).collect();
            Box::pin(std::future::ready(Ok(advance)))
        });
    let engine = alone(&journal, worker);
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
    let asked = asked.lock().unwrap();
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
