//! Effects that go together in one request.

use super::scripted::{Scripted, alone, exported};
use super::*;

fn story(journal: &Journal, unit: i64) -> Vec<(i64, String)> {
    let history = journal.reader().unwrap().history(UnitId(unit)).unwrap();
    history.into_iter().map(|entry| (entry.seq, entry.event.as_str().to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_request_with_an_outcome_for_each() {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 5).await;
    let calls: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let heard = Arc::clone(&calls);
    // Of the third the first answer is lost, without a trace.
    let worker = Scripted::new(5).applying_together(move |keys| {
        let mut heard = heard.lock().unwrap();
        heard.push(keys.to_vec());
        let first = heard.len() == 1;
        keys.iter()
            .map(|key| match key.as_str() {
                "thing2" if first => Outcome::Unknown { reason: "lost".into() },
                key => Outcome::Done(done(key)),
            })
            .collect()
    });
    let engine = alone(&journal, worker);
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);

    let all: Vec<_> = (0..5).map(|n| format!("thing{n}")).collect();
    assert_eq!(*calls.lock().unwrap(), [all, vec!["thing2".to_owned()]]);
    assert_eq!(standing(&journal, &THING).moving[&Stage::Created], 5);
    let words: Vec<_> = story(&journal, 3).into_iter().map(|(_, event)| event).collect();
    assert_eq!(words, ["exported", "intended", "unknown", "absent", "intended", "done"]);
    // Every intent stands before every outcome.
    let intended = (1..=5).map(|unit| story(&journal, unit)[1].0).max();
    let answered = (1..=5).map(|unit| story(&journal, unit)[2].0).min();
    assert!(intended < answered, "{intended:?} {answered:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_too_few_ends_the_run_and_leaves_all_to_be_probed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 3).await;
    let forgetful = Scripted::new(3).applying_together(|keys| {
        keys.iter().skip(1).map(|key| Outcome::Done(done(key))).collect()
    });
    let halt = alone(&journal, forgetful).run(&Interrupt::default()).await.unwrap_err();
    assert!(halt.to_string().contains("2 outcomes of 3 effects"), "{halt}");
    let reader = journal.reader().unwrap();
    let open = reader.in_condition(&[Condition::Intended], UnitId(0), 10).unwrap();
    assert_eq!(open.len(), 3);
}
