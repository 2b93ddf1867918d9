//! Spans from one SQLite file to another, through the worker that the engine drives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::sync::Arc;

use rehome_core::{
    Condition, Knowledge, Origin, Outcome, Pass, Prepared, Probed, Stage, State, Transition as _,
};
use rehome_records::import::{Intent, SettleMentions};
use rehome_records::policy::Unmapped;
use rehome_records::span::SPAN;
use rehome_records::sqlite::{OpenError, SqliteReader, SqliteWriter};
use support::{End, USER, World};

const BADGES: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, clerk_id TEXT NOT NULL UNIQUE, name TEXT);
    CREATE TABLE badges (id INTEGER PRIMARY KEY AUTOINCREMENT, owner_id TEXT NOT NULL
        REFERENCES users(clerk_id), data TEXT, big INTEGER, real REAL, any);
    CREATE TABLE badge_images (badge_id INTEGER PRIMARY KEY REFERENCES badges(id), image BLOB);";

fn badges() -> World {
    let world = World::new(BADGES, &["users.clerk_id", "badges.data:$.by"]);
    world.source(
        "INSERT INTO users VALUES (1,'user_a','Ann'), (2,'user_b','Bob'), (3,'user_c','Cid');
         INSERT INTO badges VALUES
           (10,'user_a','{ \"by\" : \"user_b\", \"n\":1.0 }',9223372036854775807,1.0,1.0),
           (11,'user_b',NULL,-9223372036854775808,9e999,1),
           (12,'user_c','not json',9007199254740993,0.1,'\u{1F600}');
         INSERT INTO badge_images VALUES (10,x'00ff'), (11,x''), (12,NULL);",
    );
    world
}

fn map_all(world: &World) {
    for name in ["a", "b", "c"] {
        let (source, target) = (format!("user_{name}"), format!("user_{name}2"));
        world.journal.mapped(&source, &target, Origin::Created);
    }
}

#[tokio::test]
async fn rows_arrive_under_the_new_ids_and_a_second_run_writes_nothing() {
    let mut world = badges();
    map_all(&world);
    assert_eq!(world.import().await, vec![End::Imported; 3]);
    assert_eq!(
        world.ask("SELECT id, owner_id, data, big, typeof(real), real, typeof(any) FROM badges"),
        [
            "10|user_a2|{ \"by\" : \"user_b2\", \"n\":1.0 }|9223372036854775807|real|1.0|real",
            "11|user_b2|NULL|-9223372036854775808|real|inf|integer",
            "12|user_c2|not json|9007199254740993|real|0.1|text",
        ]
    );
    assert_eq!(world.ask("SELECT image FROM badge_images"), ["[0, 255]", "[]", "NULL"]);

    world.restart();
    let writer = world.writer();
    let worker = world.worker(writer).await;
    for unit in world.units.clone() {
        let prepared = worker.prepare(&[unit], Pass::Patient).await.unwrap().remove(0);
        assert!(matches!(prepared, Prepared::Advance(_)), "everything is there");
    }
}

#[tokio::test]
async fn rows_of_a_failed_user_are_held_with_their_children_and_come_later() {
    let mut world = badges();
    map_all(&world);
    let failed = State::new(Stage::Exported, Condition::Failed);
    world.journal.put("user_c", None, None, failed, true);
    let ends = world.import().await;
    let [End::Held(users), End::Held(badges), End::Held(images)] = ends.as_slice() else {
        panic!("{ends:?}");
    };
    assert_eq!((users[0].code.as_str(), users[0].parts), ("user_failed", 1));
    assert_eq!(badges[0].key.as_deref(), Some("user_c"));
    assert_eq!(images[0].code, "parent_held");
    assert_eq!(images[0].scope.as_deref(), Some("badges"));
    assert_eq!(world.ask("SELECT count(*) FROM badge_images"), ["2"]);

    world.journal.mapped("user_c", "user_c2", Origin::Created);
    assert_eq!(world.import().await, vec![End::Imported; 3]);
    assert_eq!(world.ask("SELECT count(*) FROM badge_images"), ["3"]);
}

#[tokio::test]
async fn skip_leaves_out_the_row_and_its_descendants_and_keep_carries_the_old_id() {
    for (policy, expected) in [(Unmapped::Skip, "2"), (Unmapped::Keep, "3")] {
        let mut world = badges();
        world.policy = policy;
        map_all(&world);
        world.journal.put(
            "user_c",
            None,
            None,
            State::new(Stage::Exported, Condition::Failed),
            true,
        );
        assert_eq!(world.import().await, vec![End::Imported; 3], "{policy:?}");
        assert_eq!(world.ask("SELECT count(*) FROM badge_images"), [expected]);
    }
}

