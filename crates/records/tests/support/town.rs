//! Two databases whose integer keys collide in every table, and questions in SQL that follow the
//! references to what the rows say, and know nothing of keys.

use std::collections::BTreeMap;
use std::path::Path;

use rehome_records::DatabaseKind;
use rehome_records::policy::OnConflict;

use super::picture::Picture;
use super::yard::Yard;

/// Users by account and by number, in a circle with badges; a table whose key is the reference, a
/// composite key with the reference in it, a reference to that from a table without a key; a tree
/// of comments over several spans, whose badge no foreign key declares; documents that name badges,
/// as numbers and as strings.
pub(crate) const SCHEMA: &str = "
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
        parent INTEGER REFERENCES comments(id) ON DELETE CASCADE, body TEXT UNIQUE);
    CREATE TABLE a_feed (id INTEGER PRIMARY KEY, doc TEXT);";

/// What every row says, and what the rows say to which it refers.
pub(crate) const QUESTIONS: &[(&str, &str)] = &[
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
    (
        "a_feed",
        "SELECT CASE WHEN json_valid(f.doc) THEN f.doc->>'$.says' ELSE f.doc END, b.title, \
         also.title, CASE WHEN json_valid(f.doc) THEN f.doc->>'$.also[1]' END FROM a_feed f \
         LEFT JOIN badges b ON b.id = CASE WHEN json_valid(f.doc) THEN f.doc->>'$.badge' END \
         LEFT JOIN badges also ON also.id = \
         CASE WHEN json_valid(f.doc) THEN cast(f.doc->>'$.also[0]' AS INTEGER) END",
    ),
];

pub(crate) type Answers = BTreeMap<&'static str, Vec<String>>;

/// What a database says.
pub(crate) fn ask(path: &Path) -> Answers {
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

pub(crate) fn hex_of(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte}")).collect::<Vec<_>>().join(", ")
}

pub(crate) fn together(mut all: Answers, more: &Answers) -> Answers {
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

pub(crate) fn assert_says(what: &str, expected: &Answers, path: &Path) {
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
pub(crate) fn assert_untouched(what: &str, before: &Picture, after: &Picture) {
    assert_eq!(before.schema, after.schema, "{what}");
    for (table, rows) in &before.rows {
        for row in rows {
            assert!(after.rows[table].binary_search(row).is_ok(), "{what}: {table}: {row:?}");
        }
    }
}

/// Both databases number everything from 1 on. The source has 12 users with two badges each, and
/// 5,100 comments; the target three users of its own, with everything that they have.
pub(crate) fn fill(yard: &Yard, name: &str, who: &str, users: u32, comments: u32) {
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
                 '{who} comment ' || i FROM n;
             INSERT INTO a_feed (doc) SELECT '{{ \"badge\" : ' || id || ',\"also\":[\"' || (1 + id % ({users} * 2))
                 || '\", 0], \"says\":\"{who} ' || title || '\"}}' FROM badges
                 UNION ALL SELECT '{who} no document';"
        ),
    );
}

/// The questions that a missing reference between the databases would answer wrongly.
pub(crate) fn town(kind: DatabaseKind) -> Yard {
    let ids = &["accounts.clerk_id", "users.clerk_id"];
    let mut yard = match kind {
        DatabaseKind::Sqlite => Yard::new(SCHEMA, ids),
        DatabaseKind::D1 => Yard::over_d1(SCHEMA, ids),
    };
    fill(&yard, "source.sqlite", "user", 12, 5100);
    fill(&yard, "target.sqlite", "own", 3, 40);
    yard.users = (1..=12).map(|n| format!("user_{n}")).collect();
    yard.conflicts.default = OnConflict::Rekey;
    let to_badges = ["comments.badge_id", "a_feed.doc:$.badge", "a_feed.doc:$.also[*]"];
    yard.references = to_badges.map(|place| (place.to_owned(), "badges".to_owned())).into();
    yard
}

pub(crate) fn source(yard: &Yard) -> Answers {
    ask(&yard.path("source.sqlite"))
}
