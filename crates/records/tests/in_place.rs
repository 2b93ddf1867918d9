//! Ids exchanged where they stand: every sort of place, what stands in the way, and back again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rehome_core::{
    Condition, Done, Effect, Failure, Knowledge, Origin, Outcome, Pass, Prepared, Probed, Rest,
    Source as _, Stage, State, Transition, Unit,
};
use rehome_records::ids::IdColumns;
use rehome_records::in_place::{LOT, LotSource, Places, RestoreLots, RewriteLots, inspect, weigh};
use rehome_records::layout::Layout;
use rehome_records::policy::Unmapped;
use rehome_records::schema::{self, Selection};
use rehome_records::sqlite::SqliteWriter;
use rehome_records::{ReadDatabase, WriteDatabase};
use support::picture::{Picture, picture};
use support::{Memory, USER, fresh};

/// One database and who is known.
struct World {
    _folder: tempfile::TempDir,
    path: PathBuf,
    ids: BTreeMap<String, String>,
    exclude: Vec<String>,
    memory: Arc<Memory>,
    unit: Option<Unit>,
}

/// How a lot ended.
#[derive(Debug, PartialEq)]
enum End {
    Done,
    Held,
    Failed(Failure),
}

impl World {
    fn new(sql: &str, ids: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.sqlite");
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let ids = ids.iter().map(|place| ((*place).to_owned(), "user".to_owned())).collect();
        let memory = Arc::new(Memory::default());
        Self { _folder: folder, path, ids, exclude: Vec::new(), memory, unit: None }
    }

    /// Users `old1` to `old<count>`, whose accounts this migration has created.
    fn created(self, count: u32) -> Self {
        for n in 1..=count {
            self.memory.mapped(&format!("old{n}"), &format!("new{n}"), Origin::Created);
        }
        self
    }

    fn sql(&self, sql: &str) {
        let connection = rusqlite::Connection::open(&self.path).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    fn ask(&self, sql: &str) -> Vec<String> {
        let connection = rusqlite::Connection::open(&self.path).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn picture(&self) -> Picture {
        picture(&self.path)
    }

    fn writer(&self) -> Arc<dyn WriteDatabase> {
        Arc::new(SqliteWriter::open(&self.path).unwrap())
    }

    async fn places(&self) -> Arc<Places> {
        let writer = self.writer();
        let reader: &dyn ReadDatabase = writer.as_ref();
        let selection = Selection { tables: None, exclude: self.exclude.clone() };
        let meant = schema::read(reader, &selection).await.unwrap();
        let all = Selection { tables: None, exclude: Vec::new() };
        let whole = schema::read(reader, &all).await.unwrap();
        let ids = IdColumns::resolve(&self.ids, &meant).unwrap();
        let layout = Layout::new(&meant, &whole, &ids);
        Arc::new(Places::read(reader, &layout, &USER).await.unwrap())
    }

    /// The codes of what speaks against it.
    async fn findings(&self) -> Vec<String> {
        let writer = self.writer();
        let all = Selection { tables: None, exclude: Vec::new() };
        let whole = schema::read(writer.as_ref(), &all).await.unwrap();
        let ids = IdColumns::resolve(&self.ids, &whole).unwrap();
        let found = inspect(&whole, self.places().await.as_ref(), &ids, writer.identity().kind);
        found.into_iter().map(|one| one.code).collect()
    }

    /// All users as one lot.
    async fn cut(&mut self) {
        let places = self.places().await;
        let knowledge = Arc::clone(&self.memory) as Arc<dyn Knowledge>;
        let source = LotSource::new(self.writer(), places, knowledge, Some(1000));
        let page = source.next_page(None).await.unwrap();
        let found = page.units.into_iter().next().unwrap();
        self.unit = Some(fresh(1000, LOT, found));
        assert!(source.next_page(Some(page.cursor)).await.unwrap().done, "there is one lot");
    }

    async fn rewriting(&self) -> RewriteLots {
        let knowledge = Arc::clone(&self.memory) as Arc<dyn Knowledge>;
        RewriteLots::new(self.writer(), knowledge, self.places().await, Unmapped::Hold)
    }

    async fn restoring(&self) -> RestoreLots {
        let knowledge = Arc::clone(&self.memory) as Arc<dyn Knowledge>;
        RestoreLots::new(self.writer(), knowledge, self.places().await)
    }

    /// Drives the lot through a worker. `lost`: the answer does not arrive, and is probed for.
    async fn drive(&mut self, worker: &dyn Transition, lost: bool) -> End {
        for _ in 0..10 {
            let unit = self.unit.clone().unwrap();
            let prepared = worker.prepare(std::slice::from_ref(&unit), Pass::Final).await.unwrap();
            let (intent, payload) = match prepared.into_iter().next().unwrap() {
                Prepared::Advance(done) => return self.end(done),
                Prepared::Hold { .. } => return End::Held,
                Prepared::Fail { failure, .. } => return End::Failed(failure),
                Prepared::Effect { intent, payload } => (intent, payload),
                Prepared::Wait(_) | Prepared::Skip(_) | Prepared::Leave => panic!("not here"),
            };
            let unit = self.unit.as_mut().unwrap();
            unit.intent = Some(intent);
            unit.intent_void = false;
            let unit = unit.clone();
            match worker.apply(&unit, payload).await {
                Outcome::Done(_) if lost => {
                    let found = worker.probe(std::slice::from_ref(&unit)).await.unwrap();
                    match found.into_iter().next().unwrap() {
                        Probed::Done(done) => return self.end(done),
                        Probed::Part(part) => drop(self.end(part)),
                        other => panic!("{other:?}"),
                    }
                }
                Outcome::Done(done) => return self.end(done),
                Outcome::NotSent { .. } => self.unit.as_mut().unwrap().intent_void = true,
                other => panic!("{other:?}"),
            }
        }
        panic!("prepared again and again");
    }

    fn end(&mut self, done: Done) -> End {
        let unit = self.unit.as_mut().unwrap();
        let intent = unit.intent.take();
        unit.effect = done.data.map(|data| Effect { intent, data: Some(data) });
        match done.rest {
            None => End::Done,
            Some(Rest::Held { .. }) => End::Held,
            Some(Rest::Failed { failure, .. }) => End::Failed(failure),
            Some(Rest::More) => panic!("not here"),
        }
    }

    async fn forth(&mut self) -> End {
        if self.unit.is_none() {
            self.cut().await;
        }
        let worker = self.rewriting().await;
        self.drive(&worker, false).await
    }

    async fn back(&mut self) -> End {
        let worker = self.restoring().await;
        self.drive(&worker, false).await
    }
}

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
    let writer = world.writer();
    let back = weigh(writer.as_ref(), world.memory.as_ref(), &places, &unit).await.unwrap();
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
