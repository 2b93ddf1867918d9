//! A unit whose effect is lost time and again, while all others go well.

use super::scripted::{Scripted, alone, exported};
use super::*;
use crate::journal::Change;
use crate::progress::Progress;

/// Makes things, a second each, and counts. Of the first no request ever arrives, nor an answer.
fn deaf(attempts: Arc<Mutex<BTreeMap<String, u32>>>) -> Scripted {
    Scripted::new(1).applying(move |key| {
        let (attempts, key) = (Arc::clone(&attempts), key.to_owned());
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            *attempts.lock().unwrap().entry(key.clone()).or_default() += 1;
            match key.as_str() {
                "thing0" => Outcome::Unknown { reason: "connection reset".into() },
                key => Outcome::Done(done(key)),
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_lost_twelve_times_without_a_trace_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let attempts: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let engine = alone(&journal, deaf(Arc::clone(&attempts)))
        .source(Arc::new(Things { kind: THING, count: 150 }));
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let attempts = attempts.lock().unwrap().clone();
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
    let journal = exported(&dir, 2).await;
    journal.submit(vec![Change::step(UnitId(1), Event::Skipped)]).await.unwrap();
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
        .transition(Arc::new(deaf(Arc::default())));
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
