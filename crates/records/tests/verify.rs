//! What a verification sees, what a plan foretells, and which ids a search finds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use rehome_core::{Condition, Knowledge, Origin, Stage, State};
use rehome_records::DatabaseKind;
use rehome_records::id_search::{How, Prefix, Sighting, known_to, propose, search};
use rehome_records::ids::{IdColumns, IdError};
use rehome_records::plan::{TablePlan, plan};
use rehome_records::policy::Unmapped;
use rehome_records::schema::{self, Selection, Severity};
use rehome_records::verify::{RowAudit, RowFinding};
use support::{End, USER, World};

const SCHEMA: &str = "
    CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT);
    CREATE TABLE posts (id INTEGER PRIMARY KEY, author TEXT REFERENCES users(id), body TEXT, meta TEXT);";

fn world() -> World {
    let world = World::new(SCHEMA, &["users.id", "posts.meta:$.seen[*]"]);
    world.source(
        "INSERT INTO users VALUES ('user_a','Ann'), ('user_b','Bob');
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<20)
         INSERT INTO posts SELECT i, CASE i%2 WHEN 0 THEN 'user_a' ELSE 'user_b' END, 'text '||i,
           '{\"seen\":[\"user_a\"]}' FROM c;",
    );
    world.journal.mapped("user_a", "user_a2", Origin::Created);
    world.journal.mapped("user_b", "user_b2", Origin::Created);
    world
}

async fn audit(world: &World) -> RowAudit {
    RowAudit::new(
        world.reader("source.sqlite"),
        world.reader("target.sqlite"),
        Arc::clone(&world.journal) as Arc<dyn Knowledge>,
        world.layout().await,
        Unmapped::Hold,
    )
}

async fn foretell(world: &World) -> Vec<TablePlan> {
    plan(
        world.reader("source.sqlite"),
        world.reader("target.sqlite"),
        Arc::clone(&world.journal) as Arc<dyn Knowledge>,
        world.layout().await,
        Unmapped::Hold,
        None,
    )
    .await
    .unwrap()
}

fn prefixes() -> Vec<Prefix> {
    vec![Prefix { kind: USER, prefix: "user_".to_owned() }]
}

#[tokio::test]
async fn every_kind_of_difference_is_told_by_row_and_column() {
    let mut world = world();
    assert_eq!(world.import().await, vec![End::Imported; 2]);
    let reports = audit(&world).await.tables(&mut |_, _, _| panic!("all is equal")).await.unwrap();
    assert_eq!((reports[1].equal, reports[1].extra, reports[1].missing), (20, 0, 0));

    world.target(
        "UPDATE posts SET body = 'other' WHERE id = 3; DELETE FROM posts WHERE id = 4;
         INSERT INTO posts VALUES (99, 'nobody', 'user_b wrote', NULL);",
    );
    world.source("INSERT INTO posts VALUES (21, 'user_a', 'after the export', NULL)");
    let mut found = Vec::new();
    let audit = audit(&world).await;
    let reports = audit
        .tables(&mut |table, key, finding| found.push((table.to_owned(), key.to_owned(), finding)))
        .await
        .unwrap();
    let posts = &reports[1];
    assert_eq!(
        (
            posts.source_rows,
            posts.target_rows,
            posts.equal,
            posts.missing,
            posts.different,
            posts.extra
        ),
        (21, 20, 18, 2, 1, 1)
    );
    assert_eq!(
        found,
        [
            ("posts".into(), "3".into(), RowFinding::Different(vec!["body".into()])),
            ("posts".into(), "4".into(), RowFinding::Missing),
            ("posts".into(), "21".into(), RowFinding::Missing),
        ]
    );
    let broken = audit.broken_references().await.unwrap();
    assert_eq!((broken[0].table.as_str(), broken[0].rows), ("posts", 1));
}

