//! `rehome journal`: the history is told, and checked against what the journal claims.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use rehome_core::clock::SystemClock;
use rehome_core::journal::{Journal, Setup};
use rehome_tests::{Databases, Judge, Options, Stage};
use rusqlite::Connection;
use serde_json::{Value, json};

fn small(seed: u64) -> Options {
    Options { users: 30, rows: 120, seed, ..Options::default() }
}

async fn log(stage: &Stage, arguments: &[&str]) -> Vec<Value> {
    stage.rehome(&[&["journal", "log", "--json"], arguments].concat()).await.expect(0).events()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_one_and_of_all() {
    let stage = Stage::set(small(81)).await;
    let missing = stage.rehome(&["journal", "log"]).await.expect(2);
    assert!(missing.stderr.contains("suite.journal"), "{}", missing.stderr);
    let _complete = stage.run().await.expect(0);

    let everything = log(&stage, &[]).await;
    let seqs: Vec<_> = everything.iter().map(|entry| entry["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>(), "every entry, in order");
    let latest = log(&stage, &["--reverse", "--limit", "3"]).await;
    let latest: Vec<_> = latest.iter().map(|entry| entry["seq"].as_i64().unwrap()).collect();
    assert_eq!(latest, seqs.iter().rev().take(3).copied().collect::<Vec<_>>());

    let (id, address) = stage.people[3].clone();
    let story = log(&stage, &[&address.unwrap()]).await;
    assert!(story.iter().all(|entry| entry["source_id"] == id.as_str()));
    let words: Vec<_> = story.iter().map(|entry| entry["event"].as_str().unwrap()).collect();
    assert_eq!(words, ["exported", "intended", "done", "advanced", "advanced", "advanced"]);
    assert_eq!(story[2]["detail"]["origin"], "created");
    let pages = log(&stage, &["--event", "page"]).await;
    assert!(!pages.is_empty() && pages.iter().all(|entry| entry["kind"] == Value::Null));
    let at = story[0]["at"].as_str().unwrap();
    let since = log(&stage, &["--since", at, "--kind", "user", "--event", "exported"]).await;
    assert!(since.iter().any(|entry| entry["source_id"] == id.as_str()));
    let _none = stage.rehome(&["journal", "log", "nobody@example.com"]).await.expect(2);
    for (wrong, there) in [(["--kind", "users"], "user, span, lot"), (["--event", "go"], "held")] {
        let refused = stage.rehome(&[&["journal", "log", "--json"], &wrong[..]].concat()).await;
        let refused = refused.expect(2);
        assert!(refused.stderr.contains(there), "{}", refused.stderr);
        let line = refused.json();
        assert!(line["error"]["causes"][0].as_str().unwrap().contains(there), "{line}");
    }
    let known: Vec<_> = rehome_migration::journal_tools::events();
    for entry in &everything {
        assert!(known.contains(&entry["event"].as_str().unwrap()), "{entry}");
    }
    let mistyped = stage.rehome(&["journal", "log", "--code", "rows_helt"]).await.expect(0);
    assert!(mistyped.stdout.is_empty());
    assert!(mistyped.stderr.contains("has the code \"rows_helt\""), "{}", mistyped.stderr);

    let page = stage.rehome(&["journal", "log", &id]).await.expect(0);
    assert_eq!(page.stdout.lines().count(), story.len(), "{}", page.stdout);
    assert!(page.stdout.contains("exported → created"), "{}", page.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_beside_a_run_and_after_it() {
    let stage = Stage::set(small(82)).await;
    // Slow enough to be met at work.
    stage.target().configure(|settings| settings.latency_ms = 200);
    let mut running = stage.start(&["run", "--yes", "--json"]);
    assert!(running.reaches(|| stage.creates() > 0).await);
    let beside = stage.rehome(&["journal", "replay", "--json"]).await.expect(0).json();
    assert_eq!(beside["equal"], true, "{beside}");
    assert!(!log(&stage, &["--limit", "5"]).await.is_empty());
    stage.target().configure(|settings| settings.latency_ms = 0);
    let _complete = running.finish().await.expect(0);

    let after = stage.rehome(&["journal", "replay", "--json"]).await.expect(0).json();
    assert_eq!((&after["equal"], &after["difference"]), (&json!(true), &Value::Null), "{after}");
    let conn = Connection::open(stage.journal()).unwrap();
    let entries: u64 = conn.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).unwrap();
    assert_eq!(after["entries"], entries);

    // Spans have no origin, and which units come first depends on which source answers first.
    let somebody = "SELECT min(id) FROM unit WHERE kind = 'user'";
    let id: i64 = conn.query_row(somebody, [], |row| row.get(0)).unwrap();
    conn.execute("UPDATE unit SET origin = 'adopted' WHERE id = ?1", [id]).unwrap();
    let differs = stage.rehome(&["journal", "replay", "--json"]).await.expect(4).json();
    let difference = &differs["difference"];
    assert_eq!(
        (&difference["table"], &difference["row"], &difference["column"]),
        (&json!("unit"), &json!(format!("id {id}")), &json!("origin")),
        "{differs}"
    );
    assert_eq!(
        (&difference["cache"], &difference["log"]),
        (&json!("\"adopted\""), &json!("\"created\"")),
        "{differs}"
    );
    let words = stage.rehome(&["journal", "replay"]).await.expect(4);
    assert!(words.stdout.contains(&format!("unit.origin of id {id}")), "{}", words.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_named_and_refused_with_the_way_out() {
    let stage = Stage::set(small(83)).await;
    let _complete = stage.run().await.expect(0);
    let whole = std::fs::read(stage.journal()).unwrap();
    let effects = stage.effects();
    let mut nonsense = whole.clone();
    nonsense[..100].fill(0);
    for bytes in [&whole[..0], &whole[..whole.len() / 2], &nonsense] {
        std::fs::write(stage.journal(), bytes).unwrap();
        for arguments in [
            &["status"][..],
            &["failures"],
            &["map"],
            &["show", &stage.people[0].0],
            &["journal", "log"],
            &["journal", "replay"],
            &["retry"],
            &["run"],
            &["run", "--yes", "--json"],
        ] {
            let what = format!("{} bytes, {arguments:?}", bytes.len());
            let refused = stage.rehome(arguments).await;
            assert_eq!(refused.code(), Some(4), "{what}: {}", refused.stderr);
            for part in ["suite.journal", "journal rebuild", "put a copy"] {
                assert!(refused.stderr.contains(part), "{what}, {part}: {}", refused.stderr);
            }
        }
        assert!(stage.rehome(&["check"]).await.code() == Some(4));
    }
    assert_eq!(stage.effects(), effects, "nothing was written outside");
    std::fs::write(stage.journal(), &whole).unwrap();
    let _as_before = stage.rehome(&["journal", "replay"]).await.expect(0);
}

/// Every file that belongs to the journal, with its bytes.
fn journal_files(stage: &Stage) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(stage.folder()).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            path.is_file()
                && !["rehome.toml", "source.sqlite", "target.sqlite"]
                    .iter()
                    .any(|other| name.starts_with(other))
        })
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect()
}

/// Words about the people of the source: addresses, numbers, names.
fn words_about_people(stage: &Stage) -> Vec<String> {
    let users = stage.source().users();
    let mut words: Vec<String> = Vec::new();
    for user in users {
        words.extend(user.email_addresses.iter().map(|address| address.value.clone()));
        words.extend(user.phone_numbers.iter().map(|number| number.value.clone()));
        words.extend(
            [&user.first_name, &user.last_name, &user.username].into_iter().flatten().cloned(),
        );
    }
    // A short name may be a part of an id by chance.
    words.retain(|word| word.len() > 5);
    words.sort_unstable();
    words.dedup();
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrubbed_journal_names_nobody_and_still_tells_what_happened() {
    let stage = Stage::set(small(84)).await;
    let _partly = stage.rehome(&["run", "--yes", "--json", "--until", "mapped"]).await.expect(0);
    let early = stage.rehome(&["journal", "scrub", "--yes"]).await.expect(4);
    assert!(early.stderr.contains("--force"), "{}", early.stderr);
    assert!(early.stderr.contains("neither verified"), "{}", early.stderr);
    let _complete = stage.run().await.expect(0);
    let _asked = stage.rehome(&["journal", "scrub"]).await.expect(2);
    stage.configure(|text| text.replacen("name = \"suite\"", "name = \"other\"", 1));
    let theirs = stage.rehome(&["journal", "scrub", "--yes"]).await.expect(4);
    assert!(theirs.stderr.contains("suite"), "whose it is: {}", theirs.stderr);
    stage.configure(|text| text);

    let words = words_about_people(&stage);
    assert!(words.len() > 60, "{}", words.len());
    let found = |word: &str| {
        let files = journal_files(&stage).into_iter();
        files
            .filter(|(_, bytes)| memchr(bytes, word.as_bytes()))
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert!(words.iter().filter(|word| !found(word).is_empty()).count() > 60, "there to be found");
    let pairs = |map: &str| -> Vec<(String, String, String)> {
        let fields = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        map.lines()
            .skip(1)
            .map(fields)
            .map(|line| (line[1].clone(), line[2].clone(), line[3].clone()))
            .collect()
    };
    let map = stage.rehome(&["map"]).await.expect(0).stdout;
    let status = stage.status().await;
    let log = log(&stage, &[]).await;

    let scrubbed = stage.rehome(&["journal", "scrub", "--yes", "--json"]).await.expect(0).json();
    let (before, after) = (scrubbed["bytes_before"].as_u64(), scrubbed["bytes_after"].as_u64());
    assert!(after < before, "{scrubbed}");
    assert_eq!(after.unwrap(), std::fs::metadata(stage.journal()).unwrap().len());
    for word in &words {
        assert!(found(word).is_empty(), "{word} is left in {:?}", found(word));
    }

    let replayed = stage.rehome(&["journal", "replay", "--json"]).await.expect(0).json();
    assert_eq!(replayed["equal"], true, "{replayed}");
    let kept = stage.rehome(&["map"]).await.expect(0).stdout;
    assert_eq!(pairs(&kept), pairs(&map));
    let now = stage.status().await;
    for field in ["complete", "units", "mapping", "requests", "tables"] {
        assert_eq!(now[field], status[field], "{field}");
    }
    let told = self::log(&stage, &[]).await;
    assert_eq!(told.len(), log.len() + 1);
    for (before, after) in log.iter().zip(&told) {
        for field in ["seq", "at", "event", "kind", "source_id", "from", "to", "attempt"] {
            assert_eq!(before[field], after[field], "{before} {after}");
        }
    }
    assert_eq!(told.last().unwrap()["event"], "scrubbed");
    let effects = stage.effects();
    for arguments in [
        &["run", "--yes"][..],
        &["verify"],
        &["rollback", "--yes"],
        &["rollback", "--dry-run"],
        &["retry"],
        &["check"],
        &["plan"],
        &["journal", "scrub", "--yes"],
    ] {
        let refused = stage.rehome(arguments).await;
        assert_eq!(refused.code(), Some(4), "{arguments:?}: {}", refused.stderr);
        let told = format!("{}{}", refused.stdout, refused.stderr);
        assert!(told.contains("personal data was removed"), "{arguments:?}: {told}");
    }
    assert_eq!(stage.effects(), effects);
    for arguments in [&["status"][..], &["show", &stage.people[0].0], &["failures"]] {
        let _as_before = stage.rehome(arguments).await.expect(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_has_hardly_begun_is_not_scrubbed() {
    let stage = Stage::set(Options { databases: Databases::None, ..small(88) }).await;
    let nothing = Setup { name: "suite".to_owned(), pins: BTreeMap::new() };
    Journal::open(&stage.journal(), &nothing, Arc::new(SystemClock)).unwrap().close();
    let refused = stage.rehome(&["journal", "scrub", "--yes"]).await.expect(4);
    assert!(refused.stderr.contains("of the source was read"), "{}", refused.stderr);
    let _all_the_same = stage.rehome(&["journal", "scrub", "--yes", "--force"]).await.expect(0);
}

fn memchr(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_journal_is_built_anew_and_the_run_goes_on() {
    let options =
        Options { users: 60, rows: 240, seed: 85, databases: Databases::D1, ..Options::default() };
    let stage = Stage::set(options).await;
    // Lost in the middle: some have arrived, some have not.
    let _partly = stage.rehome(&["run", "--yes", "--json", "--limit", "40"]).await;
    let refused = stage.rehome(&["journal", "rebuild", "--yes"]).await.expect(4);
    assert!(refused.stderr.contains("suite.journal"), "{}", refused.stderr);
    let (creates, effects) = (stage.creates(), stage.effects());
    assert!((30..=45).contains(&creates), "{creates}");
    // It is gone, and the file beside it tells that it was there: no other one begins.
    let elsewhere = stage.folder().join("elsewhere");
    std::fs::rename(stage.journal(), &elsewhere).unwrap();
    for arguments in [&["run", "--yes"][..], &["status"], &["check"], &["rollback", "--yes"]] {
        let refused = stage.rehome(arguments).await.expect(4);
        let said = refused.stdout + &refused.stderr;
        assert!(said.contains("but there was one of"), "{said}");
    }
    std::fs::rename(&elsewhere, stage.journal()).unwrap();
    // Only its write-ahead log is left: that is never played into another journal.
    for suffix in ["", "-shm", ".lock"] {
        let _may_be_gone = std::fs::remove_file(format!("{}{suffix}", stage.journal().display()));
    }
    let wal = format!("{}-wal", stage.journal().display());
    std::fs::write(&wal, "what was left").unwrap();
    for arguments in [&["journal", "rebuild", "--yes"][..], &["run", "--yes"], &["status"]] {
        let refused = stage.rehome(arguments).await.expect(4);
        assert!(refused.stderr.contains("suite.journal-wal"), "{}", refused.stderr);
        assert!(refused.stderr.contains("journal rebuild"), "{}", refused.stderr);
    }
    assert_eq!(std::fs::read(&wal).unwrap(), b"what was left");
    std::fs::remove_file(&wal).unwrap();

    let look = stage.rehome(&["journal", "rebuild", "--dry-run", "--json"]).await.expect(0).json();
    assert_eq!((&look["installed"], &look["created"]), (&json!(false), &json!(0)), "{look}");
    assert_eq!(look["pairs"], creates, "{look}");
    assert!(
        journal_files(&stage)
            .iter()
            .all(|(name, _)| !name.contains("journal") || name.ends_with(".lock")),
        "a look leaves nothing"
    );
    let _asked = stage.rehome(&["journal", "rebuild"]).await.expect(2);
    assert!(!stage.journal().exists());

    // Rows that arrived would stay behind accounts that a rollback deletes.
    let since = ["journal", "rebuild", "--yes", "--created-since", "2h"];
    let refused = stage.rehome(&since).await.expect(2);
    assert!(refused.stderr.contains("--created-since"), "{}", refused.stderr);

    let made = stage.rehome(&["journal", "rebuild", "--yes", "--json"]).await.expect(0).json();
    assert_eq!((&made["installed"], &made["pairs"]), (&json!(true), &json!(creates)), "{made}");
    assert_eq!((&made["created"], &made["adopted"]), (&json!(0), &json!(creates)), "{made}");
    assert_eq!(stage.effects(), effects, "it only reads");
    stage.replay();
    let map = stage.rehome(&["map"]).await.expect(0).stdout;
    assert_eq!(map.lines().count() as u64, creates + 1);

    let _complete = stage.run().await.expect(0);
    assert_eq!(stage.creates(), 60, "nobody twice");
    Judge::default().accepts(&stage).await;
    stage.replay();
    let verified = stage.rehome(&["verify", "--json"]).await.expect(0).json();
    assert_eq!(verified["ok"], true, "{verified}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_date_of_the_lost_migration_makes_an_account_its_own() {
    let stage = Stage::set(Options { databases: Databases::None, ..small(86) }).await;
    let _complete = stage.run().await.expect(0);
    std::fs::rename(stage.journal(), stage.folder().join("lost")).unwrap();
    let made = stage.rehome(&["journal", "rebuild", "--yes", "--json"]).await.expect(0).json();
    assert_eq!((&made["created"], &made["adopted"]), (&json!(0), &json!(30)), "{made}");
    let effects = stage.effects();
    let _complete = stage.run().await.expect(0);
    assert_eq!(stage.effects(), effects, "nobody is written to");
    // A later date than the migration's shows nothing either.
    std::fs::remove_file(stage.journal()).unwrap();
    let since = ["journal", "rebuild", "--json", "--dry-run", "--created-since", "2100-01-01"];
    let late = stage.rehome(&since).await.expect(0).json();
    assert_eq!((&late["created"], &late["adopted"]), (&json!(0), &json!(30)), "{late}");

    // The right one does, and the way back is there again.
    let since = ["journal", "rebuild", "--json", "--yes", "--created-since", "2h"];
    let made = stage.rehome(&since).await.expect(0).json();
    assert_eq!((&made["created"], &made["adopted"]), (&json!(30), &json!(0)), "{made}");
    let _complete = stage.run().await.expect(0);
    assert_eq!(stage.effects(), effects, "nobody is written to");
    let _back = stage.rehome(&["rollback", "--yes", "--json"]).await.expect(0);
    assert!(stage.target().users().is_empty(), "{:?}", stage.target().users().len());
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_differs_is_derived_anew() {
    let stage = Stage::set(Options { databases: Databases::None, ..small(87) }).await;
    let _complete = stage.run().await.expect(0);
    let map = stage.rehome(&["map"]).await.expect(0).stdout;
    let conn = Connection::open(stage.journal()).unwrap();
    conn.execute_batch("UPDATE unit SET target_key = NULL WHERE id = 3; DELETE FROM alias")
        .unwrap();
    drop(conn);
    let told = stage.rehome(&["journal", "replay"]).await.expect(4);
    assert!(told.stderr.contains("journal replay --repair"), "{}", told.stderr);
    let _asked = stage.rehome(&["journal", "replay", "--repair"]).await.expect(2);
    let repaired = stage.rehome(&["journal", "replay", "--repair", "--yes", "--json"]).await;
    assert_eq!(repaired.expect(0).json()["equal"], true);
    assert_eq!(stage.rehome(&["map"]).await.expect(0).stdout, map);
}
