//! Rows there and back: what this migration wrote goes, and not a byte of anything else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

mod support;

use support::back::Back;
use support::yard::{Trouble, Yard};

/// Two circles (a user's favourite badge, a comment's parent), a JSON column, a table without a
/// usable key, and what hangs below.
const SCHEMA: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, clerk_id TEXT NOT NULL UNIQUE, name TEXT,
        favorite INTEGER REFERENCES badges(id));
    CREATE TABLE badges (id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL
        REFERENCES users(clerk_id) ON DELETE CASCADE, big INTEGER, real REAL, any);
    CREATE TABLE images (badge INTEGER PRIMARY KEY REFERENCES badges(id) ON DELETE CASCADE,
        image BLOB);
    CREATE TABLE comments (id INTEGER PRIMARY KEY, author TEXT REFERENCES users(clerk_id),
        parent INTEGER REFERENCES comments(id) ON DELETE CASCADE, body TEXT);
    CREATE TABLE log (payload TEXT);";
const IDS: &[&str] = &["users.clerk_id", "log.payload:$.actor"];

/// Ten users with two badges each, a tree of comments over several spans; in the target three
/// users of the application's own with everything that they have, and for every created account
/// a row that the application's webhook made, under numbers that collide with ours.
fn town() -> Yard {
    let mut yard = Yard::new(SCHEMA, IDS);
    yard.execute(
        "source.sqlite",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
         INSERT INTO users SELECT i, 'user_' || i, 'name ' || i, i * 2 FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
         INSERT INTO badges SELECT i, 'user_' || ((i + 1) / 2), 9223372036854775807 - i,
             i / 7.0, CASE i % 3 WHEN 0 THEN x'00ff' WHEN 1 THEN 1.0 END FROM n;
         INSERT INTO images SELECT id, zeroblob(10) FROM badges WHERE id % 2;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
         INSERT INTO comments SELECT i, 'user_' || (1 + i % 10),
             CASE WHEN i > 5990 THEN i - 5900 WHEN i % 5 THEN 6001 - i END, 'c' || i FROM n;
         UPDATE comments SET parent = NULL WHERE parent > 6000 OR parent = id;
         UPDATE comments SET parent = id - 1 WHERE id BETWEEN 100 AND 140;
         INSERT INTO log SELECT json_object('actor', clerk_id, 'at', id) FROM users;",
    );
    yard.execute(
        "target.sqlite",
        "INSERT INTO users VALUES (101, 'own_1', 'Own', NULL), (102, 'own_2', NULL, NULL);
         INSERT INTO badges VALUES (900, 'own_1', 1, 1.5, 'x'), (901, 'own_2', 2, 2.5, 1);
         UPDATE users SET favorite = 901 WHERE id = 101;
         INSERT INTO images VALUES (900, x'01');
         INSERT INTO comments VALUES (9000, 'own_1', NULL, 'a'), (9001, 'own_2', 9000, 'b');
         INSERT INTO log VALUES ('{\"actor\":\"own_1\"}'), (NULL), ('text');
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
         INSERT INTO users SELECT 1 + (i * 3) % 10, 'new_' || i, NULL, NULL FROM n;",
    );
    // A rowid of the log must not be taken by ours.
    yard.execute("target.sqlite", "UPDATE log SET rowid = rowid + 100");
    yard.users = (1..=10).map(|n| format!("user_{n}")).collect();
    yard
}

#[test]
fn everything_goes_back_to_the_byte_and_forth_again() {
    let mut yard = town();
    let before = yard.dump();
    yard.forth().unwrap();
    let after = yard.dump();
    assert!(after.len() > before.len() + 6000, "{}", after.len());
    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    assert_eq!(said.counts["comments"].remove, 6000);
    assert_eq!((said.counts["users"].remove, said.counts["users"].restore), (10, 10));
    pretty(&before, &yard.dump());
    yard.assert_all_back();

    yard.forth().unwrap();
    pretty(&after, &yard.dump());
    yard.back(&Back::default()).unwrap();
    pretty(&before, &yard.dump());
    yard.assert_all_back();
}

