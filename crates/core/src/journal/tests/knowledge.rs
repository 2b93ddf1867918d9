//! What workers are told of units that they do not hold in their hands.

use super::*;
use crate::knowledge::Known;

fn user(name: &str, aliases: &[&str]) -> Exported {
    Exported {
        source_key: name.to_owned(),
        scope: name.to_owned(),
        label: None,
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        data: json!({}),
    }
}

fn users(units: &[Exported], cursor: i64, done: bool) -> Change {
    Change::Page { kind: USER, units: units.to_vec(), cursor: json!(cursor), done, total: None }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn ids(known: &[Known]) -> Vec<i64> {
    known.iter().map(|one| one.id.0).collect()
}

#[tokio::test]
async fn units_are_known_by_what_they_are_called_on_either_side() {
    let place = place();
    let journal = open(&place);
    let units = [user("a", &["x", "both"]), user("b", &["both"]), user("c", &[])];
    journal.submit(vec![users(&units, 1, true)]).await.unwrap();
    journal
        .submit(vec![advance(1, Stage::Created, "ta"), advance(3, Stage::Created, "tc")])
        .await
        .unwrap();
    let reader = journal.reader().unwrap();
    let by_target = reader.by_target(&USER, &names(&["ta", "a", "tz"])).unwrap();
    let known = &by_target["ta"];
    assert_eq!(by_target.len(), 1);
    assert_eq!(
        (known.id, known.source_key.as_str(), known.origin),
        (UnitId(1), "a", Some(Origin::Adopted))
    );
    assert_eq!((known.target_key.as_deref(), known.state.stage), (Some("ta"), Stage::Created));
    assert_eq!(reader.target_keys(&USER).unwrap(), ["ta", "tc"]);

    let claims = reader.claimants(&USER, &names(&["x", "both", "z"])).unwrap();
    assert_eq!(claims.len(), 2);
    assert_eq!((ids(&claims["x"]), ids(&claims["both"])), (vec![1], vec![1, 2]));

    let between = |after, last, limit| {
        ids(&reader.between(&USER, UnitId(after), UnitId(last), limit).unwrap())
    };
    assert_eq!(between(0, 3, 9), [1, 2, 3]);
    assert_eq!(between(1, 2, 9), [2]);
    assert_eq!(between(0, 3, 2), [1, 2]);
}

#[tokio::test]
async fn a_kind_is_settled_when_it_is_read_to_its_end_and_nothing_moves_below_the_stage() {
    let place = place();
    let journal = open(&place);
    let reader = journal.reader().unwrap();
    let settled = |scope| reader.settled(&USER, scope, Stage::Mapped).unwrap();
    assert_eq!(reader.cursor(&USER).unwrap(), None);
    journal.submit(vec![users(&[user("a", &[]), user("b", &[])], 1, false)]).await.unwrap();
    let reached = |unit, to| Change::step(UnitId(unit), Event::Advanced(to));
    journal.submit(vec![reached(1, Stage::Mapped), reached(2, Stage::Mapped)]).await.unwrap();
    assert!(!settled(None), "others may come");
    assert_eq!(reader.cursor(&USER).unwrap(), Some(json!(1)));
    journal.submit(vec![users(&[user("c", &[])], 2, true)]).await.unwrap();
    assert_eq!(reader.cursor(&USER).unwrap(), Some(json!(2)));
    assert!(!settled(None) && !settled(Some("c")), "one is on its way");
    assert!(settled(Some("a")));
    journal.submit(vec![Change::step(UnitId(3), Event::Failed)]).await.unwrap();
    assert!(settled(None), "it does not move by itself");
}

#[tokio::test]
async fn what_left_an_effect_is_found_whatever_became_of_it() {
    let place = place();
    let journal = open(&place);
    let units = [user("a", &[]), user("b", &[]), user("c", &[])];
    let mut changes = vec![users(&units, 1, true)];
    for unit in [1, 2] {
        let made = [Event::Intended, Event::Done(Stage::Created)];
        changes.extend(made.map(|event| Change::step(UnitId(unit), event)));
    }
    changes.push(Change::step(UnitId(2), Event::Stuck));
    journal.submit(changes).await.unwrap();
    let reader = journal.reader().unwrap();
    let found = |scope, after| {
        let units = reader.with_effect(&USER, scope, UnitId(after), 9).unwrap();
        units.into_iter().map(|unit| unit.id.0).collect::<Vec<_>>()
    };
    assert_eq!(found(None, 0), [1, 2]);
    assert_eq!(found(None, 1), [2]);
    assert_eq!(found(Some("a"), 0), [1]);
}
