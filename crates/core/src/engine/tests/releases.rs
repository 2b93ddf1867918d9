//! When held units, and those that went back, are taken up again; and what those who watch are
//! told of it.

use super::scripted::{Scripted, exported};
use super::*;
use crate::journal::Change;
use crate::progress::Progress;

const NONE: [u64; 0] = [];

/// Three things: one waits for any effect in a scope, one for the last to be made, which nothing
/// keeps from going.
async fn journal(dir: &tempfile::TempDir) -> Arc<Journal> {
    let journal = exported(dir, 3).await;
    let wait = |key: Option<&str>, scope: Option<&str>| Wait {
        code: "waits".into(),
        kind: THING,
        key: key.map(str::to_owned),
        scope: scope.map(str::to_owned),
        stage: Stage::Created,
        parts: 1,
        example: None,
    };
    let held = [(1, wait(None, Some("a scope"))), (2, wait(Some("thing2"), None))];
    let held = held.map(|(unit, wait)| Change::hold(UnitId(unit), vec![wait], Vec::new()));
    journal.submit(held.into()).await.unwrap();
    journal
}

/// Runs a worker over them, and gives how many units it said were released, each time.
async fn released(journal: &Arc<Journal>, worker: Scripted, only_doubts: bool) -> Vec<u64> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&told);
    let watcher = move |progress: &Progress| {
        if let Progress::Released { units } = progress {
            ear.lock().unwrap().push(*units);
        }
    };
    let settings = Settings { only_doubts, ..Settings::default() };
    let engine =
        Engine::new(Arc::clone(journal), Arc::new(watcher), settings).transition(Arc::new(worker));
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let told = told.lock().unwrap();
    told.clone()
}

fn back() -> Scripted {
    let back = Way::Back { to: Stage::Exported, scope: None };
    Scripted::new(3).going(back).deciding(|_, _| Prepared::Advance(Done::default()))
}

#[tokio::test(start_paused = true)]
async fn held_units_are_released_at_the_start_and_when_what_they_wait_for_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(&dir).await;
    // The first at once, to look whether the effect has come; the second after the third is made.
    assert_eq!(released(&journal, Scripted::new(3), false).await, [1, 1]);
    assert_eq!(standing(&journal, &THING).moving[&Stage::Created], 3);
    assert_eq!(released(&journal, Scripted::new(3), false).await, NONE, "there is none any more");
}

#[tokio::test(start_paused = true)]
async fn only_a_run_that_moves_units_forth_takes_up_what_was_held_or_went_back() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(&dir).await;
    assert_eq!(released(&journal, Scripted::new(3), true).await, NONE);
    assert_eq!(released(&journal, back(), false).await, NONE);
    assert_eq!(standing(&journal, &THING).held[&Stage::Exported], 2);

    assert_eq!(released(&journal, Scripted::new(3), false).await, [1, 1]);
    for _ in 0..2 {
        assert_eq!(released(&journal, back(), false).await, NONE);
        assert_eq!(standing(&journal, &THING).rolled_back, 3, "they stay there");
    }
    assert_eq!(released(&journal, Scripted::new(3), false).await, [3]);
    assert_eq!(standing(&journal, &THING).moving[&Stage::Created], 3);
}
