//! What `plan` says of a migration that has begun: what the next run will do, and nothing else.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "a test")]

use std::path::Path;

use rehome_tests::{Databases, Options, Stage};
use rusqlite::Connection;
use serde_json::{Value, json};

async fn plan(stage: &Stage) -> Value {
    stage.rehome(&["plan", "--json"]).await.expect(0).json()
}

/// One number of every table, added up.
fn sum(plan: &Value, what: &str) -> u64 {
    let tables = plan["tables"].as_object().unwrap().values();
    tables.map(|table| table[what].as_u64().unwrap()).sum()
}

const CHANGES: [&str; 6] = ["insert", "update", "remove", "replace", "conflict", "held"];

/// The numbers of changes, in the order of [`CHANGES`].
fn changes(plan: &Value) -> [u64; 6] {
    CHANGES.map(|what| sum(plan, what))
}

fn write(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

async fn edit(stage: &Stage, id: &str, change: Value) {
    let url = format!("{}/__emulator/users/{id}?instance=source", stage.emulator.clerk_url());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(client.patch(url).json(&change).send().await.unwrap().status().is_success());
}

async fn nothing_is_to_do(stage: &Stage) {
    let plan = plan(stage).await;
    assert_eq!(changes(&plan), [0; 6], "{plan}");
    assert_eq!(sum(&plan, "equal"), sum(&plan, "rows"), "{plan}");
    let users = &plan["users"];
    let left = ["create", "adopt", "skip", "change", "deleted"].map(|what| &users[what]);
    assert_eq!(left, [&json!(0); 5], "{plan}");
    assert_eq!((&users["done"], &users["fail"]), (&users["total"], &json!({})), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_stage_it_says_what_is_left() {
    let stage = Stage::set(Options { users: 40, rows: 300, seed: 91, ..Options::default() }).await;
    let before = plan(&stage).await;
    let rows = sum(&before, "rows");
    assert_eq!(changes(&before), [rows, 0, 0, 0, 0, 0], "{before}");

    let _mapped = stage.rehome(&["run", "--yes", "--until", "mapped"]).await.expect(0);
    let mapped = plan(&stage).await;
    assert_eq!(changes(&mapped), [rows, 0, 0, 0, 0, 0], "{mapped}");
    assert_eq!(mapped["users"]["done"], 40, "{mapped}");

    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    let fresh = plan(&stage).await;
    assert_eq!((changes(&fresh), &fresh["users"]["create"]), (changes(&before), &json!(40)));

    let _pilot = stage.rehome(&["run", "--yes", "--limit", "10"]).await;
    let pilot = plan(&stage).await;
    let arrived = sum(&pilot, "equal");
    assert!(arrived > 0, "{pilot}");
    assert_eq!(changes(&pilot), [rows - arrived, 0, 0, 0, 0, 0], "{pilot}");
    assert_eq!((&pilot["users"]["done"], &pilot["users"]["create"]), (&json!(10), &json!(30)));

    let _complete = stage.run().await.expect(0);
    let effects = stage.effects();
    nothing_is_to_do(&stage).await;
    let shown = stage.rehome(&["plan"]).await.expect(0).stdout;
    assert!(!shown.contains("conflict users") && !shown.contains("cannot be added"), "{shown}");
    assert_eq!(stage.effects(), effects);
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_it_says_what_the_next_run_brings() {
    let stage = Stage::set(Options { users: 40, rows: 300, seed: 92, ..Options::default() }).await;
    stage.configure(|text| {
        text.replace("[records.ids]", "[records]\non_removed = \"delete\"\n\n[records.ids]")
    });
    let _complete = stage.run().await.expect(0);
    let (source, target) = stage.databases().unwrap();
    write(
        &source,
        "UPDATE counters SET hits = hits + 1 WHERE id IN (1, 2, 3);
         DELETE FROM badge_images WHERE rowid IN (SELECT rowid FROM badge_images LIMIT 4);
         INSERT INTO counters (user_id, hits) SELECT user_id, 70007 FROM counters LIMIT 5;",
    );
    write(&target, "UPDATE counters SET hits = -1 WHERE id IN (3, 4);");
    for (id, _) in &stage.people[..2] {
        edit(&stage, id, json!({"first_name": "Renamed"})).await;
    }
    assert!(stage.source().remove_user(&stage.people[39].0));

    let plan = plan(&stage).await;
    assert_eq!(changes(&plan), [5, 2, 4, 0, 1, 0], "{plan}");
    assert_eq!(sum(&plan, "overtaken"), 1, "{plan}");
    let conflicts = &plan["tables"]["counters"]["conflicts"];
    assert!(conflicts.to_string().contains("counters 3 "), "{conflicts}");
    let users = &plan["users"];
    let seen = ["total", "change", "deleted", "create"].map(|what| users[what].as_u64().unwrap());
    assert_eq!(seen, [39, 2, 1, 0], "{plan}");
    let shown = stage.rehome(&["plan"]).await.expect(0).stdout;
    for words in ["update", "remove", "only changed in the target", "were deleted in the source"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }

    let _one_conflict = stage.run().await.expect(3);
    assert_eq!(number(&target, "SELECT count(*) FROM counters WHERE hits = 70007"), 5);
    assert_eq!(number(&target, "SELECT count(*) FROM counters WHERE hits = -1"), 2);
    let after = crate::plan(&stage).await;
    assert_eq!(changes(&after), [0, 0, 0, 0, 1, 0], "{after}");
    stage.replay();
}

fn number(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_nothing_is_left_to_rewrite() {
    let options = Options {
        users: 30,
        rows: 150,
        seed: 93,
        databases: Databases::InPlace,
        ..Options::default()
    };
    let stage = Stage::set(options).await;
    let _complete = stage.run().await.expect(0);
    let plan = plan(&stage).await;
    assert_eq!(sum(&plan, "rewrite"), 0, "{plan}");
}
