//! `rehome journal`: the history is told, and checked against what the journal claims.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_tests::{Options, Stage};
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

    conn.execute("UPDATE unit SET origin = 'adopted' WHERE id = 5", []).unwrap();
    let differs = stage.rehome(&["journal", "replay", "--json"]).await.expect(4).json();
    let difference = &differs["difference"];
    assert_eq!(
        (&difference["table"], &difference["row"], &difference["column"]),
        (&json!("unit"), &json!("id 5"), &json!("origin")),
        "{differs}"
    );
    assert_eq!(
        (&difference["cache"], &difference["log"]),
        (&json!("\"adopted\""), &json!("\"created\"")),
        "{differs}"
    );
    let words = stage.rehome(&["journal", "replay"]).await.expect(4);
    assert!(words.stdout.contains("unit.origin of id 5"), "{}", words.stdout);
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
            for part in ["suite.journal", "put a copy"] {
                assert!(refused.stderr.contains(part), "{what}, {part}: {}", refused.stderr);
            }
        }
        assert!(stage.rehome(&["check"]).await.code() == Some(4));
    }
    assert_eq!(stage.effects(), effects, "nothing was written outside");
    std::fs::write(stage.journal(), &whole).unwrap();
    let _as_before = stage.rehome(&["journal", "replay"]).await.expect(0);
}
