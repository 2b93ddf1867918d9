//! Every shape of table, there and back, between SQLite files and through the emulated D1 with
//! its limits: what arrives is compared by a program that knows nothing of the rest, the target's
//! schema is the same at every stop, and after a rollback the target is as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rehome_core::{Halt, Origin, Outcome, Pass, Prepared, Transition as _};
use rehome_records::DatabaseKind;
use rehome_records::schema::{self, Finding, Selection, Severity};
use rehome_records::sqlite::SqliteReader;
use support::back::Back;
use support::picture::{Picture, assert_sound, picture};
use support::shapes::{Shape, shapes, triggers};
use support::yard::{Trouble, Yard};
use support::{End, World};

fn yard(shape: &Shape, kind: DatabaseKind) -> Yard {
    let mut yard = match kind {
        DatabaseKind::Sqlite => Yard::new(&shape.schema, shape.ids),
        DatabaseKind::D1 => Yard::over_d1(&shape.schema, shape.ids),
    };
    yard.execute("source.sqlite", &shape.source);
    yard.execute("target.sqlite", &shape.target);
    yard.users = ["a", "b", "c"].map(|name| format!("user_{name}")).to_vec();
    yard
}

/// What `check` says of the two schemas.
fn said(yard: &Yard, kind: DatabaseKind, selection: &Selection) -> Vec<Finding> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let open = |name: &str| SqliteReader::open(&yard.path(name)).unwrap().inline();
        let source = schema::read(&open("source.sqlite"), selection).await.unwrap();
        let all = Selection { tables: None, exclude: Vec::new() };
        let target = schema::read(&open("target.sqlite"), &all).await.unwrap();
        schema::compare(&source, &target, kind)
    })
}

fn assert_same(what: &str, expected: &Picture, found: &Picture) {
    assert_eq!(expected.schema, found.schema, "{what}: the schema");
    assert_rows(what, &expected.rows, found);
}

fn assert_rows(
    what: &str,
    expected: &std::collections::BTreeMap<String, Vec<Vec<String>>>,
    found: &Picture,
) {
    for (table, rows) in expected {
        let there = &found.rows[table];
        let short = |rows: &[Vec<String>], others: &[Vec<String>]| -> Vec<String> {
            let only = rows.iter().filter(|row| !others.contains(row)).take(5);
            only.map(|row| row.join(" | ").chars().take(300).collect()).collect()
        };
        assert!(
            rows == there,
            "{what}: {table}: missing {:#?}, too many {:#?}",
            short(rows, there),
            short(there, rows)
        );
    }
}

/// All of them, so that one which fails does not hide the next.
fn all(kind: DatabaseKind, trouble: Trouble) {
    let fits = |shape: &Shape| kind == DatabaseKind::Sqlite || !shape.only_sqlite;
    let failed: Vec<_> = shapes()
        .iter()
        .filter(|shape| fits(shape))
        .filter(|shape| {
            let attempt = AssertUnwindSafe(|| there_and_back(shape, kind, trouble));
            catch_unwind(attempt).is_err()
        })
        .map(|shape| shape.name)
        .collect();
    assert!(failed.is_empty(), "{kind:?}, {trouble:?}: {failed:#?}");
}

#[test]
fn every_shape_goes_there_and_back_between_files() {
    all(DatabaseKind::Sqlite, Trouble::None);
}

#[test]
fn every_shape_goes_there_and_back_through_d1() {
    all(DatabaseKind::D1, Trouble::None);
}

#[test]
fn every_shape_goes_there_and_back_though_answers_are_lost() {
    all(DatabaseKind::Sqlite, Trouble::Lost);
}

fn there_and_back(shape: &Shape, kind: DatabaseKind, trouble: Trouble) {
    let what = format!("{} ({kind:?}, {trouble:?})", shape.name);
    let mut yard = yard(shape, kind);
    let target = yard.path("target.sqlite");
    let refused: Vec<_> = said(&yard, kind, &Selection::default())
        .into_iter()
        .filter(|finding| finding.severity != Severity::Note)
        .collect();
    assert_eq!(refused, [], "{what}");
    let (source, before) = (picture(&yard.path("source.sqlite")), picture(&target));
    assert_sound(&target);

    yard.trouble = trouble;
    yard.forth().unwrap();
    yard.assert_all_there();
    let there = picture(&target);
    assert_eq!(before.schema, there.schema, "{what}");
    assert_rows(&what, &before.with(&source), &there);
    assert_sound(&target);
    for (table, counter) in &source.counters {
        assert_eq!(there.counters[table], *counter.max(&before.counters[table]), "{what}: {table}");
    }

    let (equal, found) = yard.verify();
    assert_eq!(found, [""; 0], "{what}");
    assert!(equal > 0, "{what}");

    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{what}: {:?}", said.refused);
    assert_same(&what, &before, &picture(&target));
    assert_sound(&target);
    yard.assert_all_back();

    // And forth once more, which nothing of the first time may disturb.
    yard.forth().unwrap();
    assert_same(&what, &there, &picture(&target));
}

