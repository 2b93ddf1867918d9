//! An effect of which a probe finds a part.

use std::future::ready;

use super::scripted::{Scripted, alone, exported};
use super::*;

/// The first answer is lost, with half of the effect done; the second half goes well.
fn halves() -> Scripted {
    let attempts = Mutex::new(0);
    let half = || Done { data: Some(json!("half")), ..done("half") };
    Scripted::new(1).probing(move || Probed::Part(half())).applying(move |key| {
        let mut attempts = attempts.lock().unwrap();
        *attempts += 1;
        ready(match *attempts {
            1 => Outcome::Unknown { reason: "connection reset".into() },
            _ => Outcome::Done(done(key)),
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_there_is_recorded_and_the_rest_follows() {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 1).await;
    let engine = alone(&journal, halves());
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let story = journal.reader().unwrap().history(UnitId(1)).unwrap();
    let words: Vec<_> = story.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(words, ["exported", "intended", "unknown", "partly", "intended", "done"]);
    let detail = &story[3].detail;
    assert_eq!(detail.target.as_deref(), Some("t-half"));
    assert_eq!((detail.origin, &detail.data), (Some(Origin::Created), &Some(json!("half"))));
}