/// Compares two dumps and shows only what differs.
fn pretty(expected: &[String], found: &[String]) {
    let missing: Vec<_> = expected.iter().filter(|row| !found.contains(row)).take(20).collect();
    let extra: Vec<_> = found.iter().filter(|row| !expected.contains(row)).take(20).collect();
    assert!(expected == found, "missing: {missing:#?}\nextra: {extra:#?}");
}

#[test]
fn lost_answers_change_nothing() {
    let mut yard = town();
    let before = yard.dump();
    yard.trouble = Trouble::Lost;
    yard.forth().unwrap();
    yard.assert_all_there();
    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    pretty(&before, &yard.dump());
    yard.assert_all_back();
}

/// A smaller town, of which every request can be tried.
const VILLAGE: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, clerk_id TEXT NOT NULL UNIQUE, name TEXT,
        favorite INTEGER REFERENCES badges(id) ON DELETE SET NULL);
    CREATE TABLE badges (id INTEGER PRIMARY KEY, owner TEXT NOT NULL
        REFERENCES users(clerk_id) ON DELETE CASCADE, data TEXT);
    CREATE TABLE images (badge INTEGER PRIMARY KEY REFERENCES badges(id) ON DELETE CASCADE,
        image BLOB);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, badge INTEGER REFERENCES badges(id)
        ON DELETE CASCADE, text TEXT);";

fn village() -> Yard {
    settle_in(Yard::new(VILLAGE, &["users.clerk_id"]))
}

fn settle_in(mut yard: Yard) -> Yard {
    yard.execute(
        "source.sqlite",
        "INSERT INTO users VALUES (1, 'user_a', 'Ann', 20), (2, 'user_b', 'Bob', 20),
             (3, 'user_c', 'Cid', NULL);
         INSERT INTO badges VALUES (10, 'user_a', 'x'), (20, 'user_b', 'y'), (30, 'user_c', NULL);
         INSERT INTO images VALUES (10, x'00'), (20, x'01'), (30, NULL);",
    );
    yard.execute(
        "target.sqlite",
        "INSERT INTO users VALUES (3, 'new_a', NULL, NULL), (2, 'new_b', 'b', NULL),
             (90, 'own', 'Own', 91);
         INSERT INTO badges VALUES (91, 'own', 'mine');
         INSERT INTO images VALUES (91, x'ff');
         INSERT INTO notes VALUES (1, 91, 'own note');",
    );
    yard.users = ["a", "b", "c"].map(|name| format!("user_{name}")).to_vec();
    yard
}

#[test]
fn a_death_at_any_request_there_or_back_changes_nothing() {
    let mut yard = village();
    let before = yard.dump();
    yard.forth().unwrap();
    let (there, after) = (yard.writes, yard.dump());
    yard.back(&Back::default()).unwrap();
    let back = yard.writes;
    pretty(&before, &yard.dump());
    assert!(there >= 4 && back >= 4, "{there} {back}");
    // Two spans are on their way at once, so a run may need a request less than the first one did.
    let mut deaths = 0;
    for late in [false, true] {
        for at in 0..there {
            let mut yard = village();
            yard.trouble = Trouble::Dies { at, after: late };
            if yard.forth().is_some() {
                continue;
            }
            deaths += 1;
            yard.trouble = Trouble::None;
            // Straight back from here.
            let said = yard.back(&Back::default()).unwrap();
            assert!(said.refused.is_empty(), "{at} {late}: {:?}", said.refused);
            pretty(&before, &yard.dump());
            yard.forth().unwrap();
            pretty(&after, &yard.dump());
        }
        for at in 0..back {
            let mut yard = village();
            yard.forth().unwrap();
            yard.trouble = Trouble::Dies { at, after: late };
            if yard.back(&Back::default()).is_some() {
                continue;
            }
            deaths += 1;
            yard.trouble = Trouble::None;
            if at % 2 == 0 {
                // Forth again from the middle of the way back, and all the way back.
                yard.forth().unwrap();
                pretty(&after, &yard.dump());
            }
            let said = yard.back(&Back::default()).unwrap();
            assert!(said.refused.is_empty(), "{at} {late}: {:?}", said.refused);
            pretty(&before, &yard.dump());
            yard.assert_all_back();
        }
    }
    assert!(deaths + 4 >= (there + back) * 2, "{deaths} deaths of {there} and {back} requests");
}

