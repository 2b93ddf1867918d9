//! A database in which another program died within a commit: SQLite takes its half transaction back,
//! and the command goes on.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "a test")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rehome_tests::Judge;
use rehome_tests::{Options, Running, Stage, binary};
use rusqlite::Connection;

fn small(seed: u64) -> Options {
    Options { users: 12, rows: 80, seed, ..Options::default() }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// Leaves a file as a program does that dies within a commit: a part of its transaction is in it, and
/// the journal beside it says what was there before.
fn die_within_a_commit(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = delete; PRAGMA cache_size = 2; BEGIN IMMEDIATE;
             UPDATE counters SET hits = hits + 1; CREATE TABLE junk (x);
             INSERT INTO junk WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
             SELECT zeroblob(3000) FROM n;",
        )
        .unwrap();
    let (half, journal) = (beside(path, "-half"), beside(path, "-half-journal"));
    std::fs::copy(path, &half).unwrap();
    std::fs::copy(beside(path, "-journal"), &journal).unwrap();
    connection.execute_batch("ROLLBACK").unwrap();
    drop(connection);
    std::fs::rename(half, path).unwrap();
    std::fs::rename(journal, beside(path, "-journal")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_goes_on_beside_a_transaction_that_nobody_finished() {
    let stage = Stage::set(small(81)).await;
    let (source, target) = stage.databases().unwrap();
    let _mapped = stage.rehome(&["run", "--yes", "--until", "mapped"]).await.expect(0);
    for path in [&target, &source] {
        for command in ["check", "plan"] {
            die_within_a_commit(path);
            let _goes_on = stage.rehome(&[command]).await.expect(0);
            assert!(!beside(path, "-journal").exists(), "{command} left it");
        }
    }
    die_within_a_commit(&source);
    die_within_a_commit(&target);
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    for command in [vec!["verify"], vec!["rollback", "--dry-run"], vec!["rollback", "--yes"]] {
        die_within_a_commit(&target);
        let _goes_on = stage.rehome(&command).await.expect(0);
    }
    assert_eq!(stage.target().count(), 0);
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_cannot_be_taken_back_that_is_said() {
    let stage = Stage::set(small(82)).await;
    let (source, target) = stage.databases().unwrap();
    Connection::open(&source).unwrap().execute_batch("PRAGMA journal_mode = delete").unwrap();
    die_within_a_commit(&target);
    let permit = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let root = std::fs::metadata(stage.folder()).unwrap().uid() == 0;
    // Whoever it is run as may not be let into the folder where it was built.
    let binary = stage.folder().join("rehome");
    std::fs::copy(binary::path(), &binary).unwrap();
    permit(&binary, 0o755);
    permit(&target, 0o444);
    permit(stage.folder(), 0o555);
    for (command, code) in [("plan", 5), ("check", 4)] {
        let mut command = stage.command_of(&binary, &[command]);
        if root {
            // Nothing is read-only for root.
            command.uid(65534);
        }
        let refused = Running::start(command).finish().await.expect(code);
        for words in ["did not finish", "target.sqlite", "writable"] {
            assert!(refused.everything().contains(words), "{}", refused.everything());
        }
    }
    permit(stage.folder(), 0o755);
    permit(&target, 0o644);
    let _goes_on = stage.rehome(&["check"]).await.expect(0);
}
