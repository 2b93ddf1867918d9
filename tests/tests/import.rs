//! Rows that go to D1 as files, by `/import`: agreed to by name, exact, and as ever after a kill.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_tests::{Databases, Judge, Options, Stage, filter};
use rusqlite::Connection;

fn options(seed: u64) -> Options {
    Options { users: 80, rows: 900, seed, databases: Databases::D1Files, ..Options::default() }
}

fn imports(stage: &Stage) -> u64 {
    let d1 = stage.emulator.d1().unwrap();
    d1.counters()["requests"]["import"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_would_be_unavailable_is_asked_for_by_name() {
    let stage = Stage::set(options(51)).await;
    let plan = stage.rehome(&["plan"]).await.expect(0);
    let announced: Vec<_> = plan.stdout.lines().filter(|line| line.contains("downtime")).collect();
    let effects = stage.effects();
    let refused = stage.rehome(&["run", "--yes", "-q"]).await.expect(4);
    assert_eq!((stage.effects(), stage.creates()), (effects, 0), "nothing was written");
    assert!(!stage.journal().exists(), "nothing was begun");
    filter::settings().bind(|| {
        insta::assert_snapshot!(format!("{}\n\n{}", announced[0], refused.stderr));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_arrive_by_files_and_are_taken_back_one_by_one() {
    let stage = Stage::set(options(52)).await;
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    stage.replay();
    // Announced, taken, asked about: those without parents, then one table after the other.
    assert!((9..=15).contains(&imports(&stage)), "{}", imports(&stage));
    let (effects, before) = (stage.effects(), imports(&stage));
    let _again = stage.run().await.expect(0);
    assert_eq!((stage.effects(), imports(&stage)), (effects, before), "nothing twice");
    // By now the target may be in use: what comes later goes by requests, and nobody is asked.
    let (source, target) = stage.databases().unwrap();
    let late = "INSERT INTO counters (user_id, note) SELECT min(clerk_id), 'late' FROM users";
    Connection::open(source).unwrap().execute_batch(late).unwrap();
    let _caught_up = stage.rehome(&["run", "--yes", "-q"]).await.expect(0);
    Judge { uncounted: true, ..Judge::default() }.accepts(&stage).await;
    assert_eq!(imports(&stage), before, "no file");

    let _back = stage.rehome(&["rollback", "--yes", "-q"]).await.expect(0);
    let count = |table: &str| -> i64 {
        let target = Connection::open(&target).unwrap();
        target.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!(["users", "badges", "badge_images", "events", "counters"].map(count), [0; 5]);
    // What was agreed to ended there.
    let asked = stage.rehome(&["run", "--yes", "-q"]).await.expect(4);
    assert!(asked.stderr.contains("--allow-downtime"), "{}", asked.stderr);
    let _forth = stage.run().await.expect(0);
    Judge { uncounted: true, ..Judge::default() }.accepts(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_with_rows_of_its_own_stays_available() {
    let stage = Stage::set(options(53)).await;
    let (_, target) = stage.databases().unwrap();
    let own = "INSERT INTO counters (id, note) VALUES (99999, 'ours')";
    Connection::open(&target).unwrap().execute_batch(own).unwrap();
    let _complete = stage.rehome(&["run", "--yes", "-q"]).await.expect(0);
    assert_eq!(imports(&stage), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_killed_while_a_file_was_taken_goes_on() {
    let stage = Stage::set(options(54)).await;
    let mut first = stage.start(&["run", "--yes", "--json", "--allow-downtime"]);
    assert!(first.reaches(|| imports(&stage) >= 2).await, "it was done before");
    first.kill().await;
    // The agreement is in the journal.
    let _complete = stage.rehome(&["run", "--yes", "--json"]).await.expect(0);
    Judge::default().accepts(&stage).await;
    stage.replay();
}