#[tokio::test]
async fn an_id_of_the_source_left_in_the_target_is_found_anywhere() {
    let mut world = world();
    world.import().await;
    let database = world.reader("target.sqlite");
    let all = Selection { tables: None, exclude: Vec::new() };
    let schema = schema::read(database.as_ref(), &all).await.unwrap();
    let mut seen = Vec::new();
    let known = known_to(world.journal.as_ref());
    for expected in [0, 3] {
        seen.clear();
        let mut see = |s: Sighting| {
            seen.push((s.table, s.column, s.key, s.beside == 0));
            ControlFlow::Continue(())
        };
        let journal = world.journal.as_ref();
        let prefixes = prefixes();
        let searched = search(database.as_ref(), &schema, &prefixes, journal, &known, &mut see);
        let searched = searched.await.unwrap();
        assert_eq!(searched.unchecked, Vec::<String>::new());
        assert_eq!(seen.len(), expected, "{seen:?}");
        world.target(
            "UPDATE posts SET body = 'by user_b, user_b2' WHERE id = 3;
             UPDATE posts SET body = hex(zeroblob(300)) || ' user_a' WHERE id = 5;
             UPDATE users SET name = 'user_a' WHERE id = 'user_b2';",
        );
    }
    seen.sort();
    assert_eq!(seen[0], ("posts".into(), "body".into(), "3".into(), false));
    assert_eq!(seen[2], ("users".into(), "name".into(), "rowid 2".into(), true));
}

/// More rows than one question goes through, ids in every place that is odd, each told once.
#[tokio::test]
async fn an_id_left_in_a_large_table_is_found_once_whatever_it_stands_in() {
    let world = world();
    world.target(
        "CREATE TABLE log (a INTEGER, b TEXT, who TEXT COLLATE NOCASE, what, PRIMARY KEY (a, b))
            WITHOUT ROWID;
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<260000)
         INSERT INTO log SELECT i/7, 'k'||i, 'user_a2', 'user_b2' FROM c;
         CREATE TABLE heap (who TEXT);
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<260000)
         INSERT INTO heap SELECT 'user_nobody'||i FROM c;
         UPDATE log SET who = 'user_a' WHERE b = 'k1';
         UPDATE log SET who = 'USER_A' WHERE b = 'k2';
         UPDATE log SET who = 'user_a', what = cast('user_b' AS blob) WHERE b = 'k249999';
         UPDATE log SET what = 'user_a' || char(0) || 'x' WHERE b = 'k250000';
         UPDATE log SET what = 'user_a2' || char(0) || 'user_b' WHERE b = 'k250001';
         UPDATE log SET what = x'ff757365725f61' WHERE b = 'k259999';
         UPDATE log SET what = 'user_a, user_b', who = 'user_b' WHERE b = 'k260000';
         UPDATE log SET what = 'user_aaaa' WHERE b = 'k5';
         UPDATE log SET what = 'user_' WHERE b = 'k6';
         UPDATE heap SET who = 'user_b' WHERE rowid % 100 = 0;",
    );
    let database = world.reader("target.sqlite");
    let all = Selection { tables: None, exclude: Vec::new() };
    let schema = schema::read(database.as_ref(), &all).await.unwrap();
    let journal = world.journal.as_ref();
    let known = known_to(journal);
    let mut seen = Vec::new();
    let mut heap = 0;
    let mut see = |s: Sighting| {
        if s.table == "heap" {
            heap += 1;
        } else {
            seen.push((s.key, s.column, s.id, s.beside == 0));
        }
        ControlFlow::Continue(())
    };
    let searched =
        search(database.as_ref(), &schema, &prefixes(), journal, &known, &mut see).await.unwrap();
    assert_eq!((searched.tables, heap), (4, 2600));
    seen.sort();
    let expected = [
        ("(0, 'k1')", "who", "user_a", true),
        ("(35714, 'k249999')", "what", "user_b", true),
        ("(35714, 'k249999')", "who", "user_a", true),
        ("(35714, 'k250000')", "what", "user_a", false),
        ("(35714, 'k250001')", "what", "user_b", false),
        ("(37142, 'k259999')", "what", "user_a", false),
        ("(37142, 'k260000')", "what", "user_a", false),
        ("(37142, 'k260000')", "what", "user_b", false),
        ("(37142, 'k260000')", "who", "user_b", true),
    ];
    let expected = expected
        .map(|(key, column, id, whole)| (key.to_owned(), column.to_owned(), id.to_owned(), whole));
    assert_eq!(seen, expected);

    // Enough is enough.
    let mut heard = 0;
    let mut first = |_: Sighting| {
        heard += 1;
        ControlFlow::Break(())
    };
    let _part =
        search(database.as_ref(), &schema, &prefixes(), journal, &known, &mut first).await.unwrap();
    assert_eq!(heard, 1);
}

