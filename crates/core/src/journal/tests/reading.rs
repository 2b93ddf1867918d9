//! What callers said of a unit is there to be read again: by workers that undo, by people.

use super::*;
use crate::outcome::Done;
use crate::unit::{Block, Effect};

async fn two(place: &Place) -> Journal {
    let journal = open(place);
    journal.submit(vec![page(&["a", "b"])]).await.unwrap();
    journal
}

#[tokio::test]
async fn what_an_effect_left_is_remembered_with_the_intent_that_brought_it() {
    let place = place();
    let journal = two(&place).await;
    let intent = json!({ "create": "a" });
    journal.submit(vec![Change::intent(UnitId(1), Event::Intended, intent.clone())]).await.unwrap();
    let left = json!({ "rows": 3 });
    let done = Done {
        target: Some("t1".into()),
        origin: Some(Origin::Created),
        data: Some(left.clone()),
        rest: None,
    };
    journal.submit(Change::done(UnitId(1), Event::Done(Stage::Created), done)).await.unwrap();
    let reader = journal.reader().unwrap();
    let unit = reader.unit(UnitId(1)).unwrap();
    assert_eq!((unit.target_key.as_deref(), unit.origin), (Some("t1"), Some(Origin::Created)));
    assert_eq!(unit.effect, Some(Effect { intent: Some(intent), data: Some(left.clone()) }));
    assert_eq!(
        reader.remembered(&[UnitId(1), UnitId(2), UnitId(3)]).unwrap(),
        [
            (UnitId(1), json!({ "name": "a" }), Some(left)),
            (UnitId(2), json!({ "name": "b" }), None)
        ]
    );
}

#[tokio::test]
async fn a_failed_unit_blocks_others_until_it_goes_again() {
    let place = place();
    let journal = two(&place).await;
    let owed = vec![Block { kind: USER, key: "b".into() }];
    let failed = Change::failure(UnitId(1), Event::Failed, Failure::new("refused", "no"), owed);
    journal.submit(vec![failed]).await.unwrap();
    let reader = journal.reader().unwrap();
    let blocked = || reader.blocked(&USER, &["a".into(), "b".into()]).unwrap();
    assert_eq!(blocked().into_iter().collect::<Vec<_>>(), ["b"]);
    journal.submit(vec![Change::step(UnitId(1), Event::Retried)]).await.unwrap();
    assert!(blocked().is_empty());
}

#[tokio::test]
async fn a_reopened_unit_is_what_the_source_shows_now_and_its_history_says_why() {
    let place = place();
    let journal = two(&place).await;
    journal.submit(vec![advance(1, Stage::Mapped, "t1")]).await.unwrap();
    let renewed = Exported {
        source_key: "a".into(),
        scope: String::new(),
        label: Some("now@example.com".into()),
        aliases: vec!["email:now@example.com".into()],
        data: json!({ "name": "now" }),
    };
    let gone = vec!["email:a@example.com".to_owned()];
    let why = "it was changed".to_owned();
    let again = Change::reopened(UnitId(1), Stage::Created, why, Some((renewed, gone)));
    journal.submit(vec![again]).await.unwrap();
    let reader = journal.reader().unwrap();
    let unit = reader.unit(UnitId(1)).unwrap();
    assert_eq!(unit.label.as_deref(), Some("now@example.com"));
    assert_eq!(unit.data, json!({ "name": "now" }));
    let called = |name: &str| reader.find(&[format!("email:{name}@example.com")]).unwrap().len();
    assert_eq!((called("a"), called("now")), (0, 1));
    let last = reader.history(UnitId(1)).unwrap().pop().unwrap();
    assert_eq!(
        (last.event.as_str(), last.detail.reason.as_deref()),
        ("reopened", Some("it was changed"))
    );
}

#[tokio::test]
async fn the_reason_for_a_step_stands_in_the_history() {
    let place = place();
    let journal = two(&place).await;
    let detail = Detail::because("connection reset");
    let lost = Change::Step { unit: UnitId(1), event: Event::Unknown, detail };
    journal.submit(vec![Change::step(UnitId(1), Event::Intended), lost]).await.unwrap();
    let last = journal.reader().unwrap().history(UnitId(1)).unwrap().pop().unwrap();
    assert_eq!(last.detail.reason.as_deref(), Some("connection reset"));
}

#[tokio::test]
async fn a_copy_is_the_whole_journal_as_it_is_at_that_moment() {
    let place = place();
    let journal = two(&place).await;
    journal.submit(vec![advance(1, Stage::Mapped, "t1")]).await.unwrap();
    let copy = place.path.with_extension("copy");
    let reader = journal.reader().unwrap();
    reader.copy_to(&copy).unwrap();
    journal.submit(vec![advance(2, Stage::Mapped, "t2")]).await.unwrap();
    let scratch = std::path::Path::new("");
    assert_eq!(check_replay(&copy, scratch).unwrap(), Replay { entries: 4, units: 2 });
    assert!(reader.copy_to(&copy).is_err(), "nothing is written over");
}
