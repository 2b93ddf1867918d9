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

use rehome_emulator::seed::SeedUser;
use rehome_tests::merged::{CELLS, NAMES, Own, SAID, all_rekeyed, ask, write};
use rehome_tests::{Databases, Options, Stage};

async fn merges(databases: Databases) {
    let stage = Stage::set(Options { users: 40, rows: 200, databases, ..Options::default() }).await;
    let (source, target) = stage.databases().unwrap();
    let mut own = Own::fill(&stage, 60, 25);

    // Nobody said what is to become of the conflicts.
    let plan = stage.rehome(&["plan", "--json"]).await.json();
    assert!(plan["tables"]["replies"]["conflict"].as_u64().unwrap() > 0, "{plan}");
    stage.configure(|text| all_rekeyed(&text));
    let plan = stage.rehome(&["plan", "--json"]).await.json();
    for table in NAMES {
        assert_eq!(plan["tables"][table]["conflict"], 0, "{plan}");
    }
    assert_eq!(plan["tables"]["threads"]["keys_move_by"], 2000, "{plan}");

    let _complete = stage.run().await.expect(0);
    own.judge(&stage).unwrap();
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
    own.said.extend(ask(&target, SAID).into_iter().filter(|row| row.contains(" live ")));
    own.cells.extend(ask(&target, CELLS).into_iter().filter(|row| row.ends_with("live")));
    let _caught_up = stage.run().await.expect(0);
    own.judge(&stage).unwrap();
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
        own.cells.sort();
        own.cells
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

/// Somebody has an account in both, and a row in both tables of members, of which each account has
/// one: the target's stays, and what refers to ours by its number comes to stand below it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_at_home_in_both_keeps_one_row_and_everything_that_hangs_on_it() {
    let there = SeedUser::with_email("both@home.example");
    let options = Options {
        users: 20,
        rows: 100,
        source_people: vec![there.clone()],
        target_people: vec![there],
        ..Options::default()
    };
    let stage = Stage::set(options).await;
    let (source, target) = stage.databases().unwrap();
    let tables = "CREATE TABLE members (id INTEGER PRIMARY KEY, who TEXT UNIQUE, name TEXT);
        CREATE TABLE notes (id INTEGER PRIMARY KEY, member INTEGER NOT NULL REFERENCES members(id),
            body TEXT);";
    let theirs = "INSERT INTO members SELECT rowid, clerk_id, 'their ' || rowid FROM users;
        INSERT INTO notes SELECT id, id, 'of ' || name FROM members;";
    write(&source, &format!("{tables}{theirs}"));
    let account = stage.target().users()[0].id.clone();
    let own = format!(
        "INSERT INTO members VALUES (3, '{account}', 'own'), (4, 'somebody else', 'stranger');
         INSERT INTO notes VALUES (1, 3, 'own note'), (2, 4, 'of a stranger');"
    );
    write(&target, &format!("{tables}{own}"));
    let all = "SELECT body || ' by ' || name FROM notes JOIN members m ON m.id = member ORDER BY 1";
    let (ours, before) = (ask(&source, all), ask(&target, all));
    let words = "[records.on_conflict]\nmembers = \"rekey\"\nnotes = \"rekey\"\n\n[records.ids]\n\
                 \"members.who\" = \"user\"\n";
    stage.configure(|text| text.replace("[records.ids]\n", words));
    let plan = stage.rehome(&["plan", "--json"]).await.expect(0).json();
    let members = &plan["tables"]["members"];
    assert_eq!((&members["skipped"], &members["conflict"]), (&1.into(), &0.into()), "{plan}");
    assert_eq!(plan["tables"]["notes"]["insert"], 21, "{plan}");

    let _complete = stage.run().await.expect(0);
    let mut expected = before.clone();
    expected.extend(
        ours.into_iter().map(|row| row.replace("of their 21 by their 21", "of their 21 by own")),
    );
    expected.sort();
    assert_eq!(ask(&target, all), expected);
    let _verified = stage.rehome(&["verify"]).await.expect(0);
    assert_eq!(stage.status().await["complete"], true);
    stage.replay();
    let effects = stage.effects();
    let _nothing = stage.run().await.expect(0);
    assert_eq!(stage.effects(), effects, "a second run writes nothing");
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!(ask(&target, all), before);
}
