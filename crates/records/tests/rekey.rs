//! Two databases whose integer keys collide in every table, merged under new keys: every reference
//! right, nothing of the target's changed. Judged by questions in SQL that follow the references
//! to what the rows say, and know nothing of keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use rehome_core::{Condition, Stage};
use rehome_records::DatabaseKind;
use rehome_records::policy::OnConflict;
use support::back::{Back, Trouble, Yard};
use support::picture::{Picture, assert_sound, picture};

/// Users by account and by number, in a circle with badges; a table whose key is the reference, a
/// composite key with the reference in it, a reference to that from a table without a key; a tree
/// of comments over several spans, whose badge no foreign key declares.
const SCHEMA: &str = "
    CREATE TABLE accounts (clerk_id TEXT PRIMARY KEY, plan TEXT) WITHOUT ROWID;
    CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, clerk_id TEXT NOT NULL UNIQUE
        REFERENCES accounts(clerk_id), name TEXT, favorite INTEGER REFERENCES badges(id));
    CREATE TABLE badges (id INTEGER PRIMARY KEY, owner TEXT NOT NULL REFERENCES users(clerk_id),
        holder INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE, title TEXT);
    CREATE TABLE badge_images (badge_id INTEGER PRIMARY KEY REFERENCES badges(id)
        ON DELETE CASCADE, image BLOB);
    CREATE TABLE places (badge_id INTEGER REFERENCES badges(id), place INTEGER, note TEXT,
        PRIMARY KEY (badge_id, place)) WITHOUT ROWID;
    CREATE TABLE stamps (badge_id INTEGER, place TEXT, at TEXT,
        FOREIGN KEY (badge_id, place) REFERENCES places(badge_id, place));
    CREATE TABLE comments (id INTEGER PRIMARY KEY, badge_id INTEGER,
        parent INTEGER REFERENCES comments(id) ON DELETE CASCADE, body TEXT UNIQUE);";

/// What every row says, and what the rows say to which it refers.
const QUESTIONS: &[(&str, &str)] = &[
    ("accounts", "SELECT plan, clerk_id FROM accounts"),
    (
        "users",
        "SELECT u.name, u.clerk_id, a.plan, b.title FROM users u LEFT JOIN badges b \
         ON b.id = u.favorite LEFT JOIN accounts a ON a.clerk_id = u.clerk_id",
    ),
    (
        "badges",
        "SELECT b.title, b.owner, u.name, o.name FROM badges b LEFT JOIN users u ON u.id = b.holder \
         LEFT JOIN users o ON o.clerk_id = b.owner",
    ),
    (
        "badge_images",
        "SELECT hex(i.image), b.title FROM badge_images i LEFT JOIN badges b ON b.id = i.badge_id",
    ),
    (
        "places",
        "SELECT p.note, p.place, b.title FROM places p LEFT JOIN badges b ON b.id = p.badge_id",
    ),
    (
        "stamps",
        "SELECT s.at, typeof(s.place), p.note, b.title FROM stamps s LEFT JOIN places p ON \
         p.badge_id = s.badge_id AND p.place = s.place LEFT JOIN badges b ON b.id = s.badge_id",
    ),
    (
        "comments",
        "SELECT c.body, c.badge_id IS NULL OR c.badge_id = 0, b.title, p.body FROM comments c \
         LEFT JOIN badges b ON b.id = c.badge_id LEFT JOIN comments p ON p.id = c.parent",
    ),
];

type Answers = BTreeMap<&'static str, Vec<String>>;

/// What a database says.
fn ask(path: &Path) -> Answers {
    let connection = rusqlite::Connection::open(path).unwrap();
    QUESTIONS
        .iter()
        .map(|(table, sql)| {
            let mut statement = connection.prepare(sql).unwrap();
            let width = statement.column_count();
            let rows = statement
                .query_map([], |row| {
                    let cells: Vec<String> =
                        (0..width).map(|at| format!("{:?}", row.get_ref(at).unwrap())).collect();
                    Ok(cells.join(" "))
                })
                .unwrap();
            let mut rows: Vec<String> = rows.map(Result::unwrap).collect();
            rows.sort();
            (*table, rows)
        })
        .collect()
}

fn hex_of(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte}")).collect::<Vec<_>>().join(", ")
}

fn together(mut all: Answers, more: &Answers) -> Answers {
    for (table, rows) in more {
        let rows = rows.iter().map(|row| {
            // `Debug` of a text is its bytes.
            row.replace(&hex_of("user_"), &hex_of("new_"))
        });
        let all = all.get_mut(table).unwrap();
        all.extend(rows);
        all.sort();
    }
    all
}

fn assert_says(what: &str, expected: &Answers, path: &Path) {
    let found = ask(path);
    for (table, rows) in expected {
        let there = &found[table];
        let only = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|row| b.binary_search(row).is_err()).take(4).cloned().collect()
        };
        assert!(
            rows == there,
            "{what}: {table}: {} rows, {} there; missing {:#?}, too many {:#?}",
            rows.len(),
            there.len(),
            only(rows, there),
            only(there, rows)
        );
    }
}

