//! References among keys that are exchanged in place, under every ON UPDATE action: in any order of
//! columns, in circles, and under collations that take two spellings for one. Over a file and over
//! the emulated D1; no reference may be lost on either way.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test may")]

mod support;

use rehome_core::Failure;
use support::one::{End, World};

/// The world as a file, and once more behind the emulated D1.
async fn both(sql: &str, ids: &[&str], users: u32) -> [World; 2] {
    let world = || World::new(sql, ids).created(users);
    [world(), world().in_the_cloud().await]
}

/// There, nothing more to do, and back as it was; `question` asks for the references.
async fn there_and_back(what: &str, sql: &str, ids: &[&str], question: &str) {
    for lost in [false, true] {
        for mut world in both(sql, ids, 3).await {
            let before = world.picture();
            let wanted: Vec<_> =
                world.ask(question).iter().map(|row| row.replace("old", "new")).collect();
            world.cut().await;
            let worker = world.rewriting().await;
            assert_eq!(world.drive(&worker, lost).await, End::Done, "{what}");
            assert_eq!(world.ask(question), wanted, "{what}");
            assert_eq!(world.drive(&worker, false).await, End::Done, "{what}: once more");
            assert_eq!(world.ask(question), wanted, "{what}: nothing is left to do");
            let worker = world.restoring().await;
            assert_eq!(world.drive(&worker, lost).await, End::Done, "{what}");
            assert_eq!(world.picture(), before, "{what}: as it was");
        }
    }
}

/// A key that is itself a reference, and another column of the same table that refers to it.
#[tokio::test]
async fn a_column_that_refers_to_the_key_beside_it() {
    for action in ["SET NULL", "SET DEFAULT", "CASCADE", "RESTRICT", "NO ACTION"] {
        let sql = format!(
            "CREATE TABLE users (clerk_id TEXT PRIMARY KEY);
             CREATE TABLE emp (uid TEXT PRIMARY KEY REFERENCES users (clerk_id) ON UPDATE {action},
                 mgr TEXT DEFAULT 'old3' REFERENCES emp (uid) ON UPDATE {action});
             INSERT INTO users VALUES ('old1'), ('old2'), ('old3');
             INSERT INTO emp VALUES ('old3', 'old3'), ('old2', 'old3'), ('old1', 'old2');"
        );
        let refers = "SELECT uid || ' ' || coalesce(mgr, 'NULL') FROM emp ORDER BY rowid";
        there_and_back(action, &sql, &["users.clerk_id"], refers).await;
    }
}

/// The tables are in a circle; their columns are not.
#[tokio::test]
async fn two_tables_that_refer_to_each_other() {
    for action in ["SET NULL", "SET DEFAULT", "CASCADE", "RESTRICT", "NO ACTION"] {
        let sql = format!(
            "PRAGMA foreign_keys = off;
             CREATE TABLE profiles (uid TEXT PRIMARY KEY,
                 owner TEXT REFERENCES users (uid) ON UPDATE {action});
             CREATE TABLE users (uid TEXT PRIMARY KEY,
                 main_profile TEXT REFERENCES profiles (uid) ON UPDATE {action});
             INSERT INTO profiles VALUES ('old1', 'old1'), ('old2', 'old1'), ('old3', NULL);
             INSERT INTO users VALUES ('old1', 'old2'), ('old2', NULL), ('old3', 'old1');"
        );
        let refers = "SELECT uid || ' ' || coalesce(owner, 'NULL') FROM profiles UNION ALL
                      SELECT uid || ' ' || coalesce(main_profile, 'NULL') FROM users";
        there_and_back(action, &sql, &["users.uid", "profiles.uid"], refers).await;
    }
}

