//! A source that lives on while the migration runs, and after it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use std::path::Path;

use rehome_tests::{Databases, Judge, Options, Stage};
use rusqlite::Connection;
use serde_json::Value;

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
