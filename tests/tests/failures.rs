//! Some are refused: the rest arrives, the run says so, and when the cause is gone they follow.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_emulator::seed::SeedUser;
use rehome_tests::{Judge, Options, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_are_refused_and_follow_when_the_cause_is_gone() {
    let refused = (0..30).map(|n| SeedUser::with_email(format!("someone{n}@blocked.example")));
    let options = Options {
        users: 100,
        rows: 700,
        seed: 51,
        source_people: refused.collect(),
        ..Options::default()
    };
    let stage = Stage::set(options).await;
    let blocked = vec!["@blocked.example".to_owned()];
    stage.target().configure(|settings| settings.refused_addresses = blocked);

    let run = stage.run().await.expect(3);
    assert_eq!(run.events().last().unwrap()["exit"], 3);
    let unmoved: Vec<_> = stage.people[100..].iter().map(|(id, _)| id.clone()).collect();
    let failures = stage.rehome(&["failures", "--json"]).await.expect(0).json();
    let failures = failures.as_array().unwrap();
    let users: Vec<_> = failures
        .iter()
        .filter(|row| {
            row["kind"] == "user"
                && unmoved.contains(&row["source_id"].as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(users.len(), 30, "{failures:?}");
    assert!(users.iter().all(|row| row["code"] == "not_allowed_access"), "{users:?}");
    let status = stage.status().await;
    assert_eq!(status["units"]["user"]["failed"], 30, "{status}");
    assert_eq!(status["complete"], false, "{status}");
    Judge { unmoved, ..Judge::default() }.accepts(&stage).await;

    // Again without a change: no better, and nothing is done twice.
    let effects = stage.effects();
    let _still_refused = stage.run().await.expect(3);
    assert_eq!(stage.effects(), effects);

    stage.target().configure(|settings| settings.refused_addresses.clear());
    let _put_back = stage.rehome(&["retry"]).await.expect(0);
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    assert_eq!(stage.status().await["complete"], true);
    stage.replay();
}