/// Columns in a circle leave no order. Where the reference follows by itself, or waits for the end
/// of the request, none is needed.
#[tokio::test]
async fn keys_that_are_references_to_each_other() {
    for action in ["CASCADE", "NO ACTION"] {
        let pairs = format!(
            "PRAGMA foreign_keys = off;
             CREATE TABLE a (uid TEXT PRIMARY KEY REFERENCES b (uid) ON UPDATE {action});
             CREATE TABLE b (uid TEXT PRIMARY KEY REFERENCES a (uid) ON UPDATE {action});
             CREATE TABLE of_a (id INTEGER PRIMARY KEY, who TEXT REFERENCES a (uid)
                 ON UPDATE SET NULL);
             INSERT INTO a VALUES ('old1'), ('old2'); INSERT INTO b VALUES ('old2'), ('old1');
             INSERT INTO of_a (who) VALUES ('old1'), (NULL), ('old2');"
        );
        let refers = "SELECT uid FROM a UNION ALL SELECT uid FROM b UNION ALL
                      SELECT coalesce(who, 'NULL') FROM of_a";
        there_and_back(action, &pairs, &["a.uid"], refers).await;

        let folders = format!(
            "CREATE TABLE folders (owner TEXT, id INT, above INT, PRIMARY KEY (owner, id),
                 FOREIGN KEY (owner, above) REFERENCES folders (owner, id) ON UPDATE {action})
                 WITHOUT ROWID;
             INSERT INTO folders VALUES ('old1', 1, NULL), ('old1', 2, 1), ('old1', 3, 2),
                 ('old2', 1, NULL), ('old2', 2, 1), ('old3', 9, NULL);"
        );
        let refers = "SELECT owner || ' ' || id || ' ' || coalesce(above, '') FROM folders";
        there_and_back(action, &folders, &["folders.owner"], refers).await;

        let friends = format!(
            "PRAGMA foreign_keys = off;
             CREATE TABLE friends (a TEXT, b TEXT, PRIMARY KEY (a, b),
                 FOREIGN KEY (b, a) REFERENCES friends (a, b) ON UPDATE {action});
             INSERT INTO friends VALUES ('old1', 'old2'), ('old2', 'old1'), ('old3', 'old3');"
        );
        let refers = "SELECT a || ' ' || b FROM friends ORDER BY rowid";
        there_and_back(action, &friends, &["friends.a", "friends.b"], refers).await;
    }
}

const FOLDERS_THAT_EMPTY: &str =
    "CREATE TABLE folders (owner TEXT, id INT, above INT, PRIMARY KEY (owner, id),
         FOREIGN KEY (owner, above) REFERENCES folders (owner, id) ON UPDATE SET NULL);
     INSERT INTO folders VALUES ('old1', 1, NULL), ('old1', 2, 1), ('old2', 1, NULL);";

/// A circle in which an action would empty, replace or refuse what refers is refused beforehand.
#[tokio::test]
async fn a_circle_that_no_order_can_keep_is_refused() {
    let world = World::new(FOLDERS_THAT_EMPTY, &["folders.owner"]);
    let told = "references_circle";
    assert!(world.findings().await.contains(&told.to_owned()), "{:?}", world.findings().await);
    for (action, refused) in
        [("SET DEFAULT", true), ("RESTRICT", true), ("CASCADE", false), ("NO ACTION", false)]
    {
        let world = World::new(&FOLDERS_THAT_EMPTY.replace("SET NULL", action), &["folders.owner"]);
        assert_eq!(world.findings().await.contains(&told.to_owned()), refused, "{action}");
    }
}

/// What no check foresaw: the request itself holds that no row has lost an id, and who it
/// concerns is named.
#[tokio::test]
async fn a_request_that_would_lose_an_id_is_taken_back_by_itself() {
    for mut world in both(FOLDERS_THAT_EMPTY, &["folders.owner"], 2).await {
        let failure = failed(world.forth().await);
        assert_eq!(failure.code, "row_rejected");
        // D1 adds a code of its own.
        let told = failure.message.split(": SQLITE_").next().unwrap();
        insta::allow_duplicates! {
            insta::assert_snapshot!(
                told,
                @"user old1: CHECK constraint failed: references of folders.owner would get lost"
            );
        }
        let refers = "SELECT owner || ' ' || id || ' ' || coalesce(above, '') FROM folders
                      ORDER BY rowid";
        assert_eq!(world.ask(refers), ["old1 1 ", "old1 2 1", "new2 1 "]);
        assert_eq!(world.back().await, End::Done);
        assert_eq!(world.ask(refers), ["old1 1 ", "old1 2 1", "old2 1 "]);
    }
}

