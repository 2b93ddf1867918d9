//! Ids exchanged where they stand: every sort of place, what stands in the way, and back again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

mod support;

use rehome_core::{Condition, Origin, Stage, State};
use rehome_records::in_place::weigh;
use support::one::{End, World};

const USERS: &str = "CREATE TABLE users (clerk_id TEXT PRIMARY KEY, email TEXT);
    INSERT INTO users VALUES ('old1', 'a'), ('old2', 'b'), ('stranger', 'c');";

/// Each sort of place, the whole there and back, with a lost answer on both ways.
#[tokio::test]
async fn every_sort_of_place_goes_there_and_back() {
    let shapes: &[(&str, &str, &[&str])] = &[
        (
            "references, indexed or not, and to itself, with every action",
            "CREATE TABLE users (clerk_id TEXT PRIMARY KEY, by_whom TEXT
                 REFERENCES users(clerk_id) ON UPDATE SET NULL);
             CREATE TABLE posts (id INTEGER PRIMARY KEY, author TEXT NOT NULL
                 REFERENCES users(clerk_id) ON UPDATE CASCADE ON DELETE CASCADE);
             CREATE INDEX by_author ON posts (author);
             CREATE TABLE notes (author TEXT REFERENCES users(clerk_id) ON UPDATE SET NULL, n);
             CREATE TABLE marks (author TEXT REFERENCES users ON UPDATE RESTRICT);
             INSERT INTO users VALUES ('old1', NULL), ('old2', 'old1'), ('stranger', 'old2');
             INSERT INTO posts VALUES (1, 'old1'), (2, 'old2'), (3, 'stranger');
             INSERT INTO notes VALUES ('old1', 1), (NULL, 2), ('old1', 3), ('stranger', 4);
             INSERT INTO marks VALUES ('old2'), ('old1');",
            &["users.clerk_id"],
        ),
        (
            "keys of several columns, without a rowid, and a collation that overlooks case",
            "CREATE TABLE friends (a TEXT, b TEXT COLLATE NOCASE, since, PRIMARY KEY (a, b))
                 WITHOUT ROWID;
             CREATE TABLE names (id TEXT COLLATE NOCASE UNIQUE, n);
             INSERT INTO friends VALUES ('old1', 'old2', 1), ('old2', 'old1', 2),
                 ('old1', 'OLD2x', 3), ('stranger', 'old1', 4);
             INSERT INTO names VALUES ('old1', 1), ('OLD2', 2), (x'6f6c6431', 3), (7, 4);",
            &["friends.a", "friends.b", "names.id"],
        ),
        (
            "documents of every sort",
            "CREATE TABLE docs (id INTEGER PRIMARY KEY, who TEXT, body);
             INSERT INTO docs (who, body) VALUES
                 ('old1', '{ \"actor\" : {\"id\":\"old1\"}, \"n\": 1.50, \"to\":[\"old2\",\"x\"]}'),
                 ('old2', '{\"actor\":{\"id\":\"old2\"},\"list\":[{\"id\":\"old1\"},5,\"old1\"]}'),
                 (NULL, '{\"to\":{\"a\":\"old1\",\"b\":[\"old2\"]},\"list\":\"old1\",\"other\":\"old1\"}'),
                 (NULL, 'old1'), (NULL, NULL), (NULL, 5), (NULL, x'7b7d'), (NULL, '{broken old1'),
                 (NULL, '{\"actor\":{\"id\":\"stranger\"}}'), (NULL, '[]');",
            &["docs.who", "docs.body:$.actor.id", "docs.body:$.to[*]", "docs.body:$.list[*].id"],
        ),
        (
            "a document under a key that is an id",
            "CREATE TABLE settings (who TEXT PRIMARY KEY, body TEXT) WITHOUT ROWID;
             INSERT INTO settings VALUES ('old1', '{\"friend\":\"old2\"}'), ('old2', '{}'),
                 ('stranger', '{\"friend\":\"old1\"}');",
            &["settings.who", "settings.body:$.friend"],
        ),
        (
            "triggers that count, a full-text index that follows, generated columns and checks",
            "CREATE TABLE users (clerk_id TEXT PRIMARY KEY CHECK (length(clerk_id) > 3), n INT,
                 short TEXT AS (substr(clerk_id, 1, 3)), long TEXT AS (clerk_id || '!') STORED);
             CREATE TABLE log (what);
             CREATE TRIGGER counts AFTER UPDATE ON users BEGIN INSERT INTO log VALUES ('no'); END;
             CREATE VIRTUAL TABLE found USING fts5(clerk_id, content='users');
             CREATE TRIGGER i AFTER INSERT ON users BEGIN
                 INSERT INTO found(rowid, clerk_id) VALUES (new.rowid, new.clerk_id); END;
             CREATE TRIGGER d AFTER DELETE ON users BEGIN
                 INSERT INTO found(found, rowid, clerk_id) VALUES ('delete', old.rowid, old.clerk_id);
                 END;
             CREATE TRIGGER u AFTER UPDATE ON users BEGIN
                 INSERT INTO found(found, rowid, clerk_id) VALUES ('delete', old.rowid, old.clerk_id);
                 INSERT INTO found(rowid, clerk_id) VALUES (new.rowid, new.clerk_id); END;
             INSERT INTO users (clerk_id, n) VALUES ('old1', 1), ('old2', 2), ('stranger', 3);",
            &["users.clerk_id"],
        ),
    ];
    for (what, sql, ids) in shapes {
        for lost in [false, true] {
            let mut world = World::new(sql, ids).created(2);
            let before = world.picture();
            world.cut().await;
            let worker = world.rewriting().await;
            assert_eq!(world.drive(&worker, lost).await, End::Done, "{what}");
            let after = world.picture();
            assert_ne!(after, before, "{what}");
            assert_eq!(world.drive(&worker, false).await, End::Done, "{what}: once more");
            assert_eq!(world.picture(), after, "{what}: nothing is left to do");
            let worker = world.restoring().await;
            assert_eq!(world.drive(&worker, lost).await, End::Done, "{what}");
            assert_eq!(world.picture(), before, "{what}: as it was");
            assert_eq!(world.unit.as_ref().unwrap().effect, None, "{what}");
        }
    }
}

