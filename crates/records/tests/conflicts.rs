//! Rows whose place in a live target is taken, under each policy: what becomes of them and of
//! those below, what a plan says before, and that a rollback leaves the target as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

mod support;

use rehome_core::{Condition, Stage};
use rehome_records::policy::OnConflict;
use support::back::Back;
use support::yard::{Trouble, Yard};

const SCHEMA: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, clerk_id TEXT NOT NULL UNIQUE, name TEXT);
    CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, color TEXT);
    CREATE TABLE posts (id INTEGER PRIMARY KEY, author TEXT REFERENCES users(clerk_id),
        slug TEXT, title TEXT, UNIQUE (author, slug));
    CREATE TABLE comments (id INTEGER PRIMARY KEY, post INTEGER REFERENCES posts(id),
        body TEXT);
    CREATE TABLE marks (comment INTEGER REFERENCES comments(id), tag TEXT REFERENCES tags(name),
        PRIMARY KEY (comment, tag)) WITHOUT ROWID;";

/// Ann has an account on both sides, with a row of her own in the target. Post 1 of the target is
/// a stranger's, and has a comment. The tag `rust` is there under another number.
fn town() -> Yard {
    let mut yard = Yard::new(SCHEMA, &["users.clerk_id"]);
    yard.execute(
        "source.sqlite",
        "INSERT INTO users VALUES (1, 'user_ann', 'Ann'), (2, 'user_bob', 'Bob');
         INSERT INTO tags VALUES (1, 'rust', 'red'), (2, 'sql', 'blue');
         INSERT INTO posts VALUES (1, 'user_ann', 'a', 'ours'), (2, 'user_ann', 'b', 'second'),
             (3, 'user_bob', 'a', 'third');
         INSERT INTO comments VALUES (10, 1, 'on ours'), (11, 2, 'on second'), (12, 3, 'x');
         INSERT INTO marks VALUES (10, 'rust'), (11, 'rust'), (12, 'sql');",
    );
    yard.execute(
        "target.sqlite",
        "INSERT INTO users VALUES (5, 'new_ann', 'live Ann'), (7, 'own_z', 'Zoe');
         INSERT INTO tags VALUES (9, 'rust', 'green');
         INSERT INTO posts VALUES (1, 'own_z', 'z', 'theirs'), (50, 'own_z', 'y', 'more');
         INSERT INTO comments VALUES (900, 1, 'on theirs');",
    );
    yard.users = ["user_ann", "user_bob"].map(str::to_owned).to_vec();
    yard.adopted = vec!["user_ann".to_owned()];
    yard
}

fn ask(yard: &Yard, sql: &str) -> Vec<String> {
    let connection = rusqlite::Connection::open(yard.path("target.sqlite")).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn failures(yard: &Yard) -> Vec<String> {
    let spans = yard.spans().into_iter();
    spans
        .filter(|unit| unit.state.condition == Condition::Failed)
        .map(|unit| unit.failure.unwrap().message)
        .collect()
}

const SKIP: &[(&str, OnConflict)] =
    &[("Users", OnConflict::Skip), ("tags", OnConflict::Skip), ("posts", OnConflict::Skip)];

#[test]
fn by_default_a_conflict_fails_and_names_both_rows() {
    let mut yard = town();
    yard.forth().unwrap();
    let failed = failures(&yard);
    assert!(
        failed.iter().any(|one| one
            .contains("users 1 cannot be added: users 5 of the target has the same clerk_id")),
        "{failed:?}"
    );
    assert!(
        failed
            .iter()
            .any(|one| one
                .contains("tags 1 cannot be added: tags 9 of the target has the same name")),
        "{failed:?}"
    );
    assert!(
        failed.iter().any(|one| one
            .contains("posts 1 is in the target already and differs in author, slug, title")),
        "{failed:?}"
    );
    let plans = yard.foretell();
    assert_eq!((plans["tags"].conflict, plans["posts"].conflict), (1, 1));
    assert!(plans["tags"].examples[0].contains("tags 9 of the target has the same name"));
}

#[test]
fn skipped_rows_yield_to_what_is_the_same_thing_and_take_their_children_along_otherwise() {
    let mut yard = town();
    yard.on_conflict(SKIP);
    let before = yard.dump();
    yard.forth().unwrap();
    yard.assert_all_there();
    assert_eq!(
        ask(&yard, "SELECT id || name FROM users ORDER BY id"),
        ["2Bob", "5live Ann", "7Zoe"]
    );
    assert_eq!(ask(&yard, "SELECT id || color FROM tags ORDER BY id"), ["2blue", "9green"]);
    // The second post attaches to the Ann of the target; the first yields to a stranger's.
    assert_eq!(
        ask(&yard, "SELECT id || author || title FROM posts ORDER BY id"),
        ["1own_ztheirs", "2new_annsecond", "3new_bobthird", "50own_zmore"]
    );
    // And what hangs below the first is nowhere, least of all below the stranger's.
    assert_eq!(
        ask(&yard, "SELECT id || body FROM comments ORDER BY id"),
        ["11on second", "12x", "900on theirs"]
    );
    assert_eq!(ask(&yard, "SELECT comment || tag FROM marks ORDER BY 1"), ["11rust", "12sql"]);

    let (equal, found) = yard.verify();
    assert_eq!((equal, found), (8, vec![]));
    let plans = yard.foretell();
    for (table, skipped) in [("users", 1), ("tags", 1), ("posts", 1), ("comments", 1), ("marks", 1)]
    {
        assert_eq!(plans[table].skipped, skipped, "{table}: {:?}", plans[table]);
        assert_eq!(plans[table].conflict + plans[table].insert + plans[table].held, 0, "{table}");
    }
    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    assert_eq!(before, yard.dump());
}

#[test]
fn an_alteration_is_not_taken_for_a_row_that_was_left_out() {
    let mut yard = town();
    yard.on_conflict(SKIP);
    yard.forth().unwrap();
    yard.live(
        "UPDATE posts SET title = 'edited' WHERE id = 2; DELETE FROM marks WHERE comment = 12",
    );
    let (_, found) = yard.verify();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("posts 2 Different([\"title\"])"), "{found:?}");
    assert!(
        found[1].contains("marks (12, 'sql') Missing")
            || found[1].contains("marks (12, sql) Missing"),
        "{found:?}"
    );
}

