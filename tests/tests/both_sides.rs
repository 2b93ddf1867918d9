//! Rows that the source, the target's application, or both have changed since they were written:
//! what follows, what stays, and what is a conflict.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_emulator::seed::SeedUser;
use rehome_tests::{Options, Stage};
use rusqlite::Connection;
use serde_json::Value;

const TABLES: &str = "
    CREATE TABLE settings (k TEXT PRIMARY KEY, v TEXT, slug TEXT UNIQUE, place INTEGER NOT NULL UNIQUE);
    CREATE TABLE owners (clerk_id TEXT PRIMARY KEY, best INTEGER REFERENCES posts(id));
    CREATE TABLE posts (id INTEGER PRIMARY KEY, owner TEXT REFERENCES owners(clerk_id),
                        parent INTEGER REFERENCES posts(id));
    CREATE TABLE likes (id INTEGER PRIMARY KEY, post INTEGER REFERENCES posts(id));";

/// Twenty settings `k00`…, and twenty posts in a circle with their owners.
async fn set(records: &str) -> Stage {
    let stage = Stage::set(Options { users: 12, rows: 40, seed: 71, ..Options::default() }).await;
    configure(&stage, records);
    let (source, target) = both(&stage);
    target.execute_batch(TABLES).unwrap();
    source.execute_batch(TABLES).unwrap();
    source
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19)
             INSERT INTO settings SELECT format('k%02d', i), 'v' || i, 's' || i, i FROM n;
             INSERT INTO owners SELECT clerk_id, NULL FROM users;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
             INSERT INTO posts SELECT i, (SELECT clerk_id FROM owners WHERE owners.rowid = 1 + i % 12),
                                      CASE WHEN i % 5 <> 1 THEN i - 1 END FROM n;
             UPDATE owners SET best = (SELECT min(id) FROM posts WHERE owner = clerk_id);",
        )
        .unwrap();
    stage
}

fn configure(stage: &Stage, records: &str) {
    let ids = format!("{records}\n[records.ids]\n\"owners.clerk_id\" = \"user\"");
    stage.configure(|text| text.replace("[records.ids]", &ids));
}

fn both(stage: &Stage) -> (Connection, Connection) {
    let (source, target) = stage.databases().unwrap();
    let open = |path| {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection
    };
    (open(source), open(target))
}

fn in_source(stage: &Stage, sql: &str) {
    both(stage).0.execute_batch(sql).unwrap();
}

fn in_target(stage: &Stage, sql: &str) {
    both(stage).1.execute_batch(sql).unwrap();
}