/// That every row which was there is there, cell by cell.
fn assert_untouched(what: &str, before: &Picture, after: &Picture) {
    assert_eq!(before.schema, after.schema, "{what}");
    for (table, rows) in &before.rows {
        for row in rows {
            assert!(after.rows[table].binary_search(row).is_ok(), "{what}: {table}: {row:?}");
        }
    }
}

/// Both databases number everything from 1 on. The source has 12 users with two badges each, and
/// 5,100 comments; the target three users of its own, with everything that they have.
fn fill(yard: &Yard, name: &str, who: &str, users: u32, comments: u32) {
    yard.execute(
        name,
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {users})
             INSERT INTO accounts SELECT '{who}_' || i, '{who} plan ' || i FROM n;
             INSERT INTO users SELECT i, '{who}_' || i, '{who} name ' || i,
                 CASE i % 3 WHEN 0 THEN NULL ELSE i * 2 END
                 FROM (SELECT row_number() OVER () AS i FROM accounts);
             INSERT INTO badges SELECT id * 2 - 1, clerk_id, 1 + id % {users}, name || ' a' FROM users
                 UNION ALL SELECT id * 2, clerk_id, id, name || ' b' FROM users;
             INSERT INTO badge_images SELECT id, randomblob(20) FROM badges WHERE id % 3;
             INSERT INTO places SELECT id, id % 2, title || ' place' FROM badges
                 UNION ALL SELECT id, 5, title || ' five' FROM badges WHERE id % 2;
             INSERT INTO stamps SELECT badge_id, place, note || ' stamp' FROM places;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {comments})
             INSERT INTO comments SELECT i, CASE i % 4 WHEN 0 THEN 0 ELSE 1 + i % ({users} * 2) END,
                 CASE WHEN i % 7 = 0 THEN i - 1 WHEN i % 50 = 1 THEN {comments} + 1 - i END,
                 '{who} comment ' || i FROM n;"
        ),
    );
}

/// The questions that a missing reference between the databases would answer wrongly.
fn town(kind: DatabaseKind) -> Yard {
    let ids = &["accounts.clerk_id", "users.clerk_id"];
    let mut yard = match kind {
        DatabaseKind::Sqlite => Yard::new(SCHEMA, ids),
        DatabaseKind::D1 => Yard::over_d1(SCHEMA, ids),
    };
    fill(&yard, "source.sqlite", "user", 12, 5100);
    fill(&yard, "target.sqlite", "own", 3, 40);
    yard.users = (1..=12).map(|n| format!("user_{n}")).collect();
    yard.conflicts.default = OnConflict::Rekey;
    yard.references = BTreeMap::from([("comments.badge_id".to_owned(), "badges".to_owned())]);
    yard
}

/// The same with fewer comments, which still take two spans.
fn hamlet() -> Yard {
    let yard = town(DatabaseKind::Sqlite);
    yard.execute(
        "source.sqlite",
        "UPDATE comments SET parent = NULL WHERE parent > 2600; \
                                   DELETE FROM comments WHERE id > 2600",
    );
    yard
}

fn source(yard: &Yard) -> Answers {
    ask(&yard.path("source.sqlite"))
}

fn there_and_back(kind: DatabaseKind, trouble: Trouble) {
    let what = format!("{kind:?}, {trouble:?}");
    let mut yard = town(kind);
    let target = yard.path("target.sqlite");
    let (before, said) = (picture(&target), ask(&target));
    let expected = together(said.clone(), &source(&yard));
    for (table, plan) in yard.foretell() {
        assert_eq!((plan.conflict, plan.held, plan.skipped), (0, 0, 0), "{what}: {table}");
        assert_eq!(plan.insert, plan.rows, "{what}: {table}");
    }

    yard.trouble = trouble;
    yard.forth().unwrap();
    yard.assert_all_there();
    assert_says(&what, &expected, &target);
    let after = picture(&target);
    assert_untouched(&what, &before, &after);
    assert_sound(&target);
    // The counter stands beyond all of ours: no id is given twice.
    let largest: i64 = {
        let connection = rusqlite::Connection::open(&target).unwrap();
        connection.query_row("SELECT max(id) FROM users", [], |row| row.get(0)).unwrap()
    };
    assert!(after.counters["users"] >= largest, "{what}");

    let rows: usize = source(&yard).values().map(Vec::len).sum();
    assert_eq!(yard.verify(), (rows as u64, Vec::new()), "{what}");
    yard.forth().unwrap();
    assert_eq!(yard.writes, 0, "{what}: a second run writes nothing");

    let refused = yard.back(&Back::default()).unwrap().refused;
    assert!(refused.is_empty(), "{what}: {refused:?}");
    assert_eq!(before.rows, picture(&target).rows, "{what}");
    yard.assert_all_back();
    yard.forth().unwrap();
    assert_says(&what, &expected, &target);
}

#[test]
fn every_key_collides_and_every_reference_is_right() {
    there_and_back(DatabaseKind::Sqlite, Trouble::None);
}

#[test]
fn the_same_though_every_answer_is_lost() {
    there_and_back(DatabaseKind::Sqlite, Trouble::Lost);
}

