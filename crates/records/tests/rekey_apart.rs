//! Rows that do not move with their table: those for which a row of the target stands, and those that
//! came late and found their keys taken. Judged by the questions of `support/town.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

mod support;

use std::path::Path;

use rehome_records::DatabaseKind;
use rehome_records::policy::OnConflict;
use support::back::Back;
use support::picture::{assert_sound, picture};
use support::town::{ask, assert_says, assert_untouched, hex_of, source, together, town};
use support::yard::Trouble;

/// Somebody has an account in both, and a row in both tables of users, where there can be one only:
/// the target's stays, and what refers to ours by its number comes to stand below it.
fn at_home_in_both(kind: DatabaseKind, trouble: Trouble) {
    let what = format!("{kind:?}, {trouble:?}");
    let mut yard = town(kind);
    yard.adopted = vec!["user_5".to_owned()];
    yard.on_conflict(&[("accounts", OnConflict::Skip)]);
    yard.live(
        "INSERT INTO accounts VALUES ('new_5', 'here');
         INSERT INTO users VALUES (50, 'new_5', 'here', NULL);
         INSERT INTO badges VALUES (500, 'new_5', 50, 'here too');",
    );
    let target = yard.path("target.sqlite");
    let before = picture(&target);
    // Whoever holds or owns a badge as the fifth user is called as in the target.
    let ours = source(&yard);
    let mut expected = together(ask(&target), &ours);
    for table in ["accounts", "users"] {
        let of_ours = [hex_of("user plan 5"), hex_of("user name 5")];
        expected.get_mut(table).unwrap().retain(|row| {
            let ours = of_ours.iter().any(|own| row.starts_with(&format!("Text([{own}])")));
            !ours
        });
    }
    let name = |name: &str| format!("[{}]", hex_of(name));
    let badges = expected.get_mut("badges").unwrap();
    badges.iter_mut().for_each(|row| *row = row.replace(&name("user name 5"), &name("here")));
    badges.sort();

    yard.trouble = trouble;
    yard.forth().unwrap();
    yard.assert_all_there();
    assert_says(&what, &expected, &target);
    let held = |path: &Path| -> Vec<String> {
        let connection = rusqlite::Connection::open(path).unwrap();
        let sql = "SELECT title FROM badges WHERE holder = 50 ORDER BY title";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert_eq!(held(&target), ["here too", "user name 4 a", "user name 5 b"], "{what}");
    assert_untouched(&what, &before, &picture(&target));
    assert_sound(&target);
    let rows: usize = ours.values().map(Vec::len).sum();
    assert_eq!(yard.verify(), (rows as u64 - 2, Vec::new()), "{what}");
    yard.forth().unwrap();
    assert_eq!(yard.writes, 0, "{what}: a second run writes nothing");
    let told: Vec<_> = yard.spans().into_iter().filter_map(|unit| unit.target_key).collect();
    assert_eq!(told, ["users ..12@5>50"], "{what}");

    // A badge that comes later finds its holder, too.
    yard.execute("source.sqlite", "INSERT INTO badges VALUES (25, 'user_7', 5, 'user name late')");
    yard.forth().unwrap();
    let all = ["here too", "user name 4 a", "user name 5 b", "user name late"];
    assert_eq!(held(&target), all, "{what}");
    let refused = yard.back(&Back::default()).unwrap().refused;
    assert!(refused.is_empty(), "{what}: {refused:?}");
    assert_eq!(before.rows, picture(&target).rows, "{what}");
    yard.forth().unwrap();
    assert_eq!(held(&target), all, "{what}");
}

/// Rows come late into ranges that have been written, and find their keys taken: they go elsewhere
/// alone, and whoever refers to them follows.
#[test]
fn a_late_row_whose_key_is_taken_goes_elsewhere_alone() {
    for trouble in [Trouble::None, Trouble::Lost] {
        let mut yard = town(DatabaseKind::Sqlite);
        let target = yard.path("target.sqlite");
        let before = picture(&target);
        let mut expected = together(ask(&target), &source(&yard));
        yard.failing = vec!["user_5".to_owned()];
        yard.forth().unwrap();
        assert!(ask(&target)["users"].len() < expected["users"].len());
        // The very numbers at which the fifth user and one of the badges were expected.
        let live = "INSERT INTO accounts VALUES ('live', 'live plan');
            INSERT INTO users VALUES (2005, 'live', 'live name', NULL);
            INSERT INTO badges VALUES (2010, 'own_1', 1, 'live badge');";
        let there = ask(&target);
        yard.live(live);
        let with = ask(&target);
        for (table, rows) in &with {
            let new: Vec<_> = rows.iter().filter(|row| !there[table].contains(row)).collect();
            let all = expected.get_mut(table).unwrap();
            all.extend(new.into_iter().cloned());
            all.sort();
        }
        yard.failing.clear();
        yard.retry();
        yard.trouble = trouble;
        yard.forth().unwrap();
        yard.assert_all_there();
        assert_says("late", &expected, &target);
        assert_sound(&target);
        let apart = |unit: &rehome_core::Unit| {
            unit.target_key.as_ref().is_some_and(|told| told.contains('@'))
        };
        assert_eq!(yard.spans().iter().filter(|unit| apart(unit)).count(), 2);
        assert_eq!(yard.verify().1, Vec::<String>::new());
        yard.forth().unwrap();
        assert_eq!(yard.writes, 0, "a second run writes nothing");

        yard.trouble = Trouble::None;
        let refused = yard.back(&Back::default()).unwrap().refused;
        assert!(refused.is_empty(), "{refused:?}");
        yard.live(
            "DELETE FROM badges WHERE id = 2010; DELETE FROM users WHERE id = 2005; \
             DELETE FROM accounts WHERE clerk_id = 'live'",
        );
        assert_eq!(before.rows, picture(&target).rows);
    }
}

#[test]
fn somebody_with_a_row_in_both_keeps_the_targets() {
    at_home_in_both(DatabaseKind::Sqlite, Trouble::None);
}

#[test]
fn somebody_with_a_row_in_both_though_every_answer_is_lost() {
    at_home_in_both(DatabaseKind::Sqlite, Trouble::Lost);
}

#[test]
fn somebody_with_a_row_in_both_through_d1() {
    at_home_in_both(DatabaseKind::D1, Trouble::None);
}