#[tokio::test]
async fn undeclared_columns_are_proposed_and_foreign_keys_follow() {
    let world = world();
    let database = world.reader("source.sqlite");
    let schema = schema::read(database.as_ref(), &Selection::default()).await.unwrap();
    let declared = BTreeMap::from([("users.id".to_owned(), "user".to_owned())]);
    let ids = IdColumns::resolve(&declared, &schema).unwrap();
    let follower = ids.of("posts").next().unwrap();
    assert_eq!(
        (follower.column.as_str(), follower.follows.as_deref()),
        ("author", Some("users.id"))
    );
    let known = known_to(world.journal.as_ref());
    let proposals =
        propose(database.as_ref(), &schema, &ids, &prefixes(), &known, usize::MAX).await.unwrap();
    assert_eq!(proposals.len(), 1);
    let seen = &proposals[0];
    let how = How::At("$.seen[*]".to_owned());
    assert_eq!((seen.column.as_str(), &seen.how, seen.seen), ("meta", &how, 20));

    let wrong = BTreeMap::from([
        ("users".to_owned(), "user".to_owned()),
        ("users.none".to_owned(), "user".to_owned()),
        ("posts.meta:$x".to_owned(), "user".to_owned()),
    ]);
    let errors = IdColumns::resolve(&wrong, &schema).unwrap_err();
    assert!(matches!(
        errors.as_slice(),
        [IdError::Path { .. }, IdError::Form(_), IdError::Missing(_)]
    ));
}

#[tokio::test]
async fn a_plan_counts_and_writes_nothing() {
    let world = world();
    world.target(
        "INSERT INTO users VALUES ('user_a2', 'webhook');
         INSERT INTO posts VALUES (1, 'user_x', 'live', NULL);",
    );
    let moving = State::new(Stage::Exported, Condition::Ready);
    world.journal.put("user_b", None, None, moving, true);
    let before = std::fs::read(world.path("target.sqlite")).unwrap();
    let plans = plan(
        world.reader("source.sqlite"),
        world.reader("target.sqlite"),
        Arc::clone(&world.journal) as Arc<dyn Knowledge>,
        world.layout().await,
        Unmapped::Hold,
        None,
    )
    .await
    .unwrap();
    assert_eq!((plans[0].insert, plans[0].replace), (1, 1));
    assert_eq!((plans[1].rows, plans[1].insert, plans[1].conflict, plans[1].spans), (20, 19, 1, 1));
    assert_eq!(before, std::fs::read(world.path("target.sqlite")).unwrap());
}

