//! What is said of ids and references that were declared wrongly, in part, or not at all: the same
//! by `check`, `plan` and `run`, and so that it helps.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "a test")]

use std::path::Path;

use rehome_tests::{Options, Stage};
use rusqlite::Connection;
use serde_json::Value;

fn small(seed: u64) -> Options {
    Options { users: 20, rows: 120, seed, ..Options::default() }
}

fn write(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn number(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// The same in both databases.
fn both(stage: &Stage, sql: &str) {
    let (source, target) = stage.databases().unwrap();
    write(&source, sql);
    write(&target, sql);
}

/// What `check` has found, which is what `plan` and `run` find.
async fn found(stage: &Stage) -> Vec<String> {
    let check = stage.rehome(&["check", "--json"]).await.expect(4).json();
    let findings = check["findings"].as_array().unwrap().iter();
    let of_ids = findings.filter(|finding| finding["code"] == "undeclared_ids");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found: Vec<_> = of_ids.map(|finding| text(&finding["message"])).collect();
    let plan = stage.rehome(&["plan", "--json"]).await.expect(4).json();
    let planned: Vec<_> = plan["undeclared"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(found, planned);
    let run = stage.rehome(&["run", "--yes"]).await.expect(4);
    for one in &found {
        assert!(run.stderr.contains(one), "{one}: {}", run.stderr);
    }
    assert_eq!(stage.creates(), 0);
    found
}

/// Pastes what was proposed behind the other declarations.
fn paste(stage: &Stage, found: &[String]) {
    let proposed = found.iter().filter_map(|one| one.split_once("; declare "));
    let lines: String = proposed.map(|(_, line)| format!("{line}\n")).collect();
    let text = std::fs::read_to_string(stage.config()).unwrap();
    stage.configure(|_| text + &lines);
}

async fn goes_through(stage: &Stage) {
    let _fine = stage.rehome(&["check"]).await.expect(0);
    let _complete = stage.run().await.expect(0);
    let verdict = stage.rehome(&["verify", "--json"]).await.expect(0).json();
    assert_eq!(verdict["orphan_ids"], 0, "{verdict}");
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_in_a_document_are_proposed_with_the_way_to_them() {
    let stage = Stage::set(small(111)).await;
    stage.configure(|text| text.replace("\"events.payload:$.actor.id\" = \"user\"\n", ""));
    let all = found(&stage).await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].ends_with("; declare \"events.payload:$.actor.id\" = \"user\""), "{all:?}");
    paste(&stage, &all);

    // And elsewhere in the same document.
    let (source, _) = stage.databases().unwrap();
    write(
        &source,
        "UPDATE events SET payload = json_set(payload, '$.seen', json_array(json_object('by', json_extract(payload, '$.actor.id'))))
         WHERE CASE WHEN json_valid(payload) THEN json_extract(payload, '$.actor.id') END LIKE 'user_%'",
    );
    let elsewhere = found(&stage).await;
    assert_eq!(elsewhere.len(), 1, "{elsewhere:?}");
    assert!(elsewhere[0].contains("declare \"events.payload:$.seen[*].by\" = \"user\""));
    paste(&stage, &elsewhere);
    goes_through(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_odd_about_a_value_is_said() {
    let stage = Stage::set(small(112)).await;
    both(&stage, "CREATE TABLE visits (id INTEGER PRIMARY KEY, who TEXT, note TEXT)");
    let (source, _) = stage.databases().unwrap();
    write(
        &source,
        "INSERT INTO visits (who, note) SELECT clerk_id, NULL FROM users;
         UPDATE visits SET who = who || ' ' WHERE id = 2;
         UPDATE visits SET who = who || char(0) WHERE id = 3;
         UPDATE visits SET note = 'seen with ' || who WHERE id = 4;",
    );
    stage.configure(|text| text + "\"visits.who\" = \"user\"\n");
    let all = found(&stage).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].starts_with("visits.note: 1 ids seen inside longer text ("), "{all:?}");
    let odd =
        "visits.who: is declared as an id, and 2 of its values seen are one with something else";
    assert!(all[1].starts_with(odd) && all[1].contains("one more byte in row 2"), "{all:?}");
    assert!(!all.iter().any(|one| one.contains("declare \"")), "nothing to declare: {all:?}");
    write(
        &source,
        "UPDATE visits SET who = rtrim(replace(who, char(0), ''));
         UPDATE visits SET who = (SELECT clerk_id FROM users LIMIT 1) WHERE id = 3;
         UPDATE visits SET note = NULL",
    );
    goes_through(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_name_can_be_declared_as_it_is_proposed() {
    let stage = Stage::set(small(113)).await;
    both(
        &stage,
        "CREATE TABLE \"order by \"\"x\"\"\" (id INTEGER PRIMARY KEY, \"a:$b\" TEXT, \"it's\" TEXT, \"d:$.x\" TEXT)",
    );
    let (source, target) = stage.databases().unwrap();
    write(
        &source,
        "INSERT INTO \"order by \"\"x\"\"\" (\"a:$b\", \"it's\", \"d:$.x\")
         SELECT clerk_id, clerk_id, json_object('odd key', clerk_id, 'a.b', clerk_id) FROM users",
    );
    let all = found(&stage).await;
    assert_eq!(all.len(), 4, "{all:?}");
    paste(&stage, &all);
    goes_through(&stage).await;
    let left =
        "SELECT count(*) FROM \"order by \"\"x\"\"\" o JOIN users u ON u.clerk_id = o.\"a:$b\"
         AND u.clerk_id = o.\"it's\" AND u.clerk_id = json_extract(o.\"d:$.x\", '$.\"odd key\"')
         AND u.clerk_id = json_extract(o.\"d:$.x\", '$.\"a.b\"')";
    assert_eq!(number(&target, left), number(&source, "SELECT count(*) FROM users"));
}

/// Two tables that are numbered alike; the target has rows of its own under the same numbers.
fn posts(stage: &Stage) {
    both(
        stage,
        "CREATE TABLE posts (id INTEGER PRIMARY KEY, body TEXT); CREATE TABLE search (body TEXT);",
    );
    let fill = |who: &str, rows: u32| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO posts SELECT i, '{who} ' || i FROM n;
             INSERT INTO search (rowid, body) SELECT id, body FROM posts;"
        )
    };
    let (source, target) = stage.databases().unwrap();
    write(&source, &fill("ours", 50));
    write(&target, &fill("theirs", 7));
}

fn rekey(stage: &Stage) {
    let setting = "[records.on_conflict]\ndefault = \"rekey\"\n\n\
                   [records.references]\n\"search.rowid\" = \"posts\"\n\n[records.ids]";
    stage.configure(|text| text.replace("[records.ids]", setting));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_numbered_like_another_follows_it() {
    let stage = Stage::set(small(114)).await;
    posts(&stage);
    rekey(&stage);
    let check = stage.rehome(&["check"]).await.expect(0).stdout;
    assert!(check.contains("its rows are numbered as those of posts, and follow them"), "{check}");
    let _complete = stage.run().await.expect(0);
    let _same = stage.rehome(&["verify"]).await.expect(0);
    let (_, target) = stage.databases().unwrap();
    let pairs = "SELECT count(*) FROM posts p JOIN search s ON s.rowid = p.id AND s.body = p.body";
    assert_eq!(number(&target, pairs), 57);
    assert_eq!(number(&target, "SELECT count(*) FROM posts WHERE body = 'theirs ' || id"), 7);
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!(number(&target, pairs), 7);
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_the_source_that_leave_no_room_are_named_before_a_run() {
    let stage = Stage::set(small(115)).await;
    posts(&stage);
    let (source, _) = stage.databases().unwrap();
    write(&source, "INSERT INTO posts VALUES (9223372036854775804, 'far')");
    rekey(&stage);
    let reason =
        "posts cannot get new keys: those of the source reach from 1 to 9223372036854775804";
    for command in [vec!["check"], vec!["plan"], vec!["run", "--yes"]] {
        let refused = stage.rehome(&command).await.expect(4);
        assert!(refused.everything().contains(reason), "{}", refused.everything());
    }
}