fn text(connection: &Connection, sql: &str) -> Option<String> {
    connection
        .query_row(sql, [], |row| row.get::<_, Option<String>>(0))
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// One value of a setting in the target.
fn setting(stage: &Stage, key: &str, column: &str) -> Option<String> {
    text(&both(stage).1, &format!("SELECT (SELECT {column} FROM settings WHERE k = '{key}')"))
}

async fn failures(stage: &Stage) -> Vec<(String, String)> {
    let rows = stage.rehome(&["failures", "--json"]).await.expect(0).json();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(|row| (text(row, "code"), text(row, "message"))).collect()
}

/// The target is as it was before the migration, but for rows that its application has put in.
async fn goes_back(stage: &Stage, stays: &str) {
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    let left =
        "SELECT (SELECT count(*) FROM settings) || ' ' || (SELECT count(*) FROM posts) || ' '
                || (SELECT count(*) FROM owners)";
    assert_eq!(text(&both(stage).1, left).unwrap(), stays);
    assert_eq!(stage.target().count(), 0);
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_target_changed_stays_while_the_rest_of_its_span_follows() {
    for policy in ["", "on_conflict.default = \"replace\"", "on_conflict.default = \"skip\""] {
        let stage = set(&format!("[records]\n{policy}")).await;
        let _complete = stage.run().await.expect(0);
        in_target(&stage, "UPDATE settings SET v = 'live' WHERE k = 'k03'");
        in_target(&stage, "DELETE FROM settings WHERE k = 'k04'");
        for round in 0..2 {
            in_source(&stage, &format!("UPDATE settings SET v = 'new {round}' WHERE k = 'k07'"));
            let end = stage.run().await.expect(0).events().pop().unwrap();
            assert_eq!(end["verdict"]["tables"]["settings"]["overtaken"], 2, "{policy}: {end}");
            assert_eq!(setting(&stage, "k03", "v").unwrap(), "live", "{policy}");
            assert_eq!(setting(&stage, "k04", "v"), None, "{policy}");
            assert_eq!(setting(&stage, "k07", "v").unwrap(), format!("new {round}"), "{policy}");
        }
        assert_eq!(failures(&stage).await, [], "{policy}");
        // Until the source changes it as well.
        in_source(&stage, "UPDATE settings SET v = 'both' WHERE k IN ('k03', 'k04')");
        match policy {
            "" => {
                let _conflict = stage.run().await.expect(3);
                let [(code, message)] = failures(&stage).await.try_into().unwrap();
                assert_eq!(code, "changed_on_both_sides");
                assert!(message.contains("settings 'k03' was changed in the source and in the target, and differs in v"), "{message}");
                assert!(
                    message.contains(
                        "settings 'k04' was changed in the source and removed from the target"
                    ),
                    "{message}"
                );
            }
            "on_conflict.default = \"skip\"" => {
                let _theirs = stage.run().await.expect(0);
                assert_eq!(
                    (setting(&stage, "k03", "v").as_deref(), setting(&stage, "k04", "v")),
                    (Some("live"), None)
                );
            }
            _ => {
                let _ours = stage.run().await.expect(0);
                for key in ["k03", "k04"] {
                    assert_eq!(setting(&stage, key, "v").unwrap(), "both");
                }
            }
        }
        let before = stage.effects();
        let _again = stage.run().await;
        assert_eq!(stage.effects(), before, "{policy}: nothing is sent again");
        if policy.contains("replace") {
            goes_back(&stage, "0 0 0").await;
        }
        stage.replay();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_does_not_keep_the_rest_of_its_span_from_following() {
    let stage = set("[records]\non_removed = \"delete\"").await;
    let _complete = stage.run().await.expect(0);
    in_source(&stage, "UPDATE settings SET v = 'there' WHERE k = 'k03'");
    in_target(&stage, "UPDATE settings SET v = 'here' WHERE k = 'k03'");
    let _conflict = stage.run().await.expect(3);

    in_source(
        &stage,
        "UPDATE settings SET v = 'later' WHERE k = 'k07'; DELETE FROM settings WHERE k = 'k08';
         INSERT INTO settings VALUES ('k01b', 'new', 'new', 100);",
    );
    let _still = stage.run().await.expect(3);
    assert_eq!(setting(&stage, "k07", "v").unwrap(), "later");
    assert_eq!(setting(&stage, "k01b", "v").unwrap(), "new");
    assert_eq!(setting(&stage, "k08", "v"), None);
    assert_eq!(setting(&stage, "k03", "v").unwrap(), "here");
    let [(_, message)] = failures(&stage).await.try_into().unwrap();
    assert!(message.contains("k03") && !message.contains("k07"), "{message}");

    // A second one is named beside the first.
    in_source(&stage, "UPDATE settings SET v = 'there' WHERE k = 'k05'");
    in_target(&stage, "UPDATE settings SET v = 'here' WHERE k = 'k05'");
    let _two = stage.run().await.expect(3);
    let [(_, message)] = failures(&stage).await.try_into().unwrap();
    assert!(message.contains("k03") && message.contains("k05"), "{message}");
    let _quiet = stage.rehome(&["run", "--yes", "--until-quiet"]).await.expect(3);

    // The hint is a way out, and nobody has to say `retry`.
    let rows = stage.rehome(&["failures", "--json"]).await.expect(0).json();
    assert!(rows[0]["hint"].as_str().unwrap().contains("`skip`"), "{rows}");
    configure(&stage, "[records]\non_removed = \"delete\"\non_conflict.settings = \"skip\"");
    let _theirs = stage.run().await.expect(0);
    assert_eq!(setting(&stage, "k03", "v").unwrap(), "here");
    assert_eq!(failures(&stage).await, []);
    // One that the source has removed, and the target has changed, is left to it.
    in_source(&stage, "DELETE FROM settings WHERE k = 'k05'");
    let _left = stage.run().await.expect(0);
    assert_eq!(setting(&stage, "k05", "v").unwrap(), "here");
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_given_to_somebody_who_has_no_account_waits() {
    let stage = set("").await;
    let _complete = stage.run().await.expect(0);
    stage
        .target()
        .configure(|settings| settings.refused_addresses = vec!["bad@late.example".to_owned()]);
    let late = stage.source().insert_seed(SeedUser::with_email("bad@late.example")).unwrap();
    in_source(
        &stage,
        &format!(
            "INSERT INTO owners VALUES ('{late}', NULL); UPDATE posts SET owner = '{late}' WHERE id = 6"
        ),
    );
    let _waits = stage.run().await.expect(3);
    let told = failures(&stage).await;
    assert!(
        told.iter().all(|(_, message)| !message.contains("removed from the target")),
        "{told:?}"
    );
    assert!(told.iter().any(|(code, _)| code == "user_failed"), "{told:?}");
    stage.target().configure(|settings| settings.refused_addresses.clear());
    let _in_again = stage.rehome(&["retry", &late]).await.expect(0);
    let _complete = stage.run().await.expect(0);
    let owners = "SELECT count(DISTINCT owner) || ' ' || count(owner) FROM posts";
    let (source, target) = both(&stage);
    assert_eq!(text(&target, owners), text(&source, owners));
    goes_back(&stage, "0 0 0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unique_values_go_from_row_to_row() {
    let stage = set("[records]\non_removed = \"delete\"").await;
    let _complete = stage.run().await.expect(0);
    let moves = [
        // Taken from one and given to another.
        "UPDATE settings SET slug = NULL WHERE k = 'k05'; UPDATE settings SET slug = 's5' WHERE k = 'k03'",
        // A chain of nine, upwards and downwards.
        "UPDATE settings SET place = 1000 WHERE k = 'k19';
         UPDATE settings SET place = place + 1 WHERE k = 'k18'; UPDATE settings SET place = 18 WHERE k = 'k17';
         UPDATE settings SET place = 17 WHERE k = 'k16'; UPDATE settings SET place = 16 WHERE k = 'k15';
         UPDATE settings SET place = 15 WHERE k = 'k14'; UPDATE settings SET place = 14 WHERE k = 'k13'",
        // From a row that goes to one that is new, and to one that is not.
        "DELETE FROM settings WHERE k IN ('k10', 'k11'); INSERT INTO settings VALUES ('k20', 'x', 's10', 10);
         UPDATE settings SET slug = 's11' WHERE k = 'k01'; INSERT INTO settings VALUES ('k21', 'x', 's1', 77)",
        // In a circle: a swap, and a ring of three beside one who takes from it.
        "UPDATE settings SET slug = 'tmp' WHERE k = 'k08'; UPDATE settings SET slug = 's8' WHERE k = 'k09';
         UPDATE settings SET slug = 's9' WHERE k = 'k08';
         UPDATE settings SET slug = 'tmp' WHERE k = 'k12'; UPDATE settings SET slug = 's12' WHERE k = 'k13';
         UPDATE settings SET slug = 's13' WHERE k = 'k14'; UPDATE settings SET slug = 's14' WHERE k = 'k12'",
    ];
    let all = "SELECT group_concat(k || '=' || coalesce(slug, '-') || '/' || place, ' ') FROM (SELECT * FROM settings ORDER BY k)";
    for change in moves {
        in_source(&stage, change);
        let _moved = stage.run().await.expect(0);
        let (source, target) = both(&stage);
        assert_eq!(text(&target, all), text(&source, all), "{change}");
    }
    // What cannot be empty for a moment cannot be exchanged, and is told as what it is.
    in_source(
        &stage,
        "UPDATE settings SET place = -1 WHERE k = 'k00'; UPDATE settings SET place = 0 WHERE k = 'k02';
         UPDATE settings SET place = 2 WHERE k = 'k00'; UPDATE settings SET v = 'follows' WHERE k = 'k04'",
    );
    let _conflict = stage.run().await.expect(3);
    let [(code, message)] = failures(&stage).await.try_into().unwrap();
    assert_eq!(code, "row_conflict");
    assert!(message.contains("which another row gives only in exchange"), "{message}");
    assert_eq!(setting(&stage, "k04", "v").unwrap(), "follows");
    in_source(&stage, "UPDATE settings SET place = 500 WHERE k = 'k00'");
    let _solved = stage.run().await.expect(0);
    let (source, target) = both(&stage);
    assert_eq!(text(&target, all), text(&source, all));
    goes_back(&stage, "0 0 0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_row_of_a_circle_keeps_nobody_elses_reference_empty() {
    let stage = set("").await;
    in_source(
        &stage,
        "UPDATE posts SET parent = 777 WHERE id = 2; UPDATE owners SET best = 6 + rowid",
    );
    let _bad = stage.run().await.expect(3);
    let (_, target) = both(&stage);
    let there = "SELECT (SELECT count(*) || ' ' || count(owner) || ' ' || count(parent) FROM posts)
                 || ' ' || (SELECT count(best) FROM owners)";
    // Post 2 is refused, 3 to 5 are below it; nobody else has less than the source.
    assert_eq!(text(&target, there).unwrap(), "16 16 12 12");
    let told = failures(&stage).await;
    let bad = told.iter().find(|(code, _)| code == "parent_missing");
    let (_, message) = bad.unwrap_or_else(|| panic!("{told:?}"));
    assert!(
        message.contains("posts 2 refers to posts 777, which neither database has"),
        "{message}"
    );
    assert!(message.contains("besides, 3 wait"), "{message}");
    in_source(&stage, "UPDATE posts SET parent = 1 WHERE id = 2");
    let _complete = stage.run().await.expect(0);
    assert_eq!(text(&target, there).unwrap(), "20 20 16 12");
    drop(target);
    goes_back(&stage, "0 0 0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_rows_goes_as_far_as_nobody_refers_to_it() {
    let stage = set("[records]\non_removed = \"delete\"").await;
    let _complete = stage.run().await.expect(0);
    in_target(&stage, "INSERT INTO likes VALUES (1, 19)");
    in_source(
        &stage,
        "UPDATE posts SET parent = NULL WHERE id = 20; UPDATE owners SET best = NULL;
         DELETE FROM posts WHERE id BETWEEN 16 AND 19",
    );
    let _kept = stage.run().await.expect(3);
    let told = failures(&stage).await;
    let about_posts: Vec<_> = told.iter().filter(|(code, _)| code != "rows_held").collect();
    let [(code, message)] = about_posts.as_slice() else { panic!("{told:?}") };
    assert_eq!(code, "row_referred", "{message}");
    let there = "SELECT group_concat(id) FROM (SELECT id FROM posts WHERE id > 15 ORDER BY id)";
    assert_eq!(text(&both(&stage).1, there).unwrap(), "16,17,18,19,20");
    in_target(&stage, "DELETE FROM likes");
    let _gone = stage.run().await.expect(0);
    assert_eq!(text(&both(&stage).1, there).unwrap(), "20");

    // One that is only referred to by a row that changes in the same run.
    in_source(
        &stage,
        "UPDATE posts SET parent = NULL WHERE id = 15; DELETE FROM posts WHERE id IN (13, 14)",
    );
    let _gone = stage.run().await.expect(0);
    let (source, target) = both(&stage);
    let all = "SELECT group_concat(id || ':' || coalesce(parent, '-'))
               FROM (SELECT * FROM posts ORDER BY id)";
    assert_eq!(text(&target, all), text(&source, all));
}

/// The same of users: what only one side has changed is no conflict because the other has changed
/// something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_only_the_target_changed_stays_while_another_follows() {
    let stage = Stage::set(Options { users: 5, rows: 20, seed: 72, ..Options::default() }).await;
    let _complete = stage.run().await.expect(0);
    let (id, _) = &stage.people[2];
    let map = stage.rehome(&["map", "--json"]).await.expect(0).json();
    let row = map.as_array().unwrap().iter().find(|row| row["source_id"] == **id).unwrap();
    let account = row["target_id"].as_str().unwrap().to_owned();
    let edit = async |instance: &str, id: &str, change: Value| {
        let url =
            format!("{}/__emulator/users/{id}?instance={instance}", stage.emulator.clerk_url());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        assert!(client.patch(url).json(&change).send().await.unwrap().status().is_success());
    };
    edit("target", &account, serde_json::json!({"last_name": "Hopper"})).await;
    let _stays = stage.run().await.expect(0);
    edit("source", id, serde_json::json!({"first_name": "Grace"})).await;
    let end = stage.run().await.expect(0).events().pop().unwrap();
    assert_eq!(end["verdict"]["users"]["overtaken"], 1, "{end}");
    let user = stage.target().users().into_iter().find(|user| user.id == account).unwrap();
    assert_eq!(
        (user.first_name.as_deref(), user.last_name.as_deref()),
        (Some("Grace"), Some("Hopper"))
    );
    let before = stage.effects();
    let _again = stage.run().await.expect(0);
    assert_eq!(stage.effects(), before);
    assert_eq!(failures(&stage).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_one_of_our_rows_is_nobody_elses_whatever_the_policy() {
    let all = "SELECT group_concat(k || '=' || coalesce(slug, '-'), ' ') FROM (SELECT * FROM settings ORDER BY k)";
    for policy in ["fail", "skip", "replace"] {
        let stage = set(&format!("[records.on_conflict]\ndefault = \"{policy}\"")).await;
        let _complete = stage.run().await.expect(0);
        // Rows that come later are a span of their own, which is looked at before the giver has given.
        in_source(
            &stage,
            "UPDATE settings SET slug = 'free' WHERE k = 'k02';
             INSERT INTO settings VALUES ('k30', 'new', 's2', 30)",
        );
        let _followed = stage.run().await.expect(0);
        in_source(
            &stage,
            "UPDATE settings SET slug = 'out' WHERE k = 'k30'; UPDATE settings SET slug = 's2' WHERE k = 'k02'",
        );
        let _followed = stage.run().await.expect(0);
        let (source, target) = both(&stage);
        assert_eq!(text(&target, all), text(&source, all), "{policy}");

        // A row that the source has no more, and that stays, keeps its value.
        in_source(
            &stage,
            "DELETE FROM settings WHERE k = 'k05'; INSERT INTO settings VALUES ('k31', 'new', 's5', 31)",
        );
        let _stands = stage.run().await.expect(3);
        let [(code, message)] = failures(&stage).await.try_into().unwrap();
        assert_eq!(code, "value_held", "{policy}");
        assert!(message.contains("'k05' of the target has the same slug"), "{message}");
        in_target(&stage, "DELETE FROM settings WHERE k = 'k05'");
        let _goes_on = stage.run().await.expect(0);
        assert_eq!(setting(&stage, "k31", "slug").unwrap(), "s5", "{policy}");

        // And what ours cannot have because the application has it is told, and nothing is lost.
        in_target(&stage, "INSERT INTO settings VALUES ('own', 'own', 'theirs', 900)");
        in_source(&stage, "UPDATE settings SET slug = 'theirs' WHERE k = 'k07'");
        let _stands = stage.run().await.expect(3);
        let [(code, _)] = failures(&stage).await.try_into().unwrap();
        assert_eq!(code, "value_taken", "{policy}");
        in_source(&stage, "UPDATE settings SET slug = 's7' WHERE k = 'k07'");
        let _solved = stage.run().await.expect(0);
        goes_back(&stage, "1 0 0").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_an_account_has_many_of_are_the_applications() {
    let stage = set("").await;
    let members = "CREATE TABLE members (user_id TEXT, team INTEGER, role TEXT,
                       PRIMARY KEY (user_id, team)) WITHOUT ROWID";
    in_source(&stage, members);
    in_target(&stage, members);
    in_source(&stage, "INSERT INTO members SELECT clerk_id, 1, 'source' FROM users");
    stage.configure(|text| {
        let ids = "[records.ids]\n\"owners.clerk_id\" = \"user\"\n\"members.user_id\" = \"user\"";
        text.replace("[records.ids]", ids)
    });
    let _complete = stage.run().await.expect(0);
    in_target(
        &stage,
        "INSERT INTO members SELECT min(user_id), 2, 'target' FROM members;
         INSERT INTO members SELECT max(user_id), 77, 'target' FROM members",
    );
    let (source, target) = both(&stage);
    let who = text(&target, "SELECT min(user_id) FROM members").unwrap();
    let map = stage.rehome(&["map", "--json"]).await.expect(0).json();
    let rows = map.as_array().unwrap();
    let before = &rows.iter().find(|row| row["target_id"] == *who).unwrap()["source_id"];
    source
        .execute("INSERT INTO members VALUES (?1, 2, 'source')", [before.as_str().unwrap()])
        .unwrap();
    let _conflict = stage.run().await.expect(3);
    let told = failures(&stage).await;
    assert_eq!(told.first().unwrap().0, "row_conflict", "{told:?}");
    let own = "SELECT count(*) FROM members WHERE role = 'target'";
    let count = |sql: &str| target.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(own), 2, "nothing is overwritten");

    // Two accounts are named by rows that the application has made: they stay, and so do those.
    let plan = stage.rehome(&["rollback", "--dry-run", "--json"]).await.expect(3).json();
    let refusals = plan["refusals"].as_array().unwrap();
    let named = |one: &&Value| one["message"].as_str().unwrap().contains("members (");
    assert_eq!(refusals.iter().filter(|one| one["code"] == "rows_remain").filter(named).count(), 2);
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(3);
    assert_eq!(count(own), 2);
    assert!(stage.target().user(&who).is_some());
}

/// With nobody and nothing that has arrived, there is nothing to compare; what stood in the way is
/// looked at all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_failure_of_the_only_span_ends_with_its_reason() {
    let stage = Stage::set(Options { users: 0, rows: 0, seed: 72, ..Options::default() }).await;
    let (source, target) = both(&stage);
    for side in [&source, &target] {
        side.execute_batch("CREATE TABLE settings (k TEXT PRIMARY KEY, v TEXT)").unwrap();
        side.execute_batch("INSERT INTO settings VALUES ('k', 'same')").unwrap();
    }
    source.execute_batch("INSERT INTO settings VALUES ('l', 'source')").unwrap();
    let _complete = stage.run().await.expect(0);
    source.execute_batch("UPDATE settings SET v = 'source since' WHERE k = 'l'").unwrap();
    target.execute_batch("UPDATE settings SET v = 'target since' WHERE k = 'l'").unwrap();
    let _both = stage.run().await.expect(3);
    assert_eq!(failures(&stage).await.first().unwrap().0, "changed_on_both_sides");
    source.execute_batch("DELETE FROM settings WHERE k = 'l'").unwrap();
    let _ended = stage.run().await.expect(0);
    assert_eq!(failures(&stage).await, []);
    assert_eq!(text(&target, "SELECT v FROM settings WHERE k = 'l'").unwrap(), "target since");
    stage.replay();
}