/// A reference that the key's collation takes for the key, and that is no id byte for byte: torn off
/// or spelled anew it could not be given back, so it stays, and so does its user.
#[tokio::test]
async fn a_reference_in_another_spelling_is_left_and_named() {
    for action in ["SET NULL", "SET DEFAULT", "CASCADE", "RESTRICT", "NO ACTION"] {
        let sql = format!(
            "CREATE TABLE users (clerk_id TEXT COLLATE NOCASE PRIMARY KEY);
             CREATE TABLE posts (id INTEGER PRIMARY KEY, author TEXT DEFAULT 'old3'
                 REFERENCES users (clerk_id) ON UPDATE {action});
             INSERT INTO users VALUES ('old1'), ('OLD2'), ('old3'), ('stranger');
             INSERT INTO posts VALUES (1, 'old1'), (2, 'Old1'), (3, 'old2'), (4, 'old3'),
                 (5, 'STRANGER');"
        );
        for mut world in both(&sql, &["users.clerk_id"], 3).await {
            let failure = failed(world.forth().await);
            assert_eq!(failure.code, "reference_spelling", "{action}");
            insta::allow_duplicates! {
                insta::assert_snapshot!(
                    failure.message,
                    @"user old1: posts.author Old1 refers to users.clerk_id old1 in another spelling; user old2: posts.author old2 refers to users.clerk_id OLD2 in another spelling"
                );
            }
            let posts = "SELECT coalesce(author, 'NULL') FROM posts ORDER BY id";
            assert_eq!(world.ask(posts), ["old1", "Old1", "old2", "new3", "STRANGER"], "{action}");

            // Spelled alike they come, and a later spelling keeps them from going back.
            world.sql(
                "UPDATE posts SET author = 'old1' WHERE id = 2;
                       UPDATE users SET clerk_id = 'old2' WHERE clerk_id = 'OLD2';",
            );
            assert_eq!(world.forth().await, End::Done, "{action}");
            world.sql("UPDATE posts SET author = 'NEW3' WHERE id = 4;");
            let failure = failed(world.back().await);
            assert_eq!(failure.code, "reference_spelling", "{action}");
            assert!(failure.message.contains("old3"), "{failure:?}");
            assert_eq!(world.ask(posts), ["old1", "old1", "old2", "NEW3", "STRANGER"], "{action}");
            world.sql("UPDATE posts SET author = 'new3' WHERE id = 4;");
            assert_eq!(world.back().await, End::Done, "{action}");
            assert_eq!(world.ask(posts), ["old1", "old1", "old2", "old3", "STRANGER"], "{action}");
        }
    }
}

/// A row of a webhook's to which another refers only by the key's collation is as much in the way as
/// any other that is referred to: ON DELETE would reach what refers to it.
#[tokio::test]
async fn a_row_that_is_referred_to_in_another_spelling_does_not_make_room() {
    let sql = "CREATE TABLE users (clerk_id TEXT COLLATE NOCASE PRIMARY KEY, n);
         CREATE TABLE posts (id INTEGER PRIMARY KEY, author TEXT
             REFERENCES users (clerk_id) ON DELETE CASCADE);
         INSERT INTO users VALUES ('old1', 1), ('new1', NULL), ('old2', 2);
         INSERT INTO posts VALUES (1, 'NEW1');";
    for mut world in both(sql, &["users.clerk_id"], 2).await {
        let failure = failed(world.forth().await);
        assert_eq!(failure.code, "row_conflict");
        assert!(failure.message.contains("rows of posts refer to it"), "{failure:?}");
        let users = world.ask("SELECT clerk_id FROM users ORDER BY clerk_id");
        assert_eq!(users, ["new1", "new2", "old1"]);
        assert_eq!(world.ask("SELECT author FROM posts"), ["NEW1"]);
    }
}

fn failed(end: End) -> Failure {
    match end {
        End::Failed(failure) => failure,
        End::Done | End::Held => panic!("{end:?}"),
    }
}