#[tokio::test]
async fn a_plan_holds_what_refers_to_a_strangers_row_and_not_what_a_webhook_made() {
    let world = World::new(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, clerk TEXT NOT NULL UNIQUE, name TEXT);
         CREATE TABLE badges (id TEXT PRIMARY KEY, owner TEXT REFERENCES users(clerk));
         CREATE TABLE images (id TEXT PRIMARY KEY, badge TEXT REFERENCES badges(id));
         CREATE TABLE marks (id TEXT PRIMARY KEY, image TEXT REFERENCES images(id));",
        &["users.clerk"],
    );
    world.source(
        "INSERT INTO users VALUES (1,'user_a','Ann');
         INSERT INTO badges VALUES ('b1','user_a'), ('b3','user_a');
         INSERT INTO images VALUES ('i1','b1'), ('i3','b3');
         INSERT INTO marks VALUES ('m1','i1'), ('m3','i3');",
    );
    world.target(
        "INSERT INTO users VALUES (7,'user_app','App'), (8,'user_a2','webhook');
         INSERT INTO badges VALUES ('b3','user_app');",
    );
    world.journal.mapped("user_a", "user_a2", Origin::Created);
    let plans = foretell(&world).await;
    let counts: Vec<_> =
        plans.iter().map(|p| (p.table.as_str(), p.insert, p.conflict, p.held)).collect();
    assert_eq!(
        counts,
        [("users", 0, 0, 0), ("badges", 1, 1, 0), ("images", 1, 0, 1), ("marks", 1, 0, 1)]
    );
    assert_eq!(plans[0].replace, 1);
}

#[tokio::test]
async fn rows_of_a_user_who_was_taken_out_are_skipped_in_the_plan_and_in_the_proof() {
    let mut world = World::new(
        "CREATE TABLE users (id TEXT PRIMARY KEY);
         CREATE TABLE badges (id TEXT PRIMARY KEY, owner TEXT REFERENCES users(id));
         CREATE TABLE images (id TEXT PRIMARY KEY, badge TEXT REFERENCES badges(id));
         CREATE TABLE marks (id TEXT PRIMARY KEY, image TEXT REFERENCES images(id));",
        &["users.id"],
    );
    world.source(
        "INSERT INTO users VALUES ('user_a'), ('user_b');
         INSERT INTO badges VALUES ('b1','user_a'), ('b2','user_b');
         INSERT INTO images VALUES ('i1','b1'), ('i2','b2');
         INSERT INTO marks VALUES ('m1','i1'), ('m2','i2');",
    );
    world.journal.mapped("user_a", "user_a2", Origin::Created);
    world.journal.put("user_b", None, None, State::new(Stage::Exported, Condition::Skipped), true);
    for plan in foretell(&world).await {
        assert_eq!((plan.insert, plan.skipped, plan.held), (1, 1, 0), "{plan:?}");
    }
    assert_eq!(world.import().await, vec![End::Imported; 4]);
    let mut see = |table: &str, key: &str, finding| panic!("{table} {key}: {finding:?}");
    for report in audit(&world).await.tables(&mut see).await.unwrap() {
        assert_eq!((report.equal, report.skipped), (1, 1), "{report:?}");
        assert_eq!((report.missing, report.held, report.extra), (0, 0, 0), "{report:?}");
    }
}

#[tokio::test]
async fn schemas_that_do_not_fit_are_refused_in_words() {
    let world = World::new("CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT, y TEXT)", &[]);
    world.source("CREATE TABLE b (id TEXT PRIMARY KEY); CREATE VIEW v AS SELECT 1");
    world.target(
        "DROP TABLE a; CREATE TABLE a (id INTEGER PRIMARY KEY, x INTEGER, z TEXT NOT NULL);
         CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END;",
    );
    let ours = Selection::default();
    let source = schema::read(world.reader("source.sqlite").as_ref(), &ours).await.unwrap();
    let target = schema::read(world.reader("target.sqlite").as_ref(), &ours).await.unwrap();
    let findings = schema::compare(&source, &target, DatabaseKind::Sqlite);
    let mut codes: Vec<_> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Refused)
        .map(|finding| finding.code.as_str())
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, ["column_missing", "column_type", "column_unknown", "table_missing"]);
    assert!(
        schema::compare(&source, &source, DatabaseKind::D1)
            .iter()
            .all(|f| f.severity == Severity::Note)
    );
}