#[tokio::test]
async fn a_row_of_the_webhook_makes_room_and_the_applications_own_row_does_not() {
    let mut world = badges();
    map_all(&world);
    world.journal.mapped("user_c", "user_c2", Origin::Adopted);
    // The webhook numbered its rows in the order of creation: b first. c is a live user.
    world.target(
        "INSERT INTO users VALUES (1,'user_b2','webhook'), (2,'user_a2','webhook'),
                                  (3,'user_c2','live');",
    );
    let ends = world.import().await;
    let End::Failed(failure) = &ends[0] else { panic!("{ends:?}") };
    assert_eq!(failure.code, "row_conflict");
    assert!(
        failure.message.contains("users 3 is in the target already and differs in name"),
        "{failure:?}"
    );
    assert_eq!(
        world.ask("SELECT * FROM users ORDER BY id"),
        ["1|user_a2|Ann", "2|user_b2|Bob", "3|user_c2|live"]
    );
    let intent: Intent = serde_json::from_value(world.units[0].intent.clone().unwrap()).unwrap();
    assert_eq!(intent.replaced.len(), 2);
    assert_eq!(intent.replaced[0].earlier[2], "webhook");
    assert!(world.blocks.contains(&"user_c".to_owned()));
    assert!(!world.blocks.contains(&"user_a".to_owned()));

    // The live application edits a row that we wrote: it is not overwritten.
    world.target("UPDATE users SET name = 'edited' WHERE id = 1");
    let ends = world.import().await;
    assert!(
        matches!(&ends[0], End::Failed(failure) if failure.message.contains("users 1")),
        "{ends:?}"
    );
    assert_eq!(world.ask("SELECT name FROM users WHERE id = 1"), ["edited"]);
}

#[tokio::test]
async fn a_webhook_between_look_and_write_is_a_race_and_not_a_failure() {
    let mut world = badges();
    map_all(&world);
    world.export().await;
    let writer = world.writer();
    let worker = world.worker(writer).await;
    let unit = world.units[0].clone();
    let Prepared::Effect { intent, payload } =
        worker.prepare(&[unit], Pass::Patient).await.unwrap().remove(0)
    else {
        panic!("nothing to do")
    };
    world.units[0].intent = Some(intent);
    world.units[0].attempts = 1;
    world.target("INSERT INTO users VALUES (77,'user_a2','webhook')");
    let outcome = worker.apply(&world.units[0].clone(), payload).await;
    assert!(matches!(outcome, Outcome::NotSent { halt: None, .. }), "{outcome:?}");
    let (end, _) = world.drive(&worker, 0, Pass::Patient).await;
    assert_eq!(end, End::Imported);
    assert_eq!(world.ask("SELECT * FROM users WHERE clerk_id='user_a2'"), ["1|user_a2|Ann"]);
}

#[tokio::test]
async fn a_webhook_row_that_others_refer_to_is_left_alone() {
    let mut world = badges();
    map_all(&world);
    world.target(
        "INSERT INTO users VALUES (77,'user_a2','webhook');
         INSERT INTO badges VALUES (500,'user_a2',NULL,NULL,NULL,NULL);",
    );
    let ends = world.import().await;
    let End::Failed(failure) = &ends[0] else { panic!("{ends:?}") };
    assert!(failure.message.contains("rows of badges refer to"), "{failure:?}");
    assert_eq!(world.ask("SELECT count(*) FROM users"), ["3"]);
}

#[tokio::test]
async fn a_refused_row_is_isolated_and_the_others_are_written() {
    let mut world = World::new(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, owner TEXT, n INTEGER, up INTEGER REFERENCES notes(id))",
        &["notes.owner"],
    );
    world.source(
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<60)
         INSERT INTO notes SELECT i, 'user_a', i, CASE WHEN i>1 THEN i-1 END FROM c",
    );
    world.target(
        "DROP TABLE notes; CREATE TABLE notes (id INTEGER PRIMARY KEY, owner TEXT,
        n INTEGER CHECK (n <> 60), up INTEGER REFERENCES notes(id))",
    );
    world.journal.mapped("user_a", "user_a2", Origin::Created);
    let ends = world.import().await;
    let End::Failed(failure) = &ends[0] else { panic!("{ends:?}") };
    assert_eq!(failure.code, "row_rejected");
    assert!(failure.message.contains("notes 60: CHECK constraint failed"), "{failure:?}");
    assert_eq!(world.ask("SELECT count(*) FROM notes"), ["59"]);
    assert_eq!(world.blocks, ["user_a"]);
}

