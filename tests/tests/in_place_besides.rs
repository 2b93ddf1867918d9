//! Ids rewritten in place, together with what else rehome offers: Time Travel as the last resort, a
//! journal that was lost, and a run until nothing moves any more, beside an application at work.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rehome_emulator::Instance;
use rehome_emulator::seed::SeedUser;
use rehome_tests::crash::Snapshot;
use rehome_tests::{Databases, Judge, Options, Stage};
use rusqlite::Connection;
use serde_json::json;

async fn stage(databases: Databases, seed: u64) -> Stage {
    Stage::set(Options { users: 60, rows: 400, seed, databases, ..Options::default() }).await
}

fn snapshot(stage: &Stage) -> Snapshot {
    Snapshot::take(&stage.target(), &stage.databases().unwrap().1)
}

/// The database as its application sees it.
fn application(database: &Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    connection
}

fn number(database: &Path, sql: &str) -> i64 {
    application(database).query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_a_last_resort_the_whole_database_is_restored() {
    let stage = stage(Databases::InPlaceD1, 91).await;
    let before = snapshot(&stage);
    let _complete = stage.run().await.expect(0);
    let target = stage.databases().unwrap().1;
    let since = "INSERT INTO events (id, kind) VALUES (77001, 'since');
         INSERT INTO counters (user_id, note) SELECT clerk_id, 'since' FROM users LIMIT 9;
         UPDATE badges SET status = 'changed since';";
    application(&target).execute_batch(since).unwrap();
    let look = ["rollback", "--dry-run", "--restore-bookmark", "--json"];
    let restore = stage.rehome(&look).await.expect(0).json()["restore"].take();
    assert_eq!(restore["database"], "target-db");
    let bookmark = restore["bookmark"].as_str().unwrap();

    // To `mapped` the accounts stay, and whatever stood in the database is there again.
    let back = ["rollback", "--yes", "--restore-bookmark", bookmark];
    let mapped = [&back[..], &["--to", "mapped"]].concat();
    let _ids_back = stage.rehome(&mapped).await.expect(0);
    stage.replay();
    assert_eq!(stage.target().count(), 60);
    assert_eq!(number(&target, "SELECT count(*) FROM events WHERE kind = 'since'"), 0);
    let status = stage.status().await;
    assert_eq!(status["units"]["lot"]["rolled_back"], 2, "{status}");
    let _all_back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!(snapshot(&stage).differs(&before), None, "everything is as it was");
    stage.replay();

    // And forth again, from a bookmark of its own, then back at once.
    let _complete = stage.run().await.expect(0);
    Judge { uncounted: true, ..Judge::default() }.accepts(&stage).await;
    let _not_that_one_any_more = stage.rehome(&back).await.expect(4);
    let restore = stage.rehome(&look).await.expect(0).json()["restore"].take();
    let bookmark = restore["bookmark"].as_str().unwrap();
    let _back = stage.rehome(&["rollback", "--yes", "--restore-bookmark", bookmark]).await;
    assert_eq!(snapshot(&stage).differs(&before), None, "everything is as it was");
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_no_bookmark_to_go_back_to() {
    let stage = stage(Databases::InPlace, 92).await;
    let _complete = stage.run().await.expect(0);
    let after = snapshot(&stage);
    let _none = stage.rehome(&["rollback", "--yes", "--restore-bookmark"]).await.expect(2);
    assert_eq!(snapshot(&stage).differs(&after), None, "nothing was written");
}

/// What was rewritten under the lost journal is nobody's any more: it stays, with its accounts.
/// What a run rewrites under the new one goes back with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_journal_is_built_anew_and_the_run_goes_on() {
    let stage = stage(Databases::InPlace, 93).await;
    // Lost in the middle: the ids of the first lot are new, those of the second are not.
    let refused: Vec<_> =
        stage.people[50..].iter().filter_map(|(_, address)| address.clone()).collect();
    assert!(refused.len() > 5);
    stage.target().configure(|settings| settings.refused_addresses = refused);
    let _partly = stage.run().await.expect(3);
    let target = stage.databases().unwrap().1;
    let half = snapshot(&stage);
    std::fs::remove_file(stage.journal()).unwrap();
    stage.target().configure(|settings| settings.refused_addresses.clear());

    let since = ["journal", "rebuild", "--yes", "--created-since", "2h"];
    let _their_rows_would_be_left = stage.rehome(&since).await.expect(2);
    let made = stage.rehome(&["journal", "rebuild", "--yes", "--json"]).await.expect(0).json();
    assert_eq!(made["pairs"], stage.target().count() as u64, "{made}");
    assert_eq!(made["created"], 0, "{made}");
    assert_eq!(snapshot(&stage).differs(&half), None, "it only reads");
    // The application has gone on with old ids, beside rows that carry new ones.
    let (id, events) = (&stage.people[3].0, "INSERT INTO events (id, kind, payload) VALUES");
    let late = format!("{events} (77001, 'late', '{{\"actor\":{{\"id\":\"{id}\"}}}}')");
    application(&target).execute_batch(&late).unwrap();
    let of_late = "SELECT count(*) FROM events JOIN users ON clerk_id = payload ->> '$.actor.id'
         WHERE events.id = 77001";
    assert_eq!(number(&target, of_late), 0);
    let before_the_rest = application(&target)
        .query_row(
            "SELECT group_concat(clerk_id) FROM (SELECT clerk_id FROM users ORDER BY rowid)",
            [],
            |row| row.get::<_, String>(0),
        )
        .unwrap();

    let _complete = stage.run().await.expect(0);
    let _verified = stage.rehome(&["verify"]).await.expect(0);
    assert_eq!(stage.creates(), 60, "nobody twice");
    assert_eq!(number(&target, of_late), 1);
    let old: i64 = stage
        .people
        .iter()
        .map(|(id, _)| {
            number(&target, &format!("SELECT count(*) FROM users WHERE clerk_id = '{id}'"))
        })
        .sum();
    assert_eq!(old, 0, "no old id is left");
    stage.replay();

    let _what_is_known = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    let now = application(&target)
        .query_row(
            "SELECT group_concat(clerk_id) FROM (SELECT clerk_id FROM users ORDER BY rowid)",
            [],
            |row| row.get::<_, String>(0),
        )
        .unwrap();
    assert_eq!(now, before_the_rest, "what the lost journal had rewritten stays");
    assert_eq!(number(&target, of_late), 0, "the late row has its old id back");
    stage.replay();
}

/// An application that knows only the old instance: its people sign up, and write rows.
struct Application {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<(String, String)>>,
}

/// What it does over and over; `?1` counts.
const WORK: [&str; 5] = [
    "INSERT INTO counters (user_id, hits, note)
     SELECT clerk_id, ?1, email FROM users ORDER BY rowid LIMIT 1 OFFSET ?1 % 50",
    "INSERT INTO badges (id, owner_id, url)
     SELECT 'late ' || ?1, clerk_id, email FROM users ORDER BY rowid LIMIT 1 OFFSET ?1 % 40",
    "UPDATE badges SET status = 'seen ' || ?1 WHERE rowid = 1 + ?1 % 60",
    "UPDATE users SET plan = 'plan ' || ?1 WHERE rowid = 1 + ?1 % 50",
    "DELETE FROM badge_images WHERE rowid = 1 + ?1 % 40",
];

impl Application {
    fn start(source: Arc<Instance>, database: &Path, people: Vec<(String, String)>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (database, stopped) = (database.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let connection = application(&database);
            let mut new = Vec::new();
            for turn in 0..600_usize {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                connection.execute(WORK[turn % WORK.len()], [turn as i64]).unwrap();
                // Somebody who is signed in with the old instance writes under the old id.
                let (id, address) = &people[turn % people.len()];
                let payload = json!({ "actor": { "id": id }, "of": address }).to_string();
                let event =
                    "INSERT INTO events (id, kind, payload) VALUES (1000000 + ?1, 'late', ?2)";
                connection.execute(event, (turn as i64, payload)).unwrap();
                if turn % 20 == 0 {
                    let address = format!("late{turn}@signup.example");
                    let id = source.insert_seed(SeedUser::with_email(&address)).unwrap();
                    let user = "INSERT INTO users (clerk_id, email) VALUES (?1, ?2)";
                    connection.execute(user, (&id, &address)).unwrap();
                    new.push((id, address));
                }
                // SQLite has no queue of writers: nobody else would be let in.
                std::thread::yield_now();
            }
            new
        });
        Self { stop, thread }
    }

    /// Who has signed up.
    fn end(self) -> Vec<(String, String)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn until_quiet(databases: Databases, seed: u64) {
    let stage = stage(databases, seed).await;
    let target = stage.databases().unwrap().1;
    let with_address =
        |(id, address): &(String, Option<String>)| Some((id.clone(), address.clone()?));
    let mut people: Vec<_> = stage.people.iter().filter_map(with_address).collect();
    let _begun = stage.rehome(&["run", "--yes", "--until", "mapped"]).await.expect(0);
    let application = Application::start(stage.source(), &target, people.clone());
    let _while_written = stage.run().await;
    people.extend(application.end());
    assert!(people.len() > 55, "somebody has signed up");

    let _quiet = stage.rehome(&["run", "--yes", "--until-quiet", "--json"]).await.expect(0);
    let verdict = stage.rehome(&["verify", "--json"]).await.expect(0).json();
    assert_eq!((&verdict["ok"], &verdict["orphan_ids"]), (&json!(true), &json!(0)), "{verdict}");
    assert_eq!(stage.rehome(&["failures", "--json"]).await.expect(0).json(), json!([]));
    stage.replay();
    let effects = stage.effects();
    let _again = stage.rehome(&["run", "--yes", "--until-quiet"]).await.expect(0);
    assert_eq!(stage.effects(), effects, "nothing more to do");

    // Each row that was written meanwhile belongs to whom it says.
    let mut accounts = HashMap::new();
    for user in stage.target().users() {
        for address in &user.email_addresses {
            accounts.insert(address.value.clone(), user.id.clone());
        }
    }
    let connection = Connection::open(&target).unwrap();
    let mut rows = 0;
    for (old, address) in &people {
        let new = &accounts[address];
        let count = |sql: &str| -> i64 {
            connection.query_row(sql, [new, address], |row| row.get(0)).unwrap()
        };
        assert_eq!(count("SELECT count(*) FROM users WHERE clerk_id = ?1 AND email = ?2"), 1);
        assert_eq!(
            count(
                "SELECT count(*) FROM events WHERE kind = 'late' AND payload ->> '$.of' = ?2
                   AND payload ->> '$.actor.id' <> ?1"
            ),
            0
        );
        rows += count(
            "SELECT count(*) FROM events WHERE kind = 'late' AND payload ->> '$.actor.id' = ?1 AND ?2 = ?2",
        );
        for column in ["users.clerk_id", "badges.owner_id", "counters.user_id"] {
            let (table, column) = column.split_once('.').unwrap();
            let sql = format!("SELECT count(*) FROM {table} WHERE {column} = ?1");
            let left: i64 = connection.query_row(&sql, [old], |row| row.get(0)).unwrap();
            assert_eq!(left, 0, "{old} stands in {table}");
        }
    }
    assert_eq!(rows, number(&target, "SELECT count(*) FROM events WHERE kind = 'late'"));
    assert!(rows > 20, "only {rows} rows were written meanwhile");
    for strange in [
        "SELECT count(*) FROM counters JOIN users ON clerk_id = user_id WHERE hits BETWEEN 1 AND 600 AND note <> email AND note LIKE '%@%'",
        "SELECT count(*) FROM badges JOIN users ON clerk_id = owner_id WHERE id LIKE 'late %' AND url <> email",
        "SELECT count(*) FROM pragma_foreign_key_check",
    ] {
        assert_eq!(number(&target, strange), 0, "{strange}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_until_quiet_ends_beside_an_application_at_work_on_a_file() {
    until_quiet(Databases::InPlace, 94).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_until_quiet_ends_beside_an_application_at_work_on_a_d1() {
    until_quiet(Databases::InPlaceD1, 95).await;
}
