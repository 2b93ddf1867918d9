//! Tables in which both sides number their rows alike, merged under new keys: what fills them, and
//! who judges them, by questions in SQL that follow the references to what the rows say.

use std::path::Path;

use rusqlite::Connection;

use crate::Stage;

/// Threads are numbered by AUTOINCREMENT and replies by SQLite; no foreign key says to which thread
/// a pin belongs, and a mark is keyed by its reply.
pub const TABLES: &str = "
    CREATE TABLE threads (id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT REFERENCES users(clerk_id), title TEXT);
    CREATE TABLE replies (id INTEGER PRIMARY KEY, thread INTEGER NOT NULL REFERENCES threads(id),
        parent INTEGER REFERENCES replies(id), body TEXT);
    CREATE TABLE marks (reply INTEGER PRIMARY KEY REFERENCES replies(id), mark TEXT);
    CREATE TABLE pins (thread INTEGER, note TEXT);";

/// What each row says, with what the rows say to which it refers. Of an owner only whether there is
/// one, because the ids of accounts change.
pub const SAID: &str = "
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
pub const CELLS: &str = "
    SELECT 'thread ' || id || quote(owner) || title FROM threads
    UNION ALL SELECT 'reply ' || id || ' ' || thread || ' ' || quote(parent) || body FROM replies
    UNION ALL SELECT 'mark ' || reply || mark FROM marks
    UNION ALL SELECT 'pin ' || rowid || ' ' || thread || note FROM pins ORDER BY 1";

/// The tables.
pub const NAMES: [&str; 4] = ["threads", "replies", "marks", "pins"];

/// What the configuration says of them, besides the word for their keys.
const REFERENCES: &str = "[records.references]\n\"pins.thread\" = \"threads\"\n\n[records.ids]\n\
    \"threads.owner\" = \"user\"\n";

/// The configuration's text with new keys for every table.
pub fn all_rekeyed(text: &str) -> String {
    let all = format!("[records.on_conflict]\ndefault = \"rekey\"\n\n{REFERENCES}");
    text.replace("[records.ids]\n", &all)
}

/// The same with new keys for these tables only.
pub fn rekeyed(text: &str) -> String {
    let named = "threads = \"rekey\"\nreplies = \"rekey\"\npins = \"rekey\"";
    let some = format!("[records.on_conflict]\n{named}\n\n{REFERENCES}");
    text.replace("[records.ids]\n", &some)
}

/// What somebody writes into a database.
///
/// # Panics
/// When it is refused.
pub fn write(database: &Path, sql: &str) {
    let connection = Connection::open(database).expect("the database opens");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("it waits");
    connection.pragma_update(None, "foreign_keys", true).expect("foreign keys can be guarded");
    connection.execute_batch(sql).expect("it is written");
}

/// A column of texts.
///
/// # Panics
/// When it cannot be read.
pub fn ask(database: &Path, sql: &str) -> Vec<String> {
    let connection = Connection::open(database).expect("the database opens");
    let mut statement = connection.prepare(sql).expect("the question is understood");
    let rows = statement.query_map([], |row| row.get(0)).expect("it is answered");
    rows.collect::<Result<_, _>>().expect("texts")
}

/// Makes the tables and fills them with what `who` says in so many threads; the owners are the first
/// of its users.
///
/// # Panics
/// When it cannot be written.
pub fn fill(database: &Path, who: &str, threads: u32) {
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

/// What the target says and holds in those tables before anything arrives.
#[derive(Clone, Debug)]
pub struct Own {
    /// What its rows say.
    pub said: Vec<String>,
    /// Its cells.
    pub cells: Vec<String>,
}

impl Own {
    /// Fills both sides of a stage: the source with more than the target.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn fill(stage: &Stage, theirs: u32, own: u32) -> Self {
        let (source, target) = stage.databases().expect("there are databases");
        fill(&source, "their", theirs);
        fill(&target, "own", own);
        Self { said: ask(&target, SAID), cells: ask(&target, CELLS) }
    }

    /// That the target says what it said and what the source says, and nothing else; and that every
    /// cell of its own is as it was.
    ///
    /// # Errors
    /// What is missing, and what is too much.
    pub fn judge(&self, stage: &Stage) -> Result<(), String> {
        let (source, target) = stage.databases().expect("there are databases");
        let mut expected = [self.said.as_slice(), &ask(&source, SAID)].concat();
        expected.sort();
        let said = ask(&target, SAID);
        let only = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|row| !b.contains(row)).take(5).cloned().collect()
        };
        if expected != said {
            let (missing, more) = (only(&expected, &said), only(&said, &expected));
            return Err(format!("missing {missing:#?}, too many {more:#?}"));
        }
        let now = ask(&target, CELLS);
        if let Some(cell) = self.cells.iter().find(|cell| !now.contains(cell)) {
            return Err(format!("the target's own {cell} is not as it was"));
        }
        let torn = ask(&target, "SELECT \"table\" FROM pragma_foreign_key_check");
        if torn.is_empty() { Ok(()) } else { Err(format!("references lead nowhere in {torn:?}")) }
    }
}
