//! Two databases whose integer keys collide in every table, merged under new keys: every reference
//! right, nothing of the target's changed. Judged by questions in SQL that follow the references
//! to what the rows say, and know nothing of keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

mod support;

use rehome_core::{Condition, Stage};
use rehome_records::DatabaseKind;
use support::back::Back;
use support::picture::{assert_sound, picture};
use support::town::{Answers, ask, assert_says, assert_untouched, hex_of, source, together, town};
use support::yard::{Trouble, Yard};

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