#[tokio::test]
async fn a_row_is_not_put_under_a_strangers_parent() {
    let mut world = badges();
    map_all(&world);
    world.target(
        "INSERT INTO users VALUES (90,'user_app','App');
         INSERT INTO badges VALUES (12,'user_app',NULL,NULL,NULL,NULL);
         INSERT INTO badges VALUES (50,'user_app','reference',NULL,NULL,NULL);",
    );
    let ends = world.import().await;
    let [End::Imported, End::Failed(badges), End::Held(images)] = ends.as_slice() else {
        panic!("{ends:?}");
    };
    assert_eq!(badges.code, "row_conflict");
    assert_eq!((images[0].code.as_str(), images[0].parts), ("parent_conflict", 1));
    assert_eq!((images[0].key.as_deref(), images[0].scope.as_deref()), (None, Some("badges")));
    assert_eq!((&images[0].kind, images[0].stage), (&SPAN, Stage::Imported));
    assert!(world.blocks.contains(&"user_c".to_owned()));
    assert_eq!(world.ask("SELECT badge_id FROM badge_images"), ["10", "11"]);

    // Once the application's row is gone, ours comes, and then what refers to it.
    world.target("DELETE FROM badges WHERE id = 12");
    assert_eq!(world.import().await, vec![End::Imported; 3]);
    assert_eq!(world.ask("SELECT count(*) FROM badge_images"), ["3"]);
}

#[tokio::test]
async fn a_parent_that_only_the_target_has_is_no_stranger() {
    let mut world = World::new(
        "CREATE TABLE levels (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE players (id TEXT PRIMARY KEY, level INTEGER REFERENCES levels(id));",
        &["players.id"],
    );
    world.source("INSERT INTO players VALUES ('user_a', 7)");
    world.target("INSERT INTO levels VALUES (7, 'gold')");
    map_all(&world);
    assert_eq!(world.import().await, vec![End::Imported]);
    assert_eq!(world.ask("SELECT * FROM players"), ["user_a2|7"]);
}

#[tokio::test]
async fn rows_of_a_user_whom_a_person_took_out_are_left_out_with_their_children() {
    let taken_out = State::new(Stage::Exported, Condition::Skipped);
    for (policy, expected) in [(Unmapped::Hold, "2"), (Unmapped::Skip, "2"), (Unmapped::Keep, "3")]
    {
        let mut world = badges();
        world.policy = policy;
        map_all(&world);
        world.journal.put("user_c", None, None, taken_out, true);
        world.export().await;
        let writer = world.writer();
        let worker = world.worker(writer).await;
        for index in 0..3 {
            let (end, done) = world.drive(&worker, index, Pass::Patient).await;
            assert_eq!(end, End::Imported, "{policy:?}");
            let skipped = u64::from(policy != Unmapped::Keep);
            assert_eq!(done.unwrap().data.unwrap()["skipped"], skipped, "{policy:?}");
        }
        assert!(world.blocks.is_empty(), "{:?}", world.blocks);
        assert_eq!(world.ask("SELECT count(*) FROM badge_images"), [expected]);
    }
}

#[tokio::test]
async fn a_user_who_was_taken_out_does_not_end_the_wait_for_others() {
    let mut world = badges();
    map_all(&world);
    world.journal.put("user_b", None, None, State::new(Stage::Exported, Condition::Failed), true);
    world.journal.put("user_c", None, None, State::new(Stage::Exported, Condition::Skipped), true);
    let ends = world.import().await;
    let [End::Held(users), End::Held(_), End::Held(images)] = ends.as_slice() else {
        panic!("{ends:?}");
    };
    assert_eq!((users.len(), users[0].key.as_deref()), (1, Some("user_b")));
    // Badge 10 is Ann's and names Bob; badge 11 is his own.
    assert_eq!((images[0].code.as_str(), images[0].parts), ("parent_held", 2));
    assert!(!world.blocks.contains(&"user_c".to_owned()));
}

