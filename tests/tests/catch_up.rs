//! A source that lives on while the migration runs, and after it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rehome_emulator::seed::SeedUser;
use rehome_tests::{Databases, Judge, Options, Stage};
use rusqlite::Connection;
use serde_json::{Value, json};

/// What happens in a database, as its application would do it.
fn write(database: &Path, sql: &str) {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// One number out of a database.
fn number(database: &Path, sql: &str) -> i64 {
    let connection = Connection::open(database).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// The events of the last run that say that units go again.
fn reopened(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["event"] == "reopened").count()
}

async fn rows_follow(databases: Databases) {
    let stage = Stage::set(Options { users: 80, rows: 600, databases, ..Options::default() }).await;
    let (source, target) = stage.databases().unwrap();
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;

    // Added behind the last row and in between, changed, and given to another owner.
    write(
        &source,
        "INSERT INTO counters (user_id, note) SELECT clerk_id, 'late' FROM users LIMIT 5;
         INSERT INTO badges (id, owner_id, url) SELECT '0' || rowid, clerk_id, 'late' FROM users LIMIT 5;
         UPDATE badges SET url = url || '?again' WHERE rowid % 7 = 0;
         UPDATE badges SET owner_id = (SELECT min(clerk_id) FROM users) WHERE rowid % 31 = 0;
         UPDATE users SET email = 'changed-' || email WHERE rowid % 9 = 0 AND email IS NOT NULL;",
    );
    let lines = stage.run().await.expect(0).events();
    assert!(reopened(&lines) > 0);
    let end = lines.last().unwrap();
    assert_eq!(end["verdict"]["different"], 0, "{end}");
    Judge::default().accepts(&stage).await;
    stage.replay();

    let before = stage.effects();
    let lines = stage.run().await.expect(0).events();
    assert_eq!((reopened(&lines), stage.effects()), (0, before), "nothing moved, nothing is sent");

    // What goes away there stays here, unless it is asked for.
    write(
        &source,
        "DELETE FROM badge_images WHERE badge_id IN (SELECT id FROM badges WHERE rowid % 5 = 0);
         DELETE FROM badges WHERE rowid % 5 = 0;",
    );
    let (badges, left) = (
        number(&target, "SELECT count(*) FROM badges"),
        number(&source, "SELECT count(*) FROM badges"),
    );
    assert!(left < badges);
    let _same = stage.run().await.expect(0);
    assert_eq!(number(&target, "SELECT count(*) FROM badges"), badges);
    stage.configure(|text| {
        text.replace("[records.ids]", "[records]\non_removed = \"delete\"\n\n[records.ids]")
    });
    let _gone = stage.run().await.expect(0);
    assert_eq!(number(&target, "SELECT count(*) FROM badges"), left);
    Judge::default().accepts(&stage).await;
    stage.replay();

    // And all of it goes back.
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!(
        number(&target, "SELECT (SELECT count(*) FROM badges) + (SELECT count(*) FROM users)"),
        0
    );
    assert_eq!(stage.target().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_changed_follow() {
    rows_follow(Databases::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_changed_follow_through_d1() {
    rows_follow(Databases::D1).await;
}

/// Changes a user as its owner or an administrator would.
async fn edit(stage: &Stage, instance: &str, id: &str, change: Value) {
    let url = format!("{}/__emulator/users/{id}?instance={instance}", stage.emulator.clerk_url());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.patch(url).json(&change).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_who_change_follow() {
    let stage = Stage::set(Options { users: 40, rows: 150, ..Options::default() }).await;
    let _complete = stage.run().await.expect(0);
    let creates = stage.creates();
    let who: Vec<String> = stage.people.iter().take(5).map(|(id, _)| id.clone()).collect();
    edit(
        &stage,
        "source",
        &who[0],
        json!({"first_name": "Renamed", "public_metadata": {"since": 1}}),
    )
    .await;
    edit(&stage, "source", &who[1], json!({"email_address": "one-more@late.example"})).await;
    edit(&stage, "source", &who[2], json!({"banned": true, "private_metadata": {}})).await;
    stage.source().insert_seed(SeedUser::with_email("newcomer@late.example")).unwrap();

    let lines = stage.run().await.expect(0).events();
    assert_eq!(reopened(&lines), 3);
    assert_eq!(stage.creates(), creates + 1, "nobody is created again");
    Judge::default().accepts(&stage).await;
    let before = stage.effects();
    let _again = stage.run().await.expect(0);
    assert_eq!(stage.effects(), before);

    // Both sides changed the same thing: a person decides, and nothing is overwritten.
    let map = stage.rehome(&["map", "--json"]).await.expect(0).json();
    let rows = map.as_array().unwrap();
    let row = rows.iter().find(|row| row["source_id"] == *who[3]).unwrap();
    let account = row["target_id"].as_str().unwrap();
    edit(&stage, "source", &who[3], json!({"first_name": "Ada"})).await;
    edit(&stage, "target", account, json!({"first_name": "Grace"})).await;
    let _unfinished = stage.run().await.expect(3);
    let failures = stage.rehome(&["failures", "--json"]).await.expect(0).json();
    assert_eq!(failures[0]["code"], "changed_on_both_sides", "{failures}");
    assert_eq!(failures.as_array().unwrap().len(), 1);
    edit(&stage, "target", account, json!({"first_name": "Ada"})).await;
    let _retried = stage.rehome(&["retry"]).await.expect(0);
    let _settled = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    stage.replay();

    // Who is deleted there keeps the account here, and nobody waits for anything.
    assert!(stage.source().remove_user(&who[4]));
    let end = stage.run().await.expect(0).events().pop().unwrap();
    assert_eq!((&end["complete"], &end["verdict"]["users"]["extra"]), (&json!(true), &json!(1)));
    let shown = stage.rehome(&["show", &who[4], "--json"]).await.expect(0).json();
    assert_eq!(shown["failure"]["code"], "deleted_in_source", "{shown}");
    let _same = stage.rehome(&["verify"]).await.expect(0);

    // What was brought up to date is still this migration's own.
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!(stage.target().count(), 0);
}

/// Users whom the source deletes, with `users.on_removed = "delete"`: their accounts go where nobody
/// can miss them.
async fn accounts_of_deleted_users_go(databases: Databases) {
    let stage = Stage::set(Options { users: 30, rows: 200, databases, ..Options::default() }).await;
    let (source, target) = stage.databases().unwrap();
    let _complete = stage.run().await.expect(0);
    let map = stage.rehome(&["map", "--json"]).await.expect(0).json();
    let accounts: std::collections::BTreeMap<_, _> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["source_id"].as_str().unwrap(), row["target_id"].as_str().unwrap()))
        .collect();
    let who: Vec<&str> = stage.people.iter().take(3).map(|(id, _)| id.as_str()).collect();
    let [gone, used, named] = who[..] else { panic!() };
    let forget = |id: &str| {
        write(
            &source,
            &format!(
                "DELETE FROM badge_images WHERE badge_id IN (SELECT id FROM badges WHERE owner_id = '{id}');
                 DELETE FROM badges WHERE owner_id = '{id}';
                 DELETE FROM counters WHERE user_id = '{id}';
                 DELETE FROM events WHERE payload LIKE '%{id}%';
                 DELETE FROM users WHERE clerk_id = '{id}';"
            ),
        );
    };
    for id in &who {
        assert!(stage.source().remove_user(id));
    }
    forget(gone);
    forget(used);
    edit(&stage, "target", accounts[used], json!({"first_name": "Somebody"})).await;
    // A row that the target's application has made keeps its account, too.
    write(
        &target,
        &format!("INSERT INTO counters (id, user_id) VALUES (900001, '{}')", accounts[named]),
    );
    let all = stage.target().count();
    stage.configure(|text| {
        let policies =
            "[users]\non_removed = \"delete\"\n\n[records]\non_removed = \"delete\"\n\n[records.ids]";
        text.replace("[records.ids]", policies)
    });
    let plan = stage.rehome(&["plan", "--json"]).await.expect(0).json();
    let users = &plan["users"];
    assert_eq!((&users["deleted"], &users["accounts_go"]), (&json!(3), &json!(true)), "{users}");

    let end = stage.run().await.expect(0).events().pop().unwrap();
    assert_eq!((&end["complete"], &end["verdict"]["users"]["extra"]), (&json!(true), &json!(2)));
    assert_eq!(stage.target().count(), all - 1);
    assert!(stage.target().user(accounts[gone]).is_none());
    let failures =
        stage.rehome(&["failures", "--code", "deleted_in_source", "--json"]).await.expect(0).json();
    let told = |id: &str| {
        let failures = failures.as_array().unwrap();
        let one = failures.iter().find(|one| one["source_id"] == *id).unwrap();
        one["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(told(gone), format!("{gone} was deleted in the source after the export"));
    assert!(told(used).contains("first_name"), "{}", told(used));
    assert!(told(named).contains("mentioned by rows of the target"), "{}", told(named));

    // Nothing has changed since: nothing is sent, nothing journaled anew.
    let effects = stage.effects();
    let log = stage.rehome(&["journal", "log", "--event", "skipped", "--json"]).await.expect(0);
    let _same = stage.run().await.expect(0);
    let again = stage.rehome(&["journal", "log", "--event", "skipped", "--json"]).await.expect(0);
    assert_eq!((stage.effects(), log.stdout), (effects, again.stdout));

    // What kept one of them is gone.
    forget(named);
    write(&target, "DELETE FROM counters WHERE id = 900001");
    let _followed = stage.rehome(&["run", "--until-quiet", "--json"]).await.expect(0);
    assert_eq!(stage.target().count(), all - 2);
    let _same = stage.rehome(&["verify"]).await.expect(0);
    stage.replay();

    // The way back and forth again brings nobody who has left.
    let _back = stage.rehome(&["rollback", "--yes", "--force", "1"]).await.expect(0);
    assert_eq!(stage.target().count(), 0);
    let _forth = stage.run().await.expect(0);
    assert_eq!(stage.target().count(), all - 3);
    Judge { uncounted: true, ..Judge::default() }.accepts(&stage).await;
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_of_users_who_were_deleted_go() {
    accounts_of_deleted_users_go(Databases::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_of_users_who_were_deleted_go_over_d1() {
    accounts_of_deleted_users_go(Databases::D1).await;
}

/// An application at work on both sides while a run goes on: it adds, changes and removes rows of
/// the source, and rows of its own in the target.
struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<u64>>,
}

impl Writers {
    fn start(source: &Path, target: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spawn = |path: &Path, statements: &'static [&'static str]| {
            let (path, stop) = (path.to_owned(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let connection = Connection::open(path).unwrap();
                connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
                let mut done = 0;
                for number in 0..400_u64 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let sql = statements[number as usize % statements.len()];
                    let rows = connection.execute(sql, [number as i64]).unwrap();
                    done += rows as u64;
                    // Nobody else can be let in otherwise: SQLite has no queue of writers.
                    std::thread::yield_now();
                }
                done
            })
        };
        let threads = vec![
            spawn(
                source,
                &[
                    "INSERT INTO counters (user_id, hits) SELECT clerk_id, ?1 FROM users ORDER BY clerk_id LIMIT 1 OFFSET ?1 % 50",
                    "UPDATE badges SET status = 'seen ' || ?1 WHERE rowid = 1 + ?1 % 60",
                    "DELETE FROM badge_images WHERE rowid = 1 + ?1 % 40",
                    "UPDATE users SET plan = 'plan ' || ?1 WHERE rowid = 1 + ?1 % 50",
                ],
            ),
            spawn(
                target,
                &[
                    "INSERT INTO events (id, kind, payload) VALUES (1000000 + ?1, 'own', NULL)",
                    "UPDATE events SET kind = 'own ' || ?1 WHERE id = 1000000 + ?1 - 1",
                    "DELETE FROM events WHERE id = 1000000 + ?1 - 4",
                ],
            ),
        ];
        Self { stop, threads }
    }

    /// Rows that each has written.
    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_until_quiet_ends_with_everything_there() {
    let stage = Stage::set(Options { users: 60, rows: 500, ..Options::default() }).await;
    let (source, target) = stage.databases().unwrap();
    stage.configure(|text| {
        text.replace("[records.ids]", "[records]\non_removed = \"delete\"\n\n[records.ids]")
    });
    let _begun = stage.rehome(&["run", "--yes", "--until", "mapped"]).await.expect(0);
    let writers = Writers::start(&source, &target);
    let _while_written = stage.run().await;
    let written = writers.end();
    assert!(written.iter().all(|rows| *rows > 50), "{written:?}");

    let lines = stage.rehome(&["run", "--until-quiet", "--json"]).await.expect(0).events();
    let verdict = &lines.last().unwrap()["verdict"];
    assert_eq!((&verdict["different"], &verdict["missing"]), (&json!(0), &json!(0)), "{verdict}");
    let _same = stage.rehome(&["verify"]).await.expect(0);
    let failures = stage.rehome(&["failures", "--json"]).await.expect(0).json();
    assert_eq!(failures, json!([]), "nobody has changed what the other had");
    // The judge knows nothing of rows that the target's application has added itself.
    write(&target, "DELETE FROM events WHERE id >= 1000000");
    Judge::default().accepts(&stage).await;
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_rows_that_both_sides_changed_are_conflicts() {
    let stage = Stage::set(Options { users: 30, rows: 300, ..Options::default() }).await;
    let (source, target) = stage.databases().unwrap();
    let _complete = stage.run().await.expect(0);
    write(
        &source,
        "UPDATE counters SET hits = 1 WHERE id IN (1, 2); UPDATE badges SET url = 'there' WHERE rowid = 3;",
    );
    write(
        &target,
        "UPDATE counters SET hits = 2 WHERE id IN (2, 3); DELETE FROM badge_images WHERE rowid = 1;",
    );
    let end =
        stage.rehome(&["run", "--until-quiet", "--json"]).await.expect(3).events().pop().unwrap();
    let failures = stage.rehome(&["failures", "--json"]).await.expect(0).json();
    let codes: Vec<_> = failures.as_array().unwrap().iter().map(|one| &one["code"]).collect();
    assert_eq!(codes, ["changed_on_both_sides"], "{failures}");
    assert!(failures[0]["message"].as_str().unwrap().contains("counters 2 "), "{failures}");
    assert_eq!(end["verdict"]["tables"]["badge_images"]["overtaken"], 1, "{end}");
    assert_eq!(number(&target, "SELECT hits FROM counters WHERE id = 1"), 1);
    assert_eq!(
        number(&target, "SELECT hits FROM counters WHERE id = 2"),
        2,
        "nothing is overwritten"
    );
    assert_eq!(number(&target, "SELECT hits FROM counters WHERE id = 3"), 2);
    assert_eq!(number(&target, "SELECT count(*) FROM badges WHERE url = 'there'"), 1);
    stage.replay();
}