#[test]
fn the_same_through_d1() {
    there_and_back(DatabaseKind::D1, Trouble::None);
}

/// The application takes a key that is meant for a row of ours, between look and request.
#[test]
fn a_key_that_is_taken_meanwhile_moves_its_span_and_nothing_else() {
    for (table, insert) in [
        ("comments", "INSERT INTO comments (id, body) VALUES (?1, 'live ' || ?1)"),
        ("badges", "INSERT INTO badges VALUES (?1, 'own_1', 1, 'live ' || ?1)"),
        (
            "users",
            "INSERT INTO accounts VALUES ('live_' || ?1, 'p'); \
                   INSERT INTO users VALUES (?1, 'live_' || ?1, 'live ' || ?1, NULL)",
        ),
    ] {
        let mut yard = town(DatabaseKind::Sqlite);
        let target = yard.path("target.sqlite");
        let ours = source(&yard);
        yard.trouble = Trouble::Takes { table, insert, times: 2 };
        yard.forth().unwrap();
        yard.trouble = Trouble::None;
        yard.assert_all_there();
        assert_sound(&target);
        let live = |row: &&String| row.contains(&hex_of("live"));
        let taken: Answers = ask(&target)
            .into_iter()
            .map(|(table, rows)| (table, rows.iter().filter(live).cloned().collect()))
            .collect();
        assert_eq!(taken[table].len(), 2, "{table}: the application took two keys");
        let own = {
            let town = town(DatabaseKind::Sqlite);
            let mut own = ask(&town.path("target.sqlite"));
            // Blobs are random.
            own.insert("badge_images", Vec::new());
            own
        };
        let mut expected = together(together(own, &ours), &taken);
        let found = ask(&target);
        expected.insert("badge_images", found["badge_images"].clone());
        assert_says(table, &expected, &target);
        let rows: usize = ours.values().map(Vec::len).sum();
        assert_eq!(yard.verify(), (rows as u64, Vec::new()), "{table}");

        let moved: Vec<_> = yard.spans().into_iter().filter_map(|unit| unit.target_key).collect();
        assert!((1..=2).contains(&moved.len()), "{table}: {moved:?}");
        assert!(moved.iter().all(|one| one.starts_with(table)), "{table}: {moved:?}");

        let after = picture(&target);
        let refused = yard.back(&Back::default()).unwrap().refused;
        assert!(refused.is_empty(), "{table}: {refused:?}");
        let back = picture(&target);
        assert_eq!(
            back.rows[table].len() as u64,
            if table == "comments" { 42 } else { back.rows[table].len() as u64 }
        );
        assert_untouched(table, &back, &after);
        let said = ask(&target);
        for (of, rows) in &taken {
            assert!(rows.iter().all(|row| said[of].contains(row)), "{table}");
        }
        yard.forth().unwrap();
        expected.insert("badge_images", ask(&target)["badge_images"].clone());
        assert_says(table, &expected, &target);
    }
}

/// The process dies at each request in turn, there and on the way back.
#[test]
fn a_death_at_any_request_leaves_nothing_twice_and_nothing_behind() {
    let mut whole = hamlet();
    whole.forth().unwrap();
    let there = whole.writes;
    whole.back(&Back::default()).unwrap();
    let back = whole.writes;
    assert!(there > 8 && back > 8, "{there} {back}");
    for after in [false, true] {
        for at in 0..there {
            let what = format!("death at request {at} (after it: {after})");
            let mut yard = hamlet();
            let target = yard.path("target.sqlite");
            let before = picture(&target);
            let expected = together(ask(&target), &source(&yard));
            yard.trouble = Trouble::Dies { at, after };
            assert!(yard.forth().is_none(), "{what}");
            yard.trouble = Trouble::None;
            yard.forth().unwrap();
            yard.assert_all_there();
            assert_says(&what, &expected, &target);
            yard.trouble = Trouble::Dies { at: at % back, after };
            assert!(yard.back(&Back::default()).is_none(), "{what}");
            yard.trouble = Trouble::None;
            yard.back(&Back::default()).unwrap();
            assert_eq!(before.rows, picture(&target).rows, "{what}");
        }
    }
}

#[test]
fn users_who_fail_leave_room_and_come_later_under_the_same_shift() {
    let mut yard = town(DatabaseKind::Sqlite);
    let target = yard.path("target.sqlite");
    let expected = together(ask(&target), &source(&yard));
    yard.failing = vec!["user_5".to_owned()];
    yard.forth().unwrap();
    let held = |unit: &rehome_core::Unit| unit.state.condition == Condition::Held;
    assert!(yard.spans().iter().any(held));
    assert!(ask(&target)["badges"].len() < expected["badges"].len());
    yard.live("INSERT INTO comments (body) VALUES ('between')");
    yard.failing.clear();
    yard.retry();
    yard.forth().unwrap();
    yard.assert_all_there();
    yard.live("DELETE FROM comments WHERE body = 'between'");
    assert_says("later", &expected, &target);
    assert!(yard.spans().iter().all(|unit| unit.state.stage == Stage::Imported));
}