#[tokio::test]
async fn documents_change_at_their_paths_and_nowhere_else() {
    let sql = "CREATE TABLE docs (id INTEGER PRIMARY KEY, body);
        INSERT INTO docs (body) VALUES
            ('{ \"a\" : {\"id\":\"old1\"}, \"n\": 1.50, \"free\":\"old1\"}'),
            ('{\"l\":[{\"id\":\"old2\"},\"old2\",{\"id\":[\"old2\"]}],\"old1\":1}'),
            ('{\"l\":\"old1\"}'), ('\"old1\"');";
    let ids = ["docs.body:$.a.id", "docs.body:$.l[*].id", "docs.body:$.l[*]"];
    let mut world = World::new(sql, &ids).created(2);
    assert_eq!(world.forth().await, End::Done);
    assert_eq!(
        world.ask("SELECT body FROM docs ORDER BY id"),
        [
            "{ \"a\" : {\"id\":\"new1\"}, \"n\": 1.50, \"free\":\"old1\"}",
            "{\"l\":[{\"id\":\"new2\"},\"new2\",{\"id\":[\"old2\"]}],\"old1\":1}",
            "{\"l\":\"old1\"}",
            "\"old1\"",
        ]
    );
}

#[tokio::test]
async fn who_has_no_counterpart_keeps_the_old_id_and_follows() {
    let mut world = World::new(USERS, &["users.clerk_id"]);
    world.memory.mapped("old1", "new1", Origin::Created);
    let failed = State::new(Stage::Exported, Condition::Failed);
    world.memory.put("old2", None, None, failed, true);
    let before = world.picture();
    assert_eq!(world.forth().await, End::Held);
    assert_eq!(
        world.ask("SELECT clerk_id FROM users ORDER BY rowid"),
        ["new1", "old2", "stranger"]
    );
    world.memory.has_come("old2", "new2");
    assert_eq!(world.forth().await, End::Done);
    assert_eq!(
        world.ask("SELECT clerk_id FROM users ORDER BY rowid"),
        ["new1", "new2", "stranger"]
    );
    assert_eq!(world.back().await, End::Done);
    assert_eq!(world.picture(), before);
}

/// The row that a webhook made goes, and comes back; rows that stood before stay as they are; rows
/// that the application puts in later go back with the others.
#[tokio::test]
async fn rows_under_new_ids() {
    let sql = "CREATE TABLE users (clerk_id TEXT PRIMARY KEY, email TEXT);
        CREATE TABLE posts (id INTEGER PRIMARY KEY, author TEXT);
        INSERT INTO users VALUES ('old1', 'a'), ('old2', 'b'), ('old3', 'c');
        INSERT INTO posts VALUES (1, 'old1'), (2, 'old2'), (3, 'old3');";
    let mut world = World::new(sql, &["users.clerk_id", "posts.author"]).created(2);
    world.memory.mapped("old3", "new3", Origin::Adopted);
    let original = world.picture();
    world.sql("INSERT INTO users VALUES ('new1', NULL);");
    world.sql("INSERT INTO posts VALUES (4, 'new3');");
    let before = world.picture();
    assert_eq!(world.forth().await, End::Done);
    let users = "SELECT clerk_id || coalesce(email, '') FROM users ORDER BY clerk_id";
    assert_eq!(world.ask(users), ["new1a", "new2b", "new3c"], "the webhook's row made room");

    world.sql("INSERT INTO posts VALUES (5, 'new2'), (6, 'new3');");
    let unit = world.unit.clone().unwrap();
    let places = world.places().await;
    let writer = world.writer().await;
    let back = weigh(writer.as_ref(), world.memory.as_ref(), &places, &unit, world.accounts)
        .await
        .unwrap();
    assert_eq!((back.rows["posts"], back.rows["users"], back.restored["users"]), (5, 3, 1));
    assert_eq!(world.back().await, End::Done);
    assert_eq!(
        world.ask("SELECT author FROM posts WHERE id > 3 ORDER BY id"),
        ["new3", "old2", "old3"],
        "what stood before stays; what came since belongs to the same people"
    );
    world.sql("DELETE FROM posts WHERE id > 4;");
    assert_eq!(world.picture(), before);
    world.sql("DELETE FROM posts WHERE id = 4; DELETE FROM users WHERE clerk_id = 'new1';");
    assert_eq!(world.picture(), original);
}

