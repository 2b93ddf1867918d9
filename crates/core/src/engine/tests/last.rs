//! The last pass: what waits for something that will not come in this run.

use super::scripted::{Scripted, alone, exported};
use super::*;

/// How a run over three things ends, in which passes their worker was asked, and how many are held.
/// He waits for a kind that nobody exports: for ever, or until he is asked for the last time.
async fn run(gives_up: bool) -> (Result<Finish, Halt>, Vec<Pass>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 3).await;
    let asked: Arc<Mutex<Vec<Pass>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let decide = move |pass| match pass {
        Pass::Final if gives_up => Prepared::Hold { waits: vec![], blocks: vec![] },
        Pass::Final | Pass::Patient => Prepared::Wait(WaitFor::Export(PART)),
    };
    let way = Way::Forth { from: Stage::Exported, to: Stage::Imported };
    let hopeful = Scripted::new(20).going(way).preparing(move |units, pass| {
        noted.lock().unwrap().push(pass);
        Box::pin(std::future::ready(Ok(units.iter().map(|_| decide(pass)).collect())))
    });
    let engine = alone(&journal, hopeful);
    let end = engine.run(&Interrupt::default()).await;
    let asked = asked.lock().unwrap().clone();
    let held = standing(&journal, &THING).held.get(&Stage::Exported).copied().unwrap_or(0);
    (end, asked, held)
}

#[tokio::test(start_paused = true)]
async fn who_still_waits_when_nothing_moves_is_asked_once_more_and_held() {
    let (end, asked, held) = run(true).await;
    assert_eq!(end.unwrap(), Finish::Quiescent);
    assert_eq!(asked, [Pass::Patient, Pass::Final]);
    assert_eq!(held, 3);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_waits_even_then_is_a_bug_and_not_an_endless_run() {
    let (end, asked, held) = run(false).await;
    assert!(matches!(end, Err(Halt::Bug(_))), "{end:?}");
    assert_eq!(asked, [Pass::Patient, Pass::Final]);
    assert_eq!(held, 0);
}
