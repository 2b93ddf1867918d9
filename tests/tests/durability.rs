//! An acknowledged commit is on the disk: seen from below, by a shim that tells the process's
//! writes and syncs in their order (`shim/syncs.c`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

use rehome_tests::{Databases, Options, Running, Stage};

/// What the shim tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// A frame of the write-ahead log was begun.
    Begun,
    /// The frame that ends a transaction was begun.
    Committed,
    /// A frame's page was written.
    Page,
    /// The write-ahead log was synced.
    Synced,
    /// Entries up to this one were acknowledged.
    Acknowledged(i64),
}

/// Builds the shim. Whoever can build this workspace has a C compiler: SQLite is built with one.
fn shim(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/syncs.c");
    let built = folder.join("syncs.so");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&built)
        .arg(source)
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(status.success(), "the shim does not build");
    built
}

fn acts(log: &Path) -> Vec<Act> {
    let act = |line: &str| match line.split_once(' ') {
        None if line == "w" => Act::Begun,
        None if line == "c" => Act::Committed,
        None if line == "p" => Act::Page,
        None if line == "s" => Act::Synced,
        Some(("a", number)) => Act::Acknowledged(number.parse().unwrap()),
        _ => panic!("{line:?}"),
    };
    std::fs::read_to_string(log).unwrap().lines().map(act).collect()
}

/// What `commits` does, as the shim sees it.
fn commits(mode: &str, count: u32) -> Vec<Act> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let status = Command::new(env!("CARGO_BIN_EXE_commits"))
        .args([mode, &folder.path().join("some.journal").display().to_string(), &count.to_string()])
        .env("LD_PRELOAD", shim(folder.path()))
        .env("SYNCS_LOG", &log)
        .status()
        .unwrap();
    assert!(status.success());
    acts(&log)
}

/// What was counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Tally {
    /// Transactions that were written to the write-ahead log.
    committed: u32,
    /// Syncs of that log that the system said were done.
    synced: u32,
    /// Acknowledgements.
    acknowledged: u32,
    /// Acknowledgements without a transaction and its sync since the one before. Where commits
    /// wait for each other, these came too early.
    early: u32,
    /// Transactions that were not synced before the next was begun, or at all.
    unsynced: u32,
}

fn tally(acts: &[Act]) -> Tally {
    let mut tally = Tally::default();
    // A transaction stands in the log and was not synced.
    let mut open = false;
    // Something was committed and synced since the last acknowledgement.
    let mut covered = false;
    for act in acts {
        match act {
            Act::Page => {}
            Act::Begun | Act::Committed => {
                tally.unsynced += u32::from(open);
                open = *act == Act::Committed;
                tally.committed += u32::from(open);
            }
            Act::Synced => {
                tally.synced += 1;
                covered |= open;
                open = false;
            }
            Act::Acknowledged(_) => {
                tally.acknowledged += 1;
                tally.early += u32::from(open || !covered);
                covered = false;
            }
        }
    }
    tally.unsynced += u32::from(open);
    tally
}

#[test]
fn each_commit_is_synced_before_it_is_acknowledged() {
    let tally = tally(&commits("journal", 200));
    eprintln!("journal, 200 commits one after the other: {tally:?}");
    assert_eq!((tally.acknowledged, tally.early, tally.unsynced), (200, 0, 0), "{tally:?}");
    assert!(tally.synced >= tally.acknowledged, "{tally:?}");
    // The owner's row, in and out again, is committed too, and nothing else.
    assert_eq!(tally.committed, tally.acknowledged + 2, "{tally:?}");
}

/// The same count, over a process that has `synchronous = NORMAL`: each of its acknowledgements
/// comes too early, and its transactions follow each other without a sync. Only the last one, which
/// closing the file folds in, is synced.
#[test]
fn a_journal_that_does_not_sync_would_be_caught() {
    let tally = tally(&commits("careless", 50));
    eprintln!("synchronous = NORMAL, 50 commits: {tally:?}");
    assert_eq!((tally.acknowledged, tally.committed), (50, 51), "{tally:?}");
    assert_eq!((tally.early, tally.unsynced), (50, 50), "{tally:?}");
    assert!(tally.synced < tally.acknowledged, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_run_syncs_every_transaction() {
    let options = Options { users: 60, seed: 91, databases: Databases::None, ..Options::default() };
    let stage = Stage::set(options).await;
    let shim = shim(stage.folder());
    let log = stage.folder().join("syncs.log");
    let mut command = stage.command(&["run", "--yes", "--json"]);
    command.env("LD_PRELOAD", shim).env("SYNCS_LOG", &log);
    let _complete = Running::start(command).finish().await.expect(0);
    let acts = acts(&log);
    // Commits are grouped here and told of by another thread, so an acknowledgement may stand
    // after a frame of the next group: what counts is that no transaction follows an unsynced one.
    let tally = tally(&acts);
    eprintln!("a whole run: {tally:?}");
    assert_eq!(tally.unsynced, 0, "{tally:?}");
    assert!(tally.acknowledged > 60 && tally.synced >= tally.committed, "{tally:?}");
    let last = acts.iter().rev().find_map(|act| match act {
        Act::Acknowledged(seq) => Some(*seq),
        Act::Begun | Act::Committed | Act::Page | Act::Synced => None,
    });
    let conn = rusqlite::Connection::open(stage.journal()).unwrap();
    let entries: i64 = conn.query_row("SELECT max(seq) FROM entry", [], |row| row.get(0)).unwrap();
    assert_eq!(last, Some(entries), "what was acknowledged last is the end of the log");
}
