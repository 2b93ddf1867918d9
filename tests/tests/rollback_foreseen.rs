//! A dry run of a rollback says exactly what the real one does: which accounts stay because rows
//! name them, what goes only because somebody insists, and that a force survives a kill.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::collections::BTreeSet;

use rehome_emulator::FaultPlan;
use rehome_emulator::fault::{Fault, Rule};
use rehome_tests::{Databases, Options, Stage};
use rusqlite::Connection;
use serde_json::{Value, json};

/// A stage on which a run has come to its end, and the accounts that it has created.
async fn moved(databases: Databases, seed: u64) -> (Stage, Vec<String>) {
    let options = Options { users: 60, rows: 300, seed, databases, ..Options::default() };
    let stage = Stage::set(options).await;
    let _complete = stage.run().await.expect(0);
    let accounts = accounts(&stage);
    assert_eq!(accounts.len(), 60);
    (stage, accounts)
}

fn accounts(stage: &Stage) -> Vec<String> {
    stage.target().users().iter().map(|user| user.id.clone()).collect()
}

fn application(stage: &Stage, sql: &str) -> usize {
    let (_, target) = stage.databases().unwrap();
    Connection::open(target).unwrap().execute(sql, []).unwrap()
}

fn rows(stage: &Stage, sql: &str) -> u64 {
    let (_, target) = stage.databases().unwrap();
    Connection::open(target).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

async fn foreseen(stage: &Stage, code: i32) -> Value {
    stage.rehome(&["rollback", "--dry-run", "--json"]).await.expect(code).json()
}

/// The users that a page refuses, and why.
fn refused(plan: &Value) -> BTreeSet<(String, String)> {
    let refusals = plan["refusals"].as_array().unwrap();
    let users = refusals.iter().filter(|refusal| refusal["what"] == "user");
    let words = |value: &Value| value.as_str().unwrap().to_owned();
    users.map(|refusal| (words(&refusal["key"]), words(&refusal["code"]))).collect()
}

/// Users that are stuck, and why.
async fn stuck(stage: &Stage) -> BTreeSet<(String, String)> {
    let failures = stage.rehome(&["failures", "--json"]).await.expect(0).json();
    let words = |value: &Value| value.as_str().unwrap().to_owned();
    let users = failures.as_array().unwrap().iter().filter(|line| line["kind"] == "user");
    users.map(|line| (words(&line["source_id"]), words(&line["code"]))).collect()
}

async fn rows_of_others_are_foreseen(databases: Databases, seed: u64) {
    let (stage, accounts) = moved(databases, seed).await;
    for account in &accounts[..2] {
        // One names the account, the other in a document.
        application(
            &stage,
            &format!(
                "INSERT INTO events (id, payload) VALUES (abs(random()) + 1000000,
                     json_object('actor', json_object('id', '{account}')))"
            ),
        );
    }
    let other = &accounts[2];
    application(&stage, &format!("INSERT INTO badges (id, owner_id) VALUES ('theirs', '{other}')"));
    let plan = foreseen(&stage, 3).await;
    assert_eq!(
        plan["users"]["delete"].as_u64().unwrap() + plan["users"]["refused"].as_u64().unwrap(),
        60
    );
    assert_eq!(plan["users"]["refused"], 3, "{plan}");
    let _stuck = stage.rehome(&["rollback", "--yes"]).await.expect(3);
    assert_eq!(stage.target().count(), 3, "as many as the dry run said");
    assert_eq!(stuck(&stage).await, refused(&plan), "and the same ones");
    assert!(refused(&plan).iter().all(|(_, code)| code == "rows_remain"), "{plan}");
    // Their rows stayed with them, and nobody else's.
    assert_eq!(rows(&stage, "SELECT count(*) FROM users"), 3);
    stage.replay();

    application(&stage, "DELETE FROM events WHERE id >= 1000000");
    application(&stage, "DELETE FROM badges WHERE id = 'theirs'");
    let plan = foreseen(&stage, 0).await;
    assert_eq!((&plan["users"]["delete"], &plan["users"]["refused"]), (&json!(3), &json!(0)));
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!((stage.target().count(), rows(&stage, "SELECT count(*) FROM users")), (0, 0));
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_others_are_foreseen_in_a_file() {
    rows_of_others_are_foreseen(Databases::Sqlite, 171).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_others_are_foreseen_in_d1() {
    rows_of_others_are_foreseen(Databases::D1, 172).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_rows_go_only_when_their_number_is_named() {
    let (stage, accounts) = moved(Databases::Sqlite, 173).await;
    assert!(stage.target().sign_in(&accounts[5]));
    let changed = application(
        &stage,
        "UPDATE badges SET status = 'changed' WHERE id IN (SELECT id FROM badges LIMIT 7)",
    );
    assert_eq!(changed, 7);
    let plan = foreseen(&stage, 3).await;
    assert!(plan["tables"]["badges"]["kept"]["row_changed"].as_u64().unwrap() > 0, "{plan}");
    let named = plan["refusals"].to_string();
    assert!(named.contains("it differs from the source in status"), "{named}");

    // The number of accounts says nothing about rows.
    let page = stage.rehome(&["rollback", "--dry-run", "--force", "1", "--json"]).await.expect(3);
    let page = page.json();
    assert_eq!(
        (&page["users"]["forced"], &page["tables"]["badges"]["forced"]),
        (&json!(1), &json!(0))
    );
    let both = |rows| ["rollback", "--yes", "--force", "1", "--force-rows", rows];
    let wrong = stage.rehome(&both("6")).await.expect(4);
    assert!(wrong.stderr.contains("--force-rows 7"), "{}", wrong.stderr);
    assert_eq!(stage.target().count(), 60, "a wrong number takes nothing back");
    let page = stage.rehome(&["rollback", "--dry-run", "--force", "1", "--force-rows", "7"]).await;
    let page = page.expect(0).stdout;
    assert!(page.contains("7 rows of these were changed since"), "{page}");
    let _back = stage.rehome(&both("7")).await.expect(0);
    let _nothing_left = stage.rehome(&both("7")).await.expect(0);
    assert_eq!((stage.target().count(), rows(&stage, "SELECT count(*) FROM badges")), (0, 0));
    stage.replay();
}

/// A forced rollback that is killed when some accounts have gone; the command, and who is left.
async fn killed_on_the_way(seed: u64) -> (Stage, Vec<String>, Vec<String>) {
    let (stage, accounts) = moved(Databases::Sqlite, seed).await;
    for account in &accounts[..40] {
        assert!(stage.target().sign_in(account));
    }
    let changed = application(&stage, "UPDATE badges SET status = 'changed'").to_string();
    let command = ["rollback", "--yes", "--force", "40", "--force-rows", &changed];
    let command = command.map(str::to_owned).to_vec();
    // The first fifteen go; the others are held by something.
    let held = Fault::Refuse { status: 409, code: "resource_locked".into(), param: None };
    let rules = vec![Rule { skip: 15, ..Rule::always(held).on("DELETE", "*/users/*") }];
    stage.emulator.set_faults(FaultPlan { seed: 1, rules });
    let mut running = stage.start(&words(&command));
    let reached = running.reaches(|| stage.target().count() == 45).await;
    let killed = running.kill().await;
    stage.emulator.clear_faults();
    assert!(reached && killed.code().is_none(), "the kill met it on the way");
    let left = self::accounts(&stage);
    assert_eq!(left.len(), 45);
    let agreed = stage.rehome(&["journal", "log", "--event", "forced", "--json"]).await.expect(0);
    let agreed: Value = serde_json::from_str(agreed.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(agreed["detail"]["users"].as_array().unwrap().len(), 40, "{agreed}");
    (stage, command, left)
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_force_goes_on_with_the_same_command_after_a_kill() {
    let (stage, command, _) = killed_on_the_way(174).await;
    let _back = stage.rehome(&words(&command)).await.expect(0);
    assert_eq!((stage.target().count(), rows(&stage, "SELECT count(*) FROM badges")), (0, 0));
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_force_takes_nobody_who_came_since() {
    let (stage, command, left) = killed_on_the_way(175).await;
    // Somebody whom nobody has agreed to force; all others are left as they were.
    let late = left.last().unwrap();
    let used = |account: &str| {
        stage.target().user(account).is_some_and(|user| user.last_sign_in_at.is_some())
    };
    assert!(!used(late), "the last ones were not signed in to");
    assert!(stage.target().sign_in(late));
    let refused = stage.rehome(&words(&command)).await.expect(4);
    assert!(refused.stderr.contains("1 accounts have been used"), "{}", refused.stderr);
    assert_eq!(accounts(&stage).len(), left.len(), "nobody went");
    // Counted anew, they go.
    let number = left.iter().filter(|account| used(account)).count().to_string();
    let again = ["rollback", "--yes", "--force", &number, "--force-rows", "0"];
    let _back = stage.rehome(&again).await.expect(0);
    assert_eq!(stage.target().count(), 0);
    stage.replay();
}

/// In place, rows that have come under old ids since keep accounts, and the dry run says which.
async fn rows_under_old_ids_are_foreseen(databases: Databases, seed: u64) {
    let (stage, _) = moved(databases, seed).await;
    let come_back: BTreeSet<_> = stage.people[..3].iter().map(|(id, _)| id.clone()).collect();
    for id in &come_back {
        application(&stage, &format!("INSERT INTO users (clerk_id) VALUES ('{id}')"));
    }
    let plan = foreseen(&stage, 3).await;
    assert_eq!((&plan["users"]["delete"], &plan["users"]["refused"]), (&json!(57), &json!(3)));
    let told: BTreeSet<_> = refused(&plan).into_iter().map(|(user, _)| user).collect();
    assert_eq!(told, come_back);
    let rewrite = plan["tables"]["users"]["rewrite"].as_u64().unwrap();
    let _stuck = stage.rehome(&["rollback", "--yes"]).await.expect(3);
    assert_eq!(stage.target().count(), 3, "as many as the dry run said");
    assert_eq!(stuck(&stage).await, refused(&plan), "and the same ones");
    assert_eq!(rewrite, 57);
    for id in &come_back {
        assert_eq!(
            application(&stage, &format!("DELETE FROM users WHERE clerk_id = '{id}'")),
            1,
            "it was left alone"
        );
    }
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!(stage.target().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_under_old_ids_are_foreseen_in_a_file() {
    rows_under_old_ids_are_foreseen(Databases::InPlace, 97).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_under_old_ids_are_foreseen_in_a_d1() {
    rows_under_old_ids_are_foreseen(Databases::InPlaceD1, 98).await;
}