#[tokio::test]
async fn circles_are_written_open_and_closed_later() {
    let mut world = World::new(
        "CREATE TABLE teams (id INTEGER PRIMARY KEY, owner TEXT NOT NULL REFERENCES people(clerk));
         CREATE TABLE people (clerk TEXT PRIMARY KEY, team INTEGER REFERENCES teams(id));",
        &["people.clerk"],
    );
    world.source(
        "INSERT INTO people VALUES ('user_a', 1), ('user_b', 1);
         INSERT INTO teams VALUES (1, 'user_b');",
    );
    map_all(&world);
    let first = world.import().await;
    assert!(matches!(first[0], End::Held(_)), "{first:?}");
    let second = world.import().await;
    let third = world.import().await;
    assert_eq!(third, vec![End::Imported; 2], "{first:?} {second:?}");
    assert_eq!(world.ask("SELECT * FROM people"), ["user_a2|1", "user_b2|1"]);
    assert_eq!(world.ask("PRAGMA foreign_key_check"), Vec::<String>::new());
    let intent: Intent = serde_json::from_value(world.units[0].intent.clone().unwrap()).unwrap();
    assert!(intent.replaced.is_empty(), "a row of ours is nobody else's earlier row");
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_looking() {
    let mut world = badges();
    map_all(&world);
    world.target("INSERT INTO users VALUES (2,'user_b2','Bob')");
    world.export().await;
    let writer = world.writer();
    let worker = world.worker(writer).await;
    let unit = world.units[0].clone();
    let Prepared::Effect { intent, payload } =
        worker.prepare(&[unit], Pass::Patient).await.unwrap().remove(0)
    else {
        panic!("nothing to do")
    };
    world.units[0].intent = Some(intent);
    world.units[0].attempts = 1;
    let unit = world.units[0].clone();
    let probed = worker.probe(std::slice::from_ref(&unit)).await.unwrap().remove(0);
    assert!(matches!(probed, Probed::Absent), "{probed:?}");
    assert!(matches!(worker.apply(&unit, payload).await, Outcome::Done(_)));

    world.restart();
    let writer = world.writer();
    let worker = world.worker(writer).await;
    let Probed::Done(done) = worker.probe(&[unit]).await.unwrap().remove(0) else {
        panic!("not found")
    };
    // 2 was there before: it is not ours.
    let data = done.data.unwrap();
    assert_eq!(data["inserted"]["ranges"], serde_json::json!([[1, 1], [3, 3]]));
    assert_eq!(data["equal"], 1);
}

#[tokio::test]
async fn a_webhooks_row_in_place_of_a_lost_write_is_not_taken_for_ours() {
    let mut world = World::new(
        "CREATE TABLE users (clerk_id TEXT PRIMARY KEY, name TEXT)",
        &["users.clerk_id"],
    );
    world.source("INSERT INTO users VALUES ('user_a','Ann')");
    world.journal.mapped("user_a", "user_a2", Origin::Created);
    world.export().await;
    let writer = world.writer();
    let worker = world.worker(writer).await;
    let unit = world.units[0].clone();
    let Prepared::Effect { intent, payload } =
        worker.prepare(&[unit], Pass::Patient).await.unwrap().remove(0)
    else {
        panic!("nothing to do")
    };
    world.units[0].intent = Some(intent);
    world.units[0].attempts = 1;
    // The request never arrives, and the process that sent it is gone.
    drop(payload);
    world.restart();
    world.target("INSERT INTO users VALUES ('user_a2','webhook')");
    let writer = world.writer();
    let worker = world.worker(writer).await;
    let unit = world.units[0].clone();
    let probed = worker.probe(&[unit]).await.unwrap().remove(0);
    assert!(matches!(probed, Probed::Absent), "{probed:?}");
    // Killed once more: from here on the journal alone knows that the write is void.
    world.units[0].intent_void = true;
    world.restart();
    let writer = world.writer();
    let worker = world.worker(writer).await;
    let (end, _) = world.drive(&worker, 0, Pass::Patient).await;
    assert_eq!(end, End::Imported);
    assert_eq!(world.ask("SELECT * FROM users"), ["user_a2|Ann"]);
}

#[tokio::test]
async fn spans_are_cut_by_size_and_cover_every_row_once() {
    let mut world = World::new(
        "CREATE TABLE big (a TEXT, b INTEGER, body BLOB, PRIMARY KEY (a, b)) WITHOUT ROWID;
         CREATE TABLE loose (x);
         CREATE TABLE maybe (k TEXT PRIMARY KEY, v);",
        &[],
    );
    world.source(
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<300)
         INSERT INTO big SELECT 'k;'||(i%7), i, zeroblob(10000) FROM c;
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<12000)
         INSERT INTO loose SELECT CASE i%3 WHEN 0 THEN NULL ELSE i END FROM c;
         INSERT INTO maybe VALUES (NULL, 1), (NULL, 2), ('a', 3);",
    );
    let ends = world.import().await;
    assert!(ends.iter().all(|end| *end == End::Imported), "{ends:?}");
    let keys: Vec<_> = world.units.iter().map(|unit| unit.source_key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "big#1", "big#2", "big#3", "big#4", "big#5", "big#6", "big#7", "loose#1", "loose#2",
            "loose#3", "loose#4", "loose#5", "maybe#1"
        ]
    );
    let rows: u64 = world.units.iter().map(|unit| unit.data["rows"].as_u64().unwrap()).sum();
    assert_eq!(rows, 12303);
    for (columns, rest) in [
        (&["a", "b", "body"][..], "FROM big ORDER BY a, b"),
        (&["rowid", "x"][..], "FROM loose ORDER BY rowid"),
        (&["rowid", "k", "v"][..], "FROM maybe ORDER BY rowid"),
    ] {
        let source = world.rows("source.sqlite", columns, rest).await;
        assert_eq!(source, world.rows("target.sqlite", columns, rest).await);
    }
}