#[test]
fn a_person_decides_afterwards_and_the_run_goes_on() {
    let mut yard = town();
    yard.forth().unwrap();
    assert_eq!(failures(&yard).len(), 3);
    yard.on_conflict(SKIP);
    yard.retry();
    yard.forth().unwrap();
    yard.assert_all_there();
    assert_eq!(yard.verify(), (8, vec![]));
}

#[test]
fn replaced_rows_are_journaled_and_come_back() {
    for trouble in [Trouble::None, Trouble::Lost] {
        let mut yard = town();
        let all = ["users", "tags", "posts"].map(|table| (table, OnConflict::Replace));
        yard.on_conflict(&all);
        // Nobody refers to the stranger's post any more.
        yard.live("DELETE FROM comments; UPDATE users SET id = 1 WHERE id = 5");
        yard.trouble = trouble;
        let before = yard.dump();
        yard.forth().unwrap();
        yard.assert_all_there();
        assert_eq!(
            ask(&yard, "SELECT id || name FROM users ORDER BY id"),
            ["1Ann", "2Bob", "7Zoe"]
        );
        assert_eq!(ask(&yard, "SELECT id || color FROM tags ORDER BY id"), ["1red", "2blue"]);
        assert_eq!(ask(&yard, "SELECT author FROM posts WHERE id = 1"), ["new_ann"]);
        assert_eq!(yard.verify(), (13, vec![]));
        let said = yard.back(&Back::default()).unwrap();
        assert!(said.refused.is_empty(), "{:?}", said.refused);
        assert_eq!(before, yard.dump(), "{trouble:?}");
        yard.assert_all_back();
    }
}

#[test]
fn a_row_that_others_refer_to_is_not_torn_out_of_their_hands() {
    let mut yard = town();
    yard.on_conflict(&[("posts", OnConflict::Replace), ("users", OnConflict::Skip)]);
    yard.forth().unwrap();
    let failed = failures(&yard);
    assert!(
        failed.iter().any(|one| one.contains("posts 1")
            && one.contains("rows of comments refer to the row that is there")),
        "{failed:?}"
    );
    assert_eq!(ask(&yard, "SELECT title FROM posts WHERE id = 1"), ["theirs"]);
    // What is below it waits, and is not put below the stranger's.
    assert_eq!(ask(&yard, "SELECT count(*) || '' FROM comments WHERE post = 1"), ["1"]);
}

#[test]
fn a_row_of_the_same_thing_becomes_ours_where_it_stands_and_keeps_who_refers_to_it() {
    let mut yard = town();
    yard.on_conflict(&[
        ("users", OnConflict::Replace),
        ("posts", OnConflict::Skip),
        ("tags", OnConflict::Skip),
    ]);
    yard.live("UPDATE users SET id = 1 WHERE id = 5; INSERT INTO posts VALUES (77, 'new_ann', 'w', 'live')");
    let before = yard.dump();
    yard.forth().unwrap();
    assert_eq!(ask(&yard, "SELECT name FROM users WHERE clerk_id = 'new_ann'"), ["Ann"]);
    assert_eq!(
        ask(&yard, "SELECT title FROM posts WHERE author = 'new_ann' ORDER BY id"),
        ["second", "live"]
    );
    yard.back(&Back::default()).unwrap();
    assert_eq!(before, yard.dump());
    let gone = |unit: &rehome_core::Unit| unit.state.stage == Stage::Exported;
    assert!(yard.spans().iter().all(gone));
}
