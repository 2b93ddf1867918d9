//! No state without a way on, none without a way there, and the diagram as people see it.

use super::*;
use proptest::prelude::*;

#[test]
fn words_come_back_as_what_they_were() {
    for stage in Stage::ALL {
        assert_eq!(Stage::from_word(stage.as_str()), Some(stage));
        assert_eq!(Stage::from_rank(stage.rank()), Some(stage));
    }
    for condition in Condition::ALL {
        assert_eq!(Condition::from_word(condition.as_str()), Some(condition));
    }
    for event in Event::all() {
        let to = match event {
            Event::Advanced(to)
            | Event::Done(to)
            | Event::Undone(to)
            | Event::Reverted(to)
            | Event::Reopened(to) => to,
            _ => Stage::Exported,
        };
        assert_eq!(Event::from_word(event.as_str(), to), Some(event));
    }
}

#[test]
fn what_cannot_happen_is_told_with_the_place() {
    let told = |state, event| next_state(state, event).unwrap_err().to_string();
    assert_eq!(told(None, Event::Intended), "`intended` cannot happen before its export");
    let doubt = State::new(Stage::Created, Condition::InDoubt);
    assert_eq!(told(Some(doubt), Event::Retried), "`retried` cannot happen at created (in_doubt)");
}

#[test]
fn an_effect_needs_an_intent_and_a_lost_answer_needs_a_probe() {
    let ready = State::new(Stage::Exported, Condition::Ready);
    assert!(next_state(Some(ready), Event::Done(Stage::Created)).is_err());
    let intended = next_state(Some(ready), Event::Intended).unwrap();
    let doubt = next_state(Some(intended), Event::Unknown).unwrap();
    assert!(next_state(Some(doubt), Event::Intended).is_err(), "never sent again blindly");
    assert!(next_state(Some(doubt), Event::NotSent).is_err());
    assert_eq!(next_state(Some(doubt), Event::Absent), Ok(ready));
    assert_eq!(next_state(Some(ready), Event::Doubted), Ok(doubt), "an absence can be taken back");
    assert_eq!(
        next_state(Some(doubt), Event::Done(Stage::Created)),
        Ok(State::new(Stage::Created, Condition::Ready))
    );
}

#[test]
fn an_undo_keeps_the_same_protocol_and_what_is_stuck_waits_for_a_person() {
    let mapped = State::new(Stage::Mapped, Condition::Ready);
    assert!(next_state(Some(mapped), Event::Undone(Stage::Exported)).is_err(), "no intent");
    let undoing = next_state(Some(mapped), Event::UndoIntended).unwrap();
    assert!(next_state(Some(undoing), Event::Done(Stage::Imported)).is_err());
    let doubt = next_state(Some(undoing), Event::Unknown).unwrap();
    assert!(next_state(Some(doubt), Event::UndoIntended).is_err(), "never sent again blindly");
    assert_eq!(next_state(Some(doubt), Event::Absent), Ok(mapped));
    let back = State::new(Stage::Exported, Condition::RolledBack);
    assert_eq!(next_state(Some(doubt), Event::Undone(Stage::Exported)), Ok(back));
    assert!(next_state(Some(back), Event::Intended).is_err(), "a run releases it first");
    let stuck = next_state(Some(doubt), Event::Rejected).unwrap();
    assert_eq!(stuck.condition, Condition::Stuck);
    for event in Event::all() {
        assert_eq!(next_state(Some(stuck), event).is_ok(), event == Event::Retried);
    }
}

#[test]
fn what_the_source_has_left_behind_goes_again_and_nothing_under_way_does() {
    let verified = State::new(Stage::Verified, Condition::Ready);
    let ready = State::new(Stage::Exported, Condition::Ready);
    assert_eq!(next_state(Some(verified), Event::Reopened(Stage::Exported)), Ok(ready));
    assert!(next_state(Some(ready), Event::Reopened(Stage::Exported)).is_err(), "it goes anyway");
    assert!(next_state(Some(ready), Event::Reopened(Stage::Mapped)).is_err(), "never ahead");
    for condition in Condition::ALL {
        let there = State::new(Stage::Exported, condition);
        let may = matches!(condition, Condition::Failed | Condition::Held);
        let event = Event::Reopened(Stage::Exported);
        assert_eq!(next_state(Some(there), event).is_ok(), may, "{there}");
    }
}

#[test]
fn the_diagram_is_the_one_in_the_architecture() {
    insta::assert_snapshot!(diagram());
}

proptest! {
    /// Whatever happens in whatever order, a unit never goes back, but for what says so.
    #[test]
    fn stages_only_rise(events in proptest::collection::vec(0..Event::all().len(), 0..200)) {
        let all = Event::all();
        let mut state = None;
        for index in events {
            let event = all[index];
            if let Ok(next) = next_state(state, event) {
                let back = matches!(
                    event,
                    Event::Differed
                        | Event::Reopened(_)
                        | Event::Undone(_)
                        | Event::Reverted(_)
                );
                if let Some(before) = state && !back {
                    prop_assert!(next.stage >= before.stage);
                }
                state = Some(next);
            }
        }
    }
}