#[tokio::test]
async fn a_thousand_webhook_rows_make_room_in_few_questions() {
    let mut world = World::new(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, clerk_id TEXT NOT NULL UNIQUE, name TEXT)",
        &["users.clerk_id"],
    );
    let (mut ours, mut theirs) = (String::new(), String::new());
    for n in 1..=1000 {
        ours.push_str(&format!("INSERT INTO users VALUES ({n},'user_{n}','name {n}');"));
        let place = 1 + (n * 7) % 1000;
        theirs.push_str(&format!("INSERT INTO users VALUES ({place},'user_new{n}',NULL);"));
        world.journal.mapped(&format!("user_{n}"), &format!("user_new{n}"), Origin::Created);
    }
    world.source(&format!("BEGIN; {ours} COMMIT;"));
    world.target(&format!("BEGIN; {theirs} COMMIT;"));
    assert_eq!(world.import().await, [End::Imported]);
    let wrong =
        world.ask("SELECT count(*) FROM users WHERE clerk_id <> 'user_new'||id OR name IS NULL");
    assert_eq!(wrong, ["0"]);
}

#[tokio::test]
async fn users_settle_when_all_spans_have_and_nothing_holds_them() {
    let mut world = badges();
    map_all(&world);
    world.export().await;
    let settle = SettleMentions::new(USER, Arc::clone(&world.journal) as Arc<dyn Knowledge>);
    let mut unit = world.units[0].clone();
    unit.kind = USER;
    unit.source_key = "user_a".to_owned();
    let units = [unit];
    world.journal.unsettled.lock().unwrap().insert("users".to_owned());
    let prepared = settle.prepare(&units, Pass::Patient).await.unwrap().remove(0);
    assert!(matches!(prepared, Prepared::Wait(_)));
    let prepared = settle.prepare(&units, Pass::Final).await.unwrap().remove(0);
    assert!(matches!(prepared, Prepared::Hold { .. }), "a row may still be missing");
    world.journal.unsettled.lock().unwrap().clear();
    let prepared = settle.prepare(&units, Pass::Patient).await.unwrap().remove(0);
    assert!(matches!(prepared, Prepared::Advance(_)));
    world.journal.blocked.lock().unwrap().insert("user_a".to_owned());
    let prepared = settle.prepare(&units, Pass::Patient).await.unwrap().remove(0);
    let Prepared::Hold { waits, .. } = prepared else { panic!("it is blocked") };
    assert_eq!(waits[0].code, "rows_held");
}

#[test]
fn a_file_that_is_no_database_is_told_and_none_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.sqlite");
    assert!(matches!(SqliteWriter::open(&missing), Err(OpenError::File { .. })));
    assert!(!missing.exists());
    assert!(matches!(SqliteReader::open(folder.path()), Err(OpenError::NotAFile { .. })));
    let text = folder.path().join("text.sqlite");
    std::fs::write(&text, "this is not a database, whatever its name may say".repeat(50)).unwrap();
    assert!(matches!(SqliteReader::open(&text), Err(OpenError::Sqlite { .. })));
}
