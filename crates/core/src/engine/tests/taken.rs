//! Two units that claim the same counterpart in the target.

use std::future::ready;

use super::scripted::{Scripted, exported};
use super::*;
use crate::progress::Progress;

/// Finds, or makes, the same counterpart for everything.
fn same_for_all(with_an_effect: bool) -> Scripted {
    let worker = Scripted::new(3).applying(|_| ready(Outcome::Done(done("same"))));
    if with_an_effect { worker } else { worker.deciding(|_, _| Prepared::Advance(done("same"))) }
}

#[tokio::test(start_paused = true)]
async fn the_first_has_it_and_the_others_fail_without_ending_the_run() {
    for with_an_effect in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let journal = exported(&dir, 3).await;
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&told);
        let watcher = move |progress: &Progress| {
            if let Progress::Failed { failure, .. } = progress {
                ear.lock().unwrap().push(failure.code.clone());
            }
        };
        let engine = Engine::new(Arc::clone(&journal), Arc::new(watcher), Settings::default())
            .transition(Arc::new(same_for_all(with_an_effect)));
        assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
        assert_eq!(standing(&journal, &THING).moving[&Stage::Created], 1);
        let failed = journal.reader().unwrap().failures(None, UnitId(0), 10).unwrap();
        let codes = failed.into_iter().filter_map(|row| row.failure).map(|f| f.code);
        assert_eq!(codes.collect::<Vec<_>>(), ["target_taken", "target_taken"]);
        assert_eq!(*told.lock().unwrap(), ["target_taken", "target_taken"]);
    }
}