#[test]
fn triggers_are_there_at_every_instant_and_fire_for_the_application_only() {
    let shape = triggers();
    let mut whole = yard(&shape, DatabaseKind::Sqlite);
    let before = picture(&whole.path("target.sqlite"));
    whole.forth().unwrap();
    let (there, after) = (whole.writes, picture(&whole.path("target.sqlite")));
    whole.back(&Back::default()).unwrap();
    let back = whole.writes;
    let mut deaths = 0;
    for late in [false, true] {
        for at in 0..there + back {
            let mut yard = yard(&shape, DatabaseKind::Sqlite);
            let target = yard.path("target.sqlite");
            let what = format!("death at {at}, {late}");
            let dies = |at| Trouble::Dies { at, after: late };
            if at < there {
                yard.trouble = dies(at);
                deaths += u32::from(yard.forth().is_none());
            } else {
                yard.forth().unwrap();
                yard.trouble = dies(at - there);
                deaths += u32::from(yard.back(&Back::default()).is_none());
            }
            yard.trouble = Trouble::None;
            assert_eq!(picture(&target).schema, before.schema, "{what}");
            if at % 2 == 0 {
                yard.forth().unwrap();
                assert_same(&what, &after, &picture(&target));
            }
            let said = yard.back(&Back::default()).unwrap();
            assert!(said.refused.is_empty(), "{what}: {:?}", said.refused);
            assert_same(&what, &before, &picture(&target));
        }
    }
    assert!(u64::from(deaths) + 6 >= (there + back) * 2, "{deaths} of {there} and {back}");

    let mut yard = yard(&shape, DatabaseKind::Sqlite);
    yard.forth().unwrap();
    yard.live("INSERT INTO posts(who, body) VALUES ('own', 'late')");
    let posts = &picture(&yard.path("target.sqlite")).rows["audit"];
    assert_eq!(posts.len(), after.rows["audit"].len() + 1, "the application's own row is logged");
}