#[test]
fn what_the_application_changed_stays_with_its_parents_until_forced() {
    let mut yard = village();
    let before = yard.dump();
    yard.forth().unwrap();
    yard.live("UPDATE images SET image = x'77' WHERE badge = 10");
    yard.live("DELETE FROM images WHERE badge = 30");
    let said = yard.back(&Back::default()).unwrap();
    assert_eq!(
        said.codes(),
        [
            "badges 10 row_referred",
            // Ann's favourite badge is Bob's, and his stays for her.
            "badges 20 row_referred",
            "images 10 row_changed",
            "users 1 row_referred",
            "users 2 row_referred",
            // Ann's webhook row had number 3, and her address is taken as long as hers stays.
            "users 3 place_taken",
        ]
    );
    assert_eq!((said.counts["images"].gone, said.counts["images"].remove), (1, 1));
    let left: Vec<_> = yard.dump().into_iter().filter(|row| !before.contains(row)).collect();
    assert_eq!(left.len(), 5, "{left:#?}");
    let failures = yard.reader().failures(None, rehome_core::UnitId(0), 10).unwrap();
    let stuck: Vec<_> = failures.iter().map(|row| row.source_key.as_str()).collect();
    assert_eq!(stuck, ["badges#1", "users#1", "images#1"]);
    let hint = failures[2].failure.as_ref().unwrap();
    assert!(hint.message.contains("images 10 was changed"), "{hint:?}");
    // A span in which rows stay for several reasons says what to do about each.
    let users = failures[1].failure.as_ref().unwrap().hint.as_deref().unwrap();
    assert!(users.contains("point them elsewhere") && users.contains("has its place"), "{users}");

    // Again says the same; forced it goes.
    assert_eq!(yard.back(&Back::default()).unwrap().codes(), said.codes());
    let said = yard.back(&Back { force: true, ..Back::default() }).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    pretty(&before, &yard.dump());
    yard.assert_all_back();
}

#[test]
fn nothing_of_the_application_is_torn_along_whatever_on_delete_says() {
    for sql in [
        "INSERT INTO notes VALUES (5, 20, 'on a badge of ours')",
        "UPDATE users SET favorite = 20 WHERE clerk_id = 'own'",
    ] {
        let mut yard = village();
        yard.forth().unwrap();
        yard.live(sql);
        let own = |yard: &Yard| -> Vec<String> {
            let all = yard.dump();
            all.into_iter().filter(|row| row.contains("'own") || row.starts_with("notes")).collect()
        };
        let before = own(&yard);
        for force in [false, true] {
            let said = yard.back(&Back { force, ..Back::default() }).unwrap();
            assert_eq!(
                said.codes(),
                ["badges 20 row_referred", "users 2 row_referred"],
                "{:?}",
                said.refused
            );
            assert_eq!(own(&yard), before, "{sql}");
        }
    }
}

