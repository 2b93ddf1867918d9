//! Commits one change after the other, and notes each when it is acknowledged: the process that
//! the durability suite watches.
//!
//! `commits journal FILE N` uses rehome's journal. `commits careless FILE N` does what the journal
//! must not: the same number of commits with `synchronous = NORMAL`, acknowledged all the same.
//! It is there so that the suite can be seen to fail.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test's tool")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rehome_core::Kind;
use rehome_core::clock::SystemClock;
use rehome_core::journal::{Change, Journal, Setup};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, file, count] = arguments.as_slice() else { panic!("MODE FILE N") };
    let (path, count): (PathBuf, u32) = (file.into(), count.parse().unwrap());
    match mode.as_str() {
        "journal" => journal(&path, count).await,
        "careless" => careless(&path, count),
        other => panic!("no mode {other}"),
    }
}

async fn journal(path: &Path, count: u32) {
    let setup = Setup { name: "commits".into(), pins: BTreeMap::new() };
    let journal = Journal::open(path, &setup, Arc::new(SystemClock)).unwrap();
    for number in 0..count {
        let page = Change::Page {
            kind: Kind::new("thing"),
            units: Vec::new(),
            cursor: number.into(),
            done: false,
            total: None,
        };
        journal.submit(vec![page]).await.unwrap();
    }
    journal.close();
}

fn careless(path: &Path, count: u32) {
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.pragma_update(None, "synchronous", "NORMAL").unwrap();
    conn.execute_batch("CREATE TABLE entry (seq INTEGER PRIMARY KEY, detail TEXT)").unwrap();
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    for number in 1..=count {
        conn.execute("INSERT INTO entry (detail) VALUES ('x')", []).unwrap();
        let mut lock = std::fs::File::create(&lock).unwrap();
        lock.write_all(format!("{number:>20}\n").as_bytes()).unwrap();
    }
}
