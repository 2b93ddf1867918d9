//! The whole job: users and rows from one side to the other, judged from outside, and a second run
//! that finds nothing to do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_tests::{Databases, Judge, Options, Stage};
use serde_json::json;

/// From here on, look-ups are a small part of the requests; a few users need as many as hundreds.
const MANY: usize = 3_000;

async fn whole(options: Options) {
    let users = options.users;
    let stage = Stage::set(options).await;
    let _read_only = stage.rehome(&["check"]).await.expect(0);
    let _read_only = stage.rehome(&["plan"]).await.expect(0);
    assert_eq!(stage.creates(), 0, "check and plan change nothing");

    let before = stage.target().counters().total();
    let first = stage.run().await.expect(0);
    let requests = stage.target().counters().total() - before;
    if users >= MANY {
        assert!(requests as f64 <= users as f64 * 1.05, "{requests} requests for {users} users");
    }
    let events = first.events();
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["exit"]), (&json!("finished"), &json!(0)), "{last}");
    Judge::default().accepts(&stage).await;
    stage.replay();

    let status = stage.status().await;
    assert_eq!(status["complete"], true, "{status}");
    assert_eq!(status["units"]["user"]["verified"], users, "{status}");
    assert_eq!(status["units"]["user"]["total"], users, "{status}");
    assert_eq!(status["mapping"]["user"], users, "{status}");

    // What rehome says of the pairs is what the target shows.
    let map = stage.rehome(&["map", "--format", "csv"]).await.expect(0).stdout;
    let mut lines = map.lines();
    assert_eq!(lines.next(), Some("kind,source_id,target_id,origin,email"));
    let mut pairs = 0;
    for line in lines {
        let mut fields = line.split(',');
        let (kind, old, new) = (fields.next(), fields.next().unwrap(), fields.next().unwrap());
        assert_eq!((kind, fields.next()), (Some("user"), Some("created")), "{line}");
        let source = stage.source().user(old).unwrap();
        let target = stage.target().user(new).unwrap();
        assert_eq!(
            (&source.first_name, source.created_at),
            (&target.first_name, target.created_at)
        );
        pairs += 1;
    }
    assert_eq!(pairs, users);

    let effects = stage.effects();
    let _nothing_left = stage.run().await.expect(0);
    assert_eq!(stage.effects(), effects, "a second run changes nothing");
    let verified = stage.rehome(&["verify", "--json"]).await.expect(0).json();
    assert_eq!(verified["ok"], true, "{verified}");
    assert_eq!(verified["orphan_ids"], 0, "{verified}");
    assert_eq!(stage.effects(), effects, "verify changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_users_between_files() {
    whole(Options::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_users_between_databases_of_d1() {
    whole(Options {
        users: 100,
        rows: 600,
        seed: 2,
        databases: Databases::D1,
        ..Options::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_clerk() {
    whole(Options { users: 60, seed: 3, databases: Databases::None, ..Options::default() }).await;
}

#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_five_hundred_users_with_twenty_thousand_rows() {
    whole(Options { users: 3_500, rows: 20_000, seed: 4, ..Options::default() }).await;
}

#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_five_hundred_users_between_databases_of_d1() {
    whole(Options {
        users: 3_500,
        rows: 20_000,
        seed: 5,
        databases: Databases::D1,
        ..Options::default()
    })
    .await;
}
