//! Rows there and back: what this migration wrote goes, and not a byte of anything else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

mod support;

use support::back::{Back, Trouble, Yard};

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