/// Schemas of which something cannot be carried: source, target, the kind of target, what is
/// found, and whether excluding the table is a way out.
#[test]
fn what_cannot_be_carried_is_said_with_the_way_out() {
    use DatabaseKind::{D1, Sqlite};
    let docs = "CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT);";
    let fts = "CREATE VIRTUAL TABLE f USING fts5(title, content='docs', content_rowid='id');";
    let add = "CREATE TRIGGER ai AFTER INSERT ON docs BEGIN INSERT INTO f(rowid, title) VALUES (new.id, new.title); END;";
    let gone = "CREATE TRIGGER ad AFTER DELETE ON docs BEGIN INSERT INTO f(f, rowid, title) VALUES ('delete', old.id, old.title); END;";
    let busy = "CREATE TRIGGER au AFTER UPDATE ON docs BEGIN INSERT INTO f(f, rowid, title) VALUES ('delete', old.id, old.title);
        INSERT INTO f(rowid, title) VALUES (new.id, (SELECT upper(new.title))); END;";
    let lower = "CREATE TRIGGER low AFTER INSERT ON docs begin select 1; end;";
    let bare = "CREATE VIRTUAL TABLE f USING fts5(title, content='');";
    type Case<'a> = (&'a str, String, String, DatabaseKind, &'a [&'a str], &'a str);
    let cases: Vec<Case<'_>> = vec![
        (
            "no key",
            "CREATE TABLE t (rowid, _rowid_, oid);".into(),
            String::new(),
            Sqlite,
            &["no_key t"],
            "t",
        ),
        (
            "a semicolon in a name",
            "CREATE TABLE \"a;b\" (id INTEGER PRIMARY KEY);".into(),
            String::new(),
            Sqlite,
            &["name a;b"],
            "a;b",
        ),
        (
            "a trigger that D1 would cut",
            format!("{docs}{lower}"),
            String::new(),
            D1,
            &["triggers docs"],
            "docs",
        ),
        ("the same in a file", format!("{docs}{lower}"), String::new(), Sqlite, &[], ""),
        (
            "an index without triggers",
            format!("{docs}{fts}"),
            String::new(),
            D1,
            &["index_unkept f"],
            "f",
        ),
        (
            "an index without all triggers",
            format!("{docs}{fts}{add}{gone}"),
            String::new(),
            Sqlite,
            &["index_unkept f"],
            "f",
        ),
        (
            "an index whose trigger asks",
            format!("{docs}{fts}{add}{gone}{busy}"),
            String::new(),
            Sqlite,
            &["index_unkept f"],
            "f",
        ),
        (
            "a contentless index",
            format!("{docs}{bare}"),
            String::new(),
            Sqlite,
            &["index_unkept f"],
            "f",
        ),
        ("an index only in the source", format!("{docs}{fts}"), docs.into(), Sqlite, &[], ""),
        (
            "an index only in the target",
            docs.into(),
            format!("{docs}{fts}"),
            Sqlite,
            &["index_unkept f"],
            "",
        ),
        (
            "a foreign module",
            "CREATE VIRTUAL TABLE v USING fts4(a);".into(),
            String::new(),
            Sqlite,
            &["virtual_table v"],
            "v",
        ),
    ];
    for (what, source, target, kind, expected, exclude) in cases {
        let yard = Yard::new(&source, &[]);
        if !target.is_empty() {
            std::fs::remove_file(yard.path("target.sqlite")).unwrap();
            yard.execute("target.sqlite", &target);
        }
        let words = |selection: &Selection| -> Vec<String> {
            let found = said(&yard, kind, selection);
            let loud = found.iter().filter(|finding| finding.severity != Severity::Note);
            assert!(found.iter().all(|one| !one.message.is_empty() && !one.hint.is_empty()));
            loud.map(|finding| format!("{} {}", finding.code, finding.table)).collect()
        };
        assert_eq!(words(&Selection::default()), expected, "{what}");
        if !exclude.is_empty() {
            let without = Selection { tables: None, exclude: vec![exclude.to_owned()] };
            assert_eq!(words(&without), [""; 0], "{what}, excluded");
        }
    }
}

#[tokio::test]
async fn triggers_that_changed_since_they_were_read_end_the_run_and_stay_as_they_are() {
    let trigger = |name: &str, body: &str| {
        format!("CREATE TRIGGER {name} AFTER INSERT ON users BEGIN {body}; END;")
    };
    let first = trigger("welcome", "INSERT INTO users VALUES (new.id || '!')");
    for (change, count) in [
        (format!("DROP TRIGGER welcome; {}", trigger("welcome", "SELECT 2")), 1),
        ("DROP TRIGGER welcome".to_owned(), 0),
        (trigger("one_more", "SELECT 3"), 2),
    ] {
        let schema = format!("CREATE TABLE users (id TEXT PRIMARY KEY); {first}");
        let mut world = World::new(&schema, &["users.id"]);
        world.source("DROP TRIGGER welcome; INSERT INTO users VALUES ('user_a')");
        world.journal.mapped("user_a", "new_a", Origin::Created);
        world.export().await;
        let writer = world.writer();
        let worker = world.worker(writer).await;
        let unit = world.units[0].clone();
        let Prepared::Effect { payload, .. } =
            worker.prepare(std::slice::from_ref(&unit), Pass::Patient).await.unwrap().remove(0)
        else {
            panic!("nothing to do")
        };
        world.target(&change);
        let kept = "SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY rowid";
        let changed = world.ask(kept);
        let outcome = worker.apply(&unit, payload).await;
        let Outcome::NotSent { halt: Some(Halt::Refused { message, .. }), .. } = outcome else {
            panic!("{change}: {outcome:?}")
        };
        assert!(message.contains("the triggers of users changed"), "{message}");
        assert_eq!(world.ask("SELECT count(*) FROM users"), ["0"], "{change}");

        // The next run reads them as they are, and gives them back so.
        world.restart();
        assert_eq!(world.import().await, [End::Imported], "{change}");
        assert_eq!(world.ask("SELECT id FROM users"), ["new_a"], "{change}");
        assert_eq!(world.ask(kept), changed, "{change}");
        assert_eq!(changed.len(), count, "{change}");
    }
}
