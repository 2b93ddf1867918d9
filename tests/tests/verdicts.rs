//! What a run and a verification say of differences that are nobody's fault, and where they send
//! people to look.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "a test")]

use std::path::Path;

use rehome_emulator::seed::SeedUser;
use rehome_tests::{Judge, Options, Stage};
use rusqlite::Connection;
use serde_json::{Value, json};

fn small(seed: u64) -> Options {
    Options { users: 20, rows: 120, seed, ..Options::default() }
}

fn write(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

async fn failures(stage: &Stage) -> Value {
    stage.rehome(&["failures", "--json"]).await.expect(0).json()
}

/// A cut-over asks for a verification that finds nothing: somebody who was taken out on purpose is
/// nothing to find.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_taken_out_is_left_out_and_no_fault() {
    let refused = SeedUser::with_email("bot@blocked.example".to_owned());
    let stage = Stage::set(Options { source_people: vec![refused], ..small(101) }).await;
    let blocked = vec!["@blocked.example".to_owned()];
    stage.target().configure(|settings| settings.refused_addresses = blocked);
    let _refused = stage.run().await.expect(3);
    let skip = ["skip", "bot@blocked.example", "--reason", "a bot"];
    let _taken_out = stage.rehome(&skip).await.expect(0);

    let end = stage.run().await.expect(0).events().pop().unwrap();
    assert_eq!((&end["complete"], &end["verdict"]["ok"]), (&json!(true), &json!(true)), "{end}");
    let verdict = stage.rehome(&["verify", "--json"]).await.expect(0).json();
    let users = &verdict["users"];
    let seen = ["equal", "unchecked", "skipped"].map(|what| users[what].as_u64().unwrap());
    assert_eq!(seen, [20, 0, 1], "{verdict}");
    assert_eq!(verdict["unchecked"], 0, "{verdict}");
    let shown = stage.rehome(&["verify"]).await.expect(0).stdout;
    assert!(shown.contains("1 users of the source were taken out"), "{shown}");
    assert!(shown.contains("both sides are the same"), "{shown}");
    let unmoved = vec![stage.people[20].0.clone()];
    Judge { unmoved, ..Judge::default() }.accepts(&stage).await;
    stage.replay();

    // Taken in again, the user counts as before.
    stage.target().configure(|settings| settings.refused_addresses.clear());
    let _taken_in = stage.rehome(&["retry", "bot@blocked.example"]).await.expect(0);
    let waits = stage.rehome(&["verify", "--json"]).await.expect(3).json();
    assert_eq!((&waits["users"]["unchecked"], &waits["users"]["skipped"]), (&json!(1), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_target_has_changed_is_said_to_be_that() {
    let stage = Stage::set(small(102)).await;
    let _complete = stage.run().await.expect(0);
    let (_, target) = stage.databases().unwrap();
    write(
        &target,
        "UPDATE counters SET hits = -1 WHERE id IN (1, 2);
         DELETE FROM badge_images WHERE rowid = (SELECT min(rowid) FROM badge_images);",
    );
    let run = stage.rehome(&["run", "--yes"]).await.expect(0);
    let theirs = "3 were changed in the target alone since a run verified them, and stay so";
    assert!(run.stdout.contains(theirs), "{}", run.stdout);
    let same = "both sides are the same, but for what only the target has changed";
    assert!(run.stdout.contains(same), "{}", run.stdout);

    let verify = ["verify", "--combined", "lines.txt"];
    let verified = stage.rehome(&verify).await.expect(3).stdout;
    assert!(
        verified.contains("3 of these differences were made in the target alone"),
        "{verified}"
    );
    let lines = std::fs::read_to_string(stage.folder().join("lines.txt")).unwrap();
    let said = "only the target has changed it since a run verified it";
    assert_eq!(lines.lines().filter(|line| line.contains(said)).count(), 3, "{lines}");
    let verdict = stage.rehome(&["verify", "--json"]).await.expect(3).json();
    let numbers = ["different", "missing", "overtaken", "of_the_target"];
    let seen = numbers.map(|what| verdict[what].as_u64().unwrap());
    assert_eq!(seen, [2, 1, 0, 3], "to it they are differences as before: {verdict}");

    // What both have changed is not the target's alone.
    let (source, _) = stage.databases().unwrap();
    write(&source, "UPDATE counters SET hits = -2 WHERE id = 1");
    let verdict = stage.rehome(&["verify", "--json"]).await.expect(3).json();
    assert_eq!((&verdict["different"], &verdict["of_the_target"]), (&json!(2), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_step_leads_to_what_shows_the_difference() {
    let stage = Stage::set(small(103)).await;
    let _complete = stage.run().await.expect(0);
    let (_, target) = stage.databases().unwrap();
    let old = &stage.people[0].0;
    write(
        &target,
        &format!("INSERT INTO events (id, kind, payload) VALUES (900001, 'own', 'of {old}')"),
    );
    let run = stage.rehome(&["run", "--yes"]).await.expect(3);
    assert_eq!(failures(&stage).await, json!([]));
    assert!(run.stderr.contains("verify --combined"), "{}", run.stderr);
    let verify = ["verify", "--combined", "differences.txt"];
    let _differs = stage.rehome(&verify).await.expect(3);
    let lines = std::fs::read_to_string(stage.folder().join("differences.txt")).unwrap();
    let line = format!("* events 900001: payload still holds the source id {old}");
    assert!(lines.lines().any(|one| one == line), "{lines}");
}

/// A user waits for a row that waits for somebody unknown. What the source has made of both is
/// brought by one run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_changes_while_they_wait_is_brought_up_to_date_by_the_run_that_ends_the_wait() {
    let stage = Stage::set(small(104)).await;
    stage.configure(|text| text + "\"events.payload:$.about.id\" = \"user\"\n");
    let (source, _) = stage.databases().unwrap();
    let who = stage.people[0].0.clone();
    let ghost = "user_2ghostghostghostghostghost";
    let payload = json!({"actor": {"id": who}, "about": {"id": ghost}});
    write(
        &source,
        &format!("INSERT INTO events (id, kind, payload) VALUES (900001, 'k', '{payload}')"),
    );
    let _waits = stage.run().await.expect(3);
    let status = stage.status().await;
    assert_eq!(status["units"]["user"]["held"], 1, "{status}");

    write(&source, "UPDATE events SET payload = json_remove(payload, '$.about') WHERE id = 900001");
    let url = format!("{}/__emulator/users/{who}?instance=source", stage.emulator.clerk_url());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let change = client.patch(url).json(&json!({"first_name": "Renamed"})).send();
    assert!(change.await.unwrap().status().is_success());
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    stage.replay();
}