#[tokio::test]
async fn a_row_that_nobody_may_take_away_is_a_conflict_of_one_user() {
    let sql = "CREATE TABLE users (clerk_id TEXT PRIMARY KEY, email TEXT);
        CREATE TABLE posts (id INTEGER PRIMARY KEY, author TEXT REFERENCES users(clerk_id));
        INSERT INTO users VALUES ('old1', 'a'), ('old2', 'b'), ('old3', 'c'), ('new1', 'theirs'),
            ('new2', 'referred to');
        INSERT INTO posts VALUES (1, 'new2'), (2, 'old3');";
    let mut world = World::new(sql, &["users.clerk_id"]);
    world.memory.mapped("old1", "new1", Origin::Adopted);
    world.memory.mapped("old2", "new2", Origin::Created);
    world.memory.mapped("old3", "new3", Origin::Created);
    let End::Failed(failure) = world.forth().await else { panic!("two are in the way") };
    assert_eq!(failure.code, "row_conflict");
    let told = &failure.message;
    assert!(told.contains("old1") && told.contains("old2") && !told.contains("old3"), "{told}");
    let users = "SELECT clerk_id || email FROM users ORDER BY clerk_id";
    assert_eq!(world.ask(users), ["new1theirs", "new2referred to", "new3c", "old1a", "old2b"]);
}

#[tokio::test]
async fn a_row_that_the_database_refuses_keeps_one_user_back() {
    let sql = "CREATE TABLE users (clerk_id TEXT PRIMARY KEY CHECK (clerk_id <> 'new2'));
        INSERT INTO users VALUES ('old1'), ('old2'), ('old3');";
    let mut world = World::new(sql, &["users.clerk_id"]).created(3);
    let before = world.picture();
    let End::Failed(failure) = world.forth().await else { panic!("one is refused") };
    assert_eq!(failure.code, "row_rejected");
    assert!(failure.message.contains("old2") && failure.message.contains("CHECK"), "{failure:?}");
    assert_eq!(world.ask("SELECT clerk_id FROM users ORDER BY rowid"), ["new1", "old2", "new3"]);
    assert_eq!(world.back().await, End::Done);
    assert_eq!(world.picture(), before);
}

/// Old ids that the application goes on writing are found when the lot is taken up again.
#[tokio::test]
async fn old_ids_that_come_back_are_exchanged_when_the_lot_is_reopened() {
    let mut world = World::new(
        "CREATE TABLE posts (id INTEGER PRIMARY KEY, author TEXT);
         INSERT INTO posts VALUES (1, 'old1'), (2, 'old2');",
        &["posts.author"],
    )
    .created(2);
    assert_eq!(world.forth().await, End::Done);
    world.sql("INSERT INTO posts VALUES (3, 'old1');");
    assert_eq!(world.forth().await, End::Done);
    assert_eq!(world.ask("SELECT author FROM posts ORDER BY id"), ["new1", "new2", "new1"]);
    assert_eq!(world.back().await, End::Done);
    assert_eq!(world.ask("SELECT author FROM posts ORDER BY id"), ["old1", "old2", "old1"]);
}

/// A row under the old id that came after the rewrite, where ours stands under the new one.
#[tokio::test]
async fn the_users_own_row_is_never_taken_for_a_webhooks() {
    let mut world = World::new(USERS, &["users.clerk_id"]).created(2);
    assert_eq!(world.forth().await, End::Done);
    world.sql("INSERT INTO users VALUES ('old1', 'late');");
    let End::Failed(failure) = world.forth().await else { panic!("two rows for one") };
    assert_eq!(failure.code, "row_conflict");
    let users = "SELECT clerk_id || email FROM users ORDER BY rowid";
    assert_eq!(world.ask(users), ["new1a", "new2b", "strangerc", "old1late"]);
}

#[tokio::test]
async fn what_speaks_against_it_is_said() {
    let sql = "CREATE TABLE users (clerk_id TEXT PRIMARY KEY);
        CREATE TABLE posts (author TEXT REFERENCES users(clerk_id));
        CREATE TABLE seen (who TEXT);";
    let mut world = World::new(sql, &["users.clerk_id", "seen.who"]);
    assert_eq!(world.findings().await, ["reference_unindexed", "id_unindexed"]);
    world.sql("CREATE INDEX p ON posts (author); CREATE INDEX s ON seen (who);");
    assert_eq!(world.findings().await, Vec::<String>::new());
    world.exclude = vec!["posts".to_owned()];
    assert_eq!(world.findings().await, ["referring_table_excluded"]);
}
