//! A million rows into the emulated D1, its limits enforced: how many requests that takes.
#![cfg(feature = "slow")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_tests::{Databases, Options, Stage};
use rusqlite::Connection;
use serde_json::Value;

const ROWS: u64 = 1_000_000;
const MEGABYTE: u64 = 1024 * 1024;
const TARGET: &str = "22222222-2222-4222-8222-222222222222";

/// Seven columns, about 138 bytes a row as JSON, one index besides the key.
const READINGS: &str = "CREATE TABLE readings (
        id INTEGER PRIMARY KEY, user_id TEXT REFERENCES users(clerk_id), at TEXT, kind TEXT,
        value REAL, flag INTEGER, note TEXT);
    CREATE INDEX readings_by_user ON readings(user_id);";

fn effects(stage: &Stage) -> Value {
    stage.emulator.d1().unwrap().counters()["databases"][TARGET].take()
}

/// Two D1 databases, the source with a million rows.
async fn set(databases: Databases) -> Stage {
    let options = Options { users: 40, rows: 100, seed: 95, databases, ..Options::default() };
    let stage = Stage::set(options).await;
    let (source, target) = stage.databases().unwrap();
    let source = Connection::open(source).unwrap();
    source.execute_batch(READINGS).unwrap();
    Connection::open(target).unwrap().execute_batch(READINGS).unwrap();
    let made = source.execute(
        "INSERT INTO readings
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         SELECT i, clerk_id, datetime(1700000000 + i, 'unixepoch'), 'kind-' || (i % 90 + 10),
                i / 7.0, i % 2, 'a note of reading ' || (i % 1000)
         FROM n JOIN (SELECT clerk_id, row_number() OVER (ORDER BY clerk_id) - 1 AS k FROM users)
              ON k = i % (SELECT count(*) FROM users)",
        [ROWS],
    );
    assert_eq!(made.unwrap() as u64, ROWS);
    drop(source);
    stage
}

/// Requests to the target's database so far, by the program's own count.
async fn to_the_target(stage: &Stage) -> u64 {
    stage.status().await["requests"]["target_database"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_rows_take_at_most_a_hundred_requests() {
    let stage = set(Databases::D1).await;
    let until = ["run", "--yes", "--json", "--until", "imported"];
    let (imported, peak) = stage.start(&until).finish_measured().await;
    let _there = imported.expect(0);
    let (all, there) = (to_the_target(&stage).await, effects(&stage));
    let written = there["write_requests"].as_u64().unwrap();
    eprintln!(
        "{all} requests to the target, {written} of which wrote, brought {ROWS} rows and the \
         example's; peak {} MB",
        peak / MEGABYTE
    );
    assert_eq!(there["tables"]["readings"]["inserted"], ROWS);
    assert_eq!(there["failed_requests"], 0, "no limit of D1 was met");
    assert!(all <= 100, "{all}");
    assert!(peak < 100 * MEGABYTE, "{} MB", peak / MEGABYTE);

    let (finished, peak) = stage.start(&["run", "--yes", "--json"]).finish_measured().await;
    let _verified = finished.expect(0);
    let more = to_the_target(&stage).await - all;
    let read = &stage.status().await["requests"]["source_database"];
    eprintln!(
        "{more} more read them all again and compared them; {read} went to the source; peak {} MB",
        peak / MEGABYTE
    );
    assert_eq!(effects(&stage)["write_requests"], written, "that only reads");
    assert!(more <= 100, "{more}");
    assert!(peak < 100 * MEGABYTE, "{} MB", peak / MEGABYTE);

    let _back = stage.rehome(&["rollback", "--yes", "-q"]).await.expect(0);
    let all = effects(&stage);
    let back = all["write_requests"].as_u64().unwrap() - written;
    eprintln!("{back} requests took them back");
    assert_eq!(all["tables"]["readings"]["deleted"], ROWS);
    assert!(back <= 120, "{back}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_files_they_take_a_handful() {
    let stage = set(Databases::D1Files).await;
    let arguments = ["run", "--yes", "--json", "--allow-downtime"];
    let (finished, peak) = stage.start(&arguments).finish_measured().await;
    let _complete = finished.expect(0);
    let status = stage.status().await;
    let others = &status["requests"]["target_database"];
    let imports = &stage.emulator.d1().unwrap().counters()["requests"]["import"];
    let there = effects(&stage);
    let written = there["write_requests"].as_u64().unwrap();
    eprintln!(
        "{written} files held {ROWS} rows and the example's; {imports} requests about them, and \
         {others} to the target in all; peak {} MB",
        peak / MEGABYTE
    );
    assert_eq!(there["tables"]["readings"]["inserted"], ROWS);
    assert_eq!(there["failed_requests"], 0, "no limit of D1 was met");
    assert!(written <= 12, "{written}");
    assert!(peak < 150 * MEGABYTE, "{} MB", peak / MEGABYTE);
}
