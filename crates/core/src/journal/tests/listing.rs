//! What people ask of a journal: how many stand where, what stands still and why, how fast it goes.

use std::sync::Mutex;

use jiff::Timestamp;

use super::*;
use crate::clock::Clock;
use crate::state::State;
use crate::unit::Wait;

/// Ten users in two scopes, one in each sort of condition, and two that are on their way.
async fn all_sorts(place: &Place) -> Journal {
    let journal = open(place);
    let units = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|name| Exported {
        source_key: name.to_owned(),
        scope: if name < "c" { "left" } else { "right" }.to_owned(),
        label: Some(format!("{name}@example.com")),
        aliases: Vec::new(),
        data: json!({}),
    });
    let export = Change::Page {
        kind: USER,
        units: units.to_vec(),
        cursor: json!(1),
        done: true,
        total: None,
    };
    let failure = |unit, event, code| {
        Change::failure(UnitId(unit), event, Failure::new(code, "no"), Vec::new())
    };
    let wait = Wait {
        code: "user_failed".into(),
        kind: USER,
        key: Some("d".into()),
        scope: None,
        stage: Stage::Mapped,
        parts: 3,
        example: Some("row 7".into()),
    };
    let changes = vec![
        export,
        advance(2, Stage::Mapped, "tb"),
        Change::step(UnitId(3), Event::Intended),
        failure(4, Event::Failed, "refused"),
        failure(5, Event::Failed, "refused"),
        Change::hold(UnitId(6), vec![wait], Vec::new()),
        failure(7, Event::Skipped, "left out"),
        advance(8, Stage::Mapped, "th"),
        failure(8, Event::Stuck, "used"),
        advance(9, Stage::Created, "ti"),
        Change::step(UnitId(9), Event::UndoIntended),
        advance(10, Stage::Created, "tj"),
        Change::step(UnitId(10), Event::Reverted(Stage::Exported)),
    ];
    journal.submit(changes).await.unwrap();
    journal
}

#[tokio::test]
async fn every_unit_is_counted_once_where_it_stands() {
    let place = place();
    let reader = all_sorts(&place).await.reader().unwrap();
    let standing = reader.counts().unwrap().remove(&USER).unwrap();
    let at = |stage, units| BTreeMap::from([(stage, units)]);
    assert_eq!(
        standing,
        Standing {
            moving: BTreeMap::from([(Stage::Exported, 2), (Stage::Created, 1), (Stage::Mapped, 1)]),
            in_doubt: 2,
            failed: at(Stage::Exported, 2),
            held: at(Stage::Exported, 1),
            skipped: at(Stage::Exported, 1),
            stuck: at(Stage::Mapped, 1),
            rolled_back: 1,
            mapped: 2,
        }
    );
    assert_eq!(standing.total(), 10);

    let scopes = reader.scopes(&USER).unwrap();
    assert_eq!(
        &scopes[..2],
        [
            ("left".to_owned(), State::new(Stage::Exported, Condition::Ready), 1),
            ("left".to_owned(), State::new(Stage::Mapped, Condition::Ready), 1),
        ]
    );
    let right: Vec<_> =
        scopes[2..].iter().map(|(scope, _, units)| (scope.as_str(), *units)).collect();
    assert_eq!(right, [1, 2, 1, 1, 1, 1, 1].map(|units| ("right", units)));
}

#[tokio::test]
async fn what_stands_still_is_told_with_its_reason() {
    let place = place();
    let reader = all_sorts(&place).await.reader().unwrap();
    let told = |condition, code: &str, units| (USER, condition, code.to_owned(), units);
    assert_eq!(
        reader.codes().unwrap(),
        [
            told(Condition::Failed, "refused", 2),
            told(Condition::Held, "user_failed", 1),
            told(Condition::Skipped, "left out", 1),
            told(Condition::Stuck, "used", 1),
        ]
    );
    let keys = |condition, after, limit| {
        let rows = reader.failures(condition, UnitId(after), limit).unwrap();
        rows.into_iter().map(|row| row.source_key).collect::<Vec<_>>()
    };
    assert_eq!(keys(None, 0, 9), ["d", "e", "f", "g", "h"]);
    assert_eq!(keys(None, 4, 2), ["e", "f"]);
    assert_eq!(keys(Some(Condition::Stuck), 0, 9), ["h"]);
    assert_eq!(
        reader.failures(Some(Condition::Held), UnitId(0), 9).unwrap(),
        [FailureRow {
            id: UnitId(6),
            kind: USER,
            source_key: "f".into(),
            label: Some("f@example.com".into()),
            state: State::new(Stage::Exported, Condition::Held),
            failure: None,
            waits: vec![WaitRow {
                code: "user_failed".into(),
                kind: USER,
                key: Some("d".into()),
                scope: None,
                parts: 3,
                example: Some("row 7".into()),
            }],
            attempts: 0,
        }]
    );
}

#[tokio::test]
async fn the_mapping_is_every_pair_that_is_proven() {
    let place = place();
    let reader = all_sorts(&place).await.reader().unwrap();
    let pair = |id, name: &str| Mapping {
        id: UnitId(id),
        kind: USER,
        source_key: name.to_owned(),
        target_key: format!("t{name}"),
        origin: Some(Origin::Adopted),
        label: Some(format!("{name}@example.com")),
    };
    assert_eq!(reader.mappings(&USER, UnitId(0), 9).unwrap(), [pair(2, "b"), pair(8, "h")]);
    assert_eq!(reader.mappings(&USER, UnitId(2), 9).unwrap(), [pair(8, "h")]);
}

/// A clock that shows what it is set to, in Unix milliseconds.
struct Hand(Mutex<i64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(*self.0.lock().unwrap()).unwrap()
    }
}

#[tokio::test]
async fn the_pace_and_the_latest_moment_are_those_of_the_log() {
    let place = place();
    let clock = Arc::new(Hand(Mutex::new(1000)));
    let journal =
        Journal::open(&place.path, &setup("ins_a"), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let reader = journal.reader().unwrap();
    assert_eq!(reader.last_at().unwrap(), None);
    assert_eq!(reader.note("remark").unwrap(), None);
    let remark = |number| Change::Note { event: "remark", detail: json!({ "number": number }) };
    for (at, changes) in [
        (1000, vec![page(&["a", "b"])]),
        (2000, vec![advance(1, Stage::Created, "ta"), remark(1)]),
        (3000, vec![advance(1, Stage::Mapped, "ta"), Change::step(UnitId(2), Event::Intended)]),
        (4000, vec![Change::step(UnitId(2), Event::Done(Stage::Created)), remark(2)]),
        (5000, vec![Change::step(UnitId(2), Event::Failed)]),
    ] {
        *clock.0.lock().unwrap() = at;
        journal.submit(changes).await.unwrap();
        assert_eq!(reader.last_at().unwrap(), Some(at));
    }
    let advanced = [0, 2000, 2001, 4000, 4001].map(|at| reader.advanced_since(at).unwrap());
    assert_eq!(advanced, [3, 3, 2, 1, 0]);
    assert_eq!(reader.note("remark").unwrap(), Some((4000, json!({ "number": 2 }))));
    let story = reader.history(UnitId(1)).unwrap();
    assert_eq!(
        story[1],
        HistoryEntry {
            seq: 4,
            at: 2000,
            event: "advanced".into(),
            from: Some(Stage::Exported),
            to: Some(Stage::Created),
            attempt: 0,
            detail: Detail {
                target: Some("ta".into()),
                origin: Some(Origin::Adopted),
                ..Detail::default()
            },
        }
    );
}