#[test]
fn only_what_names_the_chosen_goes_and_what_hangs_below() {
    let mut yard = village();
    yard.forth().unwrap();
    let only = Back { only: Some(vec!["user_c".to_owned()]), ..Back::default() };
    let after = yard.dump();
    let said = yard.back(&only).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    let gone: Vec<_> = {
        let now = yard.dump();
        after.iter().filter(|row| !now.contains(row)).cloned().collect()
    };
    assert_eq!(
        gone,
        [
            "badges: integer 30|text 'new_c'|null NULL",
            "images: integer 30|null NULL",
            "users: integer 3|text 'new_c'|text 'Cid'|null NULL",
        ]
    );
    assert_eq!((said.counts["badges"].remove, said.counts["badges"].left), (1, 2));
    assert!(yard.spans().iter().all(|unit| unit.effect.is_some()), "the rest is still known");
    // Forth again, and all of it back.
    yard.forth().unwrap();
    pretty(&after, &yard.dump());
    yard.back(&only).unwrap();
    yard.back(&Back::default()).unwrap();
    pretty(&village().dump(), &yard.dump());
    yard.assert_all_back();
}

#[test]
fn an_account_that_stays_keeps_its_rows_whole() {
    let mut yard = village();
    yard.forth().unwrap();
    yard.stick("user_c");
    let said = yard.back(&Back::default()).unwrap();
    assert_eq!(
        said.codes(),
        [
            "badges 30 account_stuck",
            "images 30 account_stuck",
            "users 3 account_stuck",
            // Ann's webhook row stood there.
            "users 3 place_taken"
        ]
    );
    let kept = yard.dump();
    assert!(kept.contains(&"images: integer 30|null NULL".to_owned()), "{kept:#?}");
    assert!(!kept.iter().any(|row| row.contains("'Ann'")), "{kept:#?}");
}

#[test]
fn a_tree_without_empty_references_goes_leaf_by_leaf() {
    let mut yard = Yard::new(
        "CREATE TABLE nodes (id INTEGER PRIMARY KEY, up INTEGER NOT NULL REFERENCES nodes(id),
             owner TEXT)",
        &["nodes.owner"],
    );
    yard.execute(
        "source.sqlite",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
         INSERT INTO nodes SELECT i, max(1, i - 1000), 'user_a' FROM n;",
    );
    yard.execute("target.sqlite", "INSERT INTO nodes VALUES (9999, 9999, 'own')");
    yard.users = vec!["user_a".to_owned()];
    let before = yard.dump();
    // Each run takes the next generation of those who hold what they wait for.
    for _ in 0..3 {
        yard.forth().unwrap();
    }
    assert_eq!(yard.dump().len(), 6001);
    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    pretty(&before, &yard.dump());
    yard.assert_all_back();
}

#[test]
fn spans_that_arrived_in_part_go_back_too() {
    let mut yard = village();
    let before = yard.dump();
    yard.failing = vec!["user_b".to_owned()];
    yard.forth().unwrap();
    assert_ne!(before, yard.dump());
    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    pretty(&before, &yard.dump());
}

#[test]
fn a_request_that_would_be_too_large_goes_in_parts() {
    let mut yard = village();
    let before = yard.dump();
    yard.forth().unwrap();
    let tiny = rehome_records::Limits { row: 10_000, parameter: 200, request: 3_000 };
    yard.limits = Some(tiny);
    assert!(yard.writes < 10);
    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    pretty(&before, &yard.dump());
    yard.assert_all_back();
}

#[test]
fn keys_that_may_be_null_and_tables_without_one_go_back() {
    let mut yard = Yard::new(
        "CREATE TABLE people (clerk TEXT PRIMARY KEY, boss TEXT REFERENCES people(clerk));
         CREATE TABLE maybe (k TEXT PRIMARY KEY, v);
         CREATE TABLE pairs (a TEXT COLLATE NOCASE, b INTEGER, who TEXT REFERENCES people(clerk),
             PRIMARY KEY (a, b)) WITHOUT ROWID;
         CREATE TABLE loose (x, who TEXT);",
        &["people.clerk", "loose.who"],
    );
    yard.execute(
        "source.sqlite",
        "INSERT INTO people VALUES ('user_a', 'user_b'), ('user_b', 'user_a');
         INSERT INTO maybe VALUES (NULL, 1), (NULL, 2), ('k', 3.0);
         INSERT INTO pairs VALUES ('Ab', 1, 'user_a'), ('ab', 2, 'user_b'), ('c', 1, NULL);
         INSERT INTO loose VALUES (1, 'user_a'), (1, 'user_a'), (NULL, NULL), (x'00', 'user_b');",
    );
    yard.execute(
        "target.sqlite",
        "INSERT INTO people VALUES ('own', 'own'), ('new_a', NULL);
         INSERT INTO maybe (rowid, k, v) VALUES (70, NULL, 9);
         INSERT INTO loose (rowid, x) VALUES (99, 1);",
    );
    yard.users = vec!["user_a".to_owned(), "user_b".to_owned()];
    let before = yard.dump();
    yard.forth().unwrap();
    assert_eq!(yard.dump().len(), before.len() + 11);
    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    pretty(&before, &yard.dump());
    yard.assert_all_back();
}

