//! A target that has rows of its own under the same numbers: merged by the program itself, while
//! both sides live on, and taken back. Judged by questions in SQL that follow the references to what
//! the rows say.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use std::path::Path;

use rehome_tests::{Databases, Options, Stage};
use rusqlite::Connection;

/// Threads are numbered by AUTOINCREMENT and replies by SQLite; no foreign key says to which thread
/// a pin belongs, and a mark is keyed by its reply.
const TABLES: &str = "
    CREATE TABLE threads (id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT REFERENCES users(clerk_id), title TEXT);
    CREATE TABLE replies (id INTEGER PRIMARY KEY, thread INTEGER NOT NULL REFERENCES threads(id),
        parent INTEGER REFERENCES replies(id), body TEXT);
    CREATE TABLE marks (reply INTEGER PRIMARY KEY REFERENCES replies(id), mark TEXT);
    CREATE TABLE pins (thread INTEGER, note TEXT);";

/// What each row says, with what the rows say to which it refers. Of an owner only whether there is
/// one, because the ids of accounts change.
const SAID: &str = "
    SELECT 'thread ' || title || ' by ' || (u.clerk_id IS NOT NULL)
        FROM threads t LEFT JOIN users u ON u.clerk_id = t.owner
    UNION ALL SELECT 'reply ' || r.body || ' in ' || ifnull(t.title, '?') || ' to '
        || ifnull(p.body, r.parent IS NULL)
        FROM replies r LEFT JOIN threads t ON t.id = r.thread LEFT JOIN replies p ON p.id = r.parent
    UNION ALL SELECT 'mark ' || mark || ' of ' || ifnull(r.body, '?')
        FROM marks m LEFT JOIN replies r ON r.id = m.reply
    UNION ALL SELECT 'pin ' || note || ' in ' || ifnull(t.title, '?')
        FROM pins p LEFT JOIN threads t ON t.id = p.thread
    ORDER BY 1";

/// Every cell of those tables.
const CELLS: &str = "
    SELECT 'thread ' || id || quote(owner) || title FROM threads
    UNION ALL SELECT 'reply ' || id || ' ' || thread || ' ' || quote(parent) || body FROM replies
    UNION ALL SELECT 'mark ' || reply || mark FROM marks
    UNION ALL SELECT 'pin ' || rowid || ' ' || thread || note FROM pins ORDER BY 1";

fn write(database: &Path, sql: &str) {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn ask(database: &Path, sql: &str) -> Vec<String> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn fill(database: &Path, who: &str, threads: u32) {
    write(
        database,
        &format!(
            "{TABLES}
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {threads})
             INSERT INTO threads SELECT i, u.clerk_id, '{who} thread ' || i FROM n
                 LEFT JOIN (SELECT clerk_id, row_number() OVER () AS k FROM users) u ON u.k = i;
             INSERT INTO replies SELECT id * 2 - 1, id, NULL, '{who} reply ' || id FROM threads
                 UNION ALL SELECT id * 2, id, id * 2 - 1, '{who} answer ' || id FROM threads;
             INSERT INTO marks SELECT id, '{who} mark ' || id FROM replies WHERE id % 3 = 0;
             INSERT INTO pins SELECT id, '{who} pin ' || id FROM threads WHERE id % 2;"
        ),
    );
}

/// That the target says what it said and what the source says, and nothing else; and that every
/// cell of its own is as it was.
fn judge(source: &Path, target: &Path, own: &[String], cells: &[String]) {
    let mut expected = [own, &ask(source, SAID)].concat();
    expected.sort();
    let said = ask(target, SAID);
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|row| !b.contains(row)).take(5).cloned().collect()
    };
    let (missing, more) = (only(&expected, &said), only(&said, &expected));
    assert!(expected == said, "missing {missing:#?}, too many {more:#?}");
    let now = ask(target, CELLS);
    assert!(cells.iter().all(|cell| now.contains(cell)));
    assert_eq!(ask(target, "SELECT \"table\" FROM pragma_foreign_key_check"), [""; 0]);
}

const CONFLICTS: &str = "[records.on_conflict]\ndefault = \"rekey\"\n\n\
    [records.references]\n\"pins.thread\" = \"threads\"\n\n[records.ids]\n\
    \"threads.owner\" = \"user\"\n";

async fn merges(databases: Databases) {
    let stage = Stage::set(Options { users: 40, rows: 200, databases, ..Options::default() }).await;
    let (source, target) = stage.databases().unwrap();
    fill(&source, "their", 60);
    fill(&target, "own", 25);
    let (said, cells) = (ask(&target, SAID), ask(&target, CELLS));

    // Nobody said what is to become of the conflicts.
    let plan = stage.rehome(&["plan", "--json"]).await.json();
    assert!(plan["tables"]["replies"]["conflict"].as_u64().unwrap() > 0, "{plan}");
    stage.configure(|text| text.replace("[records.ids]\n", CONFLICTS));
    let plan = stage.rehome(&["plan", "--json"]).await.json();
    for table in ["threads", "replies", "marks", "pins"] {
        assert_eq!(plan["tables"][table]["conflict"], 0, "{plan}");
    }
    assert_eq!(plan["tables"]["threads"]["keys_move_by"], 2000, "{plan}");

    let _complete = stage.run().await.expect(0);
    judge(&source, &target, &said, &cells);
    stage.replay();
    let before = stage.effects();
    let _nothing = stage.run().await.expect(0);
    assert_eq!(stage.effects(), before, "a second run writes nothing");

    // Both live on: the target's next reply takes the very number that the source's next one is to
    // have.
    let live = "INSERT INTO replies (thread, body) VALUES (1, 'live'); \
                INSERT INTO threads (title) VALUES ('live')";
    write(&target, live);
    write(
        &source,
        "INSERT INTO threads (owner, title) SELECT min(clerk_id), 'late' FROM users;
         INSERT INTO replies (thread, parent, body) SELECT max(id), 1, 'late' FROM threads;
         INSERT INTO replies (thread, parent, body) SELECT 1, max(id), 'later' FROM replies;
         INSERT INTO marks SELECT max(id), 'late' FROM replies;
         INSERT INTO pins SELECT max(id), 'late' FROM threads;
         UPDATE replies SET body = body || ' again', parent = 2 WHERE id = 7;",
    );
    let (mut said, mut cells) = (said, cells);
    said.extend(ask(&target, SAID).into_iter().filter(|row| row.contains(" live ")));
    cells.extend(ask(&target, CELLS).into_iter().filter(|row| row.ends_with("live")));
    let _caught_up = stage.run().await.expect(0);
    judge(&source, &target, &said, &cells);
    let verdict = stage.rehome(&["verify", "--json"]).await.expect(0).json();
    assert_eq!((&verdict["missing"], &verdict["different"]), (&0.into(), &0.into()), "{verdict}");
    stage.replay();

    // The journal speaks of keys that moved: it is bound to what made them move.
    let moving = stage.config();
    let with = std::fs::read_to_string(&moving).unwrap();
    std::fs::write(&moving, with.replace("default = \"rekey\"", "default = \"fail\"")).unwrap();
    let refused = stage.run().await;
    assert_eq!(refused.code(), Some(4), "{}", refused.everything());
    assert!(refused.everything().contains("rekeyed tables"), "{}", refused.everything());
    std::fs::write(&moving, with).unwrap();

    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!(ask(&target, CELLS), {
        cells.sort();
        cells
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_under_the_same_numbers_merge_and_part_again() {
    merges(Databases::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_through_d1() {
    merges(Databases::D1).await;
}