#[test]
fn without_digests_nothing_is_proved_and_only_force_removes() {
    let mut yard = village();
    let before = yard.dump();
    yard.forth().unwrap();
    let after = yard.dump();
    let said = yard.back(&Back { blind: true, ..Back::default() }).unwrap();
    // What makes room again is not proved either.
    assert!(said.refused.iter().all(|one| one.code == "no_digest"), "{:?}", said.refused);
    assert_eq!(said.refused.len(), 9);
    pretty(&after, &yard.dump());
    let force = Back { blind: true, force: true, ..Back::default() };
    assert!(yard.back(&force).unwrap().refused.is_empty());
    pretty(&before, &yard.dump());
}

#[test]
fn from_d1_to_d1_and_back_though_the_process_dies() {
    let mut yard = settle_in(Yard::over_d1(VILLAGE, &["users.clerk_id"]));
    let before = yard.dump();
    yard.forth().unwrap();
    assert_ne!(before, yard.dump());
    yard.trouble = Trouble::Dies { at: 2, after: true };
    assert!(yard.back(&Back::default()).is_none());
    yard.trouble = Trouble::None;
    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    pretty(&before, &yard.dump());
    yard.assert_all_back();

    yard.forth().unwrap();
    yard.live("INSERT INTO notes VALUES (5, 20, 'on a badge of ours')");
    let said = yard.back(&Back::default()).unwrap();
    assert_eq!(said.codes(), ["badges 20 row_referred", "users 2 row_referred"]);
    assert!(yard.dump().iter().any(|row| row.contains("on a badge of ours")));
}

#[test]
fn what_comes_between_the_look_and_the_request_is_seen() {
    // Each is true when the plan is made, and not any more when the request arrives.
    for (table, sql, seen) in [
        ("images", "UPDATE images SET image = x'99' WHERE badge = 10", "image = x'99'"),
        ("badges", "INSERT OR IGNORE INTO notes VALUES (5, 30, 'late')", "text = 'late'"),
    ] {
        let mut yard = village();
        let before = yard.dump();
        yard.forth().unwrap();
        yard.trouble = Trouble::Meddled { table, sql };
        let said = yard.back(&Back::default()).unwrap();
        assert!(said.refused.is_empty(), "nothing spoke against it: {:?}", said.refused);
        let table = if table == "images" { "images" } else { "notes" };
        let connection = rusqlite::Connection::open(yard.path("target.sqlite")).unwrap();
        let there = format!("SELECT 1 FROM {table} WHERE {seen}");
        assert!(connection.prepare(&there).unwrap().exists([]).unwrap(), "{sql}");
        let stuck = yard.reader().failures(None, rehome_core::UnitId(0), 10).unwrap();
        assert!(!stuck.is_empty(), "{sql}");
        // And it can be settled afterwards.
        yard.trouble = Trouble::None;
        yard.live("DELETE FROM notes WHERE id = 5");
        let said = yard.back(&Back { force: true, ..Back::default() }).unwrap();
        assert!(said.refused.is_empty(), "{:?}", said.refused);
        pretty(&before, &yard.dump());
        yard.assert_all_back();
    }
}
