//! Where a unit stands, and the one function that says where it may go.
//!
//! A [`State`] is a [`Stage`] (how far along the path) and a [`Condition`] (what it is doing
//! there). [`next_state`] is pure and total: live code asks it before anything is journaled, and
//! replay asks it again for every entry, so a log that it accepts is a history that could have
//! happened. The diagram in ARCHITECTURE.md is made from it (see [`diagram`]).

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// How far a unit has come. The order of the variants is the order of the path; a kind may skip
/// some of them, never turn back without a journaled reason.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Everything that the target can be given is in the journal.
    Exported,
    /// A counterpart exists in the target, and the journal knows its id.
    Created,
    /// The pair of ids was read back from the target, and is one to one.
    Mapped,
    /// Everything that mentions it is in the target under the new id.
    Imported,
    /// Both sides were read afresh and compared.
    Verified,
}

impl Stage {
    /// Every stage, in the order of the path.
    pub const ALL: [Self; 5] =
        [Self::Exported, Self::Created, Self::Mapped, Self::Imported, Self::Verified];

    /// The word used in the journal and in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::Created => "created",
            Self::Mapped => "mapped",
            Self::Imported => "imported",
            Self::Verified => "verified",
        }
    }

    /// The reverse of [`Stage::as_str`]; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }

    /// The stage's place on the path, from 1; what the journal's cache stores and compares.
    pub const fn rank(self) -> i64 {
        match self {
            Self::Exported => 1,
            Self::Created => 2,
            Self::Mapped => 3,
            Self::Imported => 4,
            Self::Verified => 5,
        }
    }

    /// The reverse of [`Stage::rank`].
    pub fn from_rank(rank: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.rank() == rank)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a unit is doing at its stage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Free to be taken by the next transition.
    Ready,
    /// An effect may be on its way: the intent is durable, the outcome is not known yet.
    Intended,
    /// The outcome was lost. Only a probe of the target may move it.
    InDoubt,
    /// Refused for a reason that time alone will not mend.
    Failed,
    /// Waits for another unit.
    Held,
    /// Taken out by a person, with a reason.
    Skipped,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 6] =
        [Self::Ready, Self::Intended, Self::InDoubt, Self::Failed, Self::Held, Self::Skipped];

    /// The word used in the journal and in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Intended => "intended",
            Self::InDoubt => "in_doubt",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Skipped => "skipped",
        }
    }

    /// The reverse of [`Condition::as_str`]; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|condition| condition.as_str() == word)
    }
}

/// Where a unit stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct State {
    /// How far it has come.
    pub stage: Stage,
    /// What it is doing there.
    pub condition: Condition,
}

impl State {
    /// A state from its two parts.
    pub const fn new(stage: Stage, condition: Condition) -> Self {
        Self { stage, condition }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.stage, self.condition.as_str())
    }
}

/// What can happen to a unit. Each is one entry of the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
    /// It was read from the source for the first time.
    Exported,
    /// An effect is about to be attempted.
    Intended,
    /// It advanced without an effect: adopted, read back, compared.
    Advanced(Stage),
    /// The effect happened, and with it the unit advanced.
    Done(Stage),
    /// The effect happened for a part of the unit; the rest follows as its own entry.
    Partly,
    /// The target said no and did nothing.
    Rejected,
    /// The request never took effect: not sent, throttled.
    NotSent,
    /// The answer was lost.
    Unknown,
    /// A probe, made after the settle time, found no trace of the effect.
    Absent,
    /// It cannot go on, found out without an effect.
    Failed,
    /// It waits for another unit.
    Held,
    /// What it waited for has come.
    Released,
    /// A person took it out.
    Skipped,
    /// A person put it back.
    Retried,
    /// A verified unit was compared again and differs.
    Differed,
}

impl Event {
    /// Every event that can happen at some state; stages enumerated.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Exported, Self::Intended];
        all.extend(Stage::ALL.map(Self::Advanced));
        all.extend(Stage::ALL.map(Self::Done));
        all.extend([
            Self::Partly,
            Self::Rejected,
            Self::NotSent,
            Self::Unknown,
            Self::Absent,
            Self::Failed,
            Self::Held,
            Self::Released,
            Self::Skipped,
            Self::Retried,
            Self::Differed,
        ]);
        all
    }

    /// The word used in the journal; the stage, where there is one, stands in its own column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::Intended => "intended",
            Self::Advanced(_) => "advanced",
            Self::Done(_) => "done",
            Self::Partly => "partly",
            Self::Rejected => "rejected",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
            Self::Absent => "absent",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Released => "released",
            Self::Skipped => "skipped",
            Self::Retried => "retried",
            Self::Differed => "differed",
        }
    }

    /// The reverse of [`Event::as_str`], given the stage that the entry led to.
    pub fn from_word(word: &str, to: Stage) -> Option<Self> {
        match word {
            "advanced" => Some(Self::Advanced(to)),
            "done" => Some(Self::Done(to)),
            _ => Self::all().into_iter().find(|event| event.as_str() == word),
        }
    }
}

/// An event that cannot happen where the unit stands. In a live run a bug; in replay, damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{}` cannot happen {}", .event.as_str(), describe(*.state))]
pub struct Illegal {
    /// Where the unit stood; `None` when it was not known at all.
    pub state: Option<State>,
    /// What was to happen.
    pub event: Event,
}

fn describe(state: Option<State>) -> String {
    state.map_or_else(|| "before its export".to_owned(), |state| format!("at {state}"))
}

/// Where a unit stands after an event, or why the event cannot happen there.
///
/// # Errors
/// [`Illegal`] when the event is not allowed in that state.
pub fn next_state(state: Option<State>, event: Event) -> Result<State, Illegal> {
    use Condition::{Failed, Held, InDoubt, Intended, Ready, Skipped};

    let illegal = Illegal { state, event };
    let Some(State { stage, condition }) = state else {
        return match event {
            Event::Exported => Ok(State::new(Stage::Exported, Ready)),
            Event::Intended
            | Event::Advanced(_)
            | Event::Done(_)
            | Event::Partly
            | Event::Rejected
            | Event::NotSent
            | Event::Unknown
            | Event::Absent
            | Event::Failed
            | Event::Held
            | Event::Released
            | Event::Skipped
            | Event::Retried
            | Event::Differed => Err(illegal),
        };
    };
    let here = |condition| Ok(State::new(stage, condition));
    match (event, condition) {
        (Event::Intended, Ready) => here(Intended),
        (Event::Advanced(to), Ready) | (Event::Done(to), Intended | InDoubt) if to > stage => {
            Ok(State::new(to, Ready))
        }
        (Event::Partly | Event::Absent, Intended | InDoubt)
        | (Event::NotSent, Intended)
        | (Event::Released, Held)
        | (Event::Retried, Failed | Skipped) => here(Ready),
        (Event::Rejected, Intended | InDoubt) | (Event::Failed, Ready) => here(Failed),
        (Event::Unknown, Intended | InDoubt) => here(InDoubt),
        (Event::Held, Ready) => here(Held),
        (Event::Skipped, Ready | Failed | Held) => here(Skipped),
        (Event::Differed, Ready) if stage == Stage::Verified => {
            Ok(State::new(Stage::Imported, Failed))
        }
        (
            Event::Exported
            | Event::Intended
            | Event::Advanced(_)
            | Event::Done(_)
            | Event::Partly
            | Event::Rejected
            | Event::NotSent
            | Event::Unknown
            | Event::Absent
            | Event::Failed
            | Event::Held
            | Event::Released
            | Event::Skipped
            | Event::Retried
            | Event::Differed,
            Ready | Intended | InDoubt | Failed | Held | Skipped,
        ) => Err(illegal),
    }
}

/// The state machine as a Mermaid diagram, drawn by asking [`next_state`] about every state and
/// event. Stages differ only in how far `advanced` and `done` may lead, so the conditions are
/// drawn once, for one stage, and the path of the stages beside them.
pub fn diagram() -> String {
    let mut out = String::from("stateDiagram-v2\n");
    let _ = writeln!(out, "    [*] --> exported: exported");
    for pair in Stage::ALL.windows(2) {
        let [from, to] = pair else { continue };
        let _ = writeln!(out, "    {from} --> {to}: advanced, done");
    }
    let _ = writeln!(out, "    verified --> imported: differed");
    let _ = writeln!(out, "    state \"at any stage\" as stage {{");
    let stage = Stage::Exported;
    for condition in Condition::ALL {
        for other in Condition::ALL {
            let words: Vec<_> = Event::all()
                .into_iter()
                .filter(|event| {
                    next_state(Some(State::new(stage, condition)), *event)
                        == Ok(State::new(stage, other))
                })
                .map(Event::as_str)
                .collect();
            if !words.is_empty() {
                let _ = writeln!(
                    out,
                    "        {} --> {}: {}",
                    condition.as_str(),
                    other.as_str(),
                    words.join(", ")
                );
            }
        }
        let leaves: Vec<_> = Event::all()
            .into_iter()
            .filter(|event| {
                next_state(Some(State::new(stage, condition)), *event)
                    .is_ok_and(|next| next.stage == Stage::Created)
            })
            .map(Event::as_str)
            .collect();
        if !leaves.is_empty() {
            let _ = writeln!(out, "        {} --> [*]: {}", condition.as_str(), leaves.join(", "));
        }
    }
    out.push_str("    }\n");
    out
}

#[cfg(test)]
mod tests {
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
                Event::Advanced(to) | Event::Done(to) => to,
                _ => Stage::Exported,
            };
            assert_eq!(Event::from_word(event.as_str(), to), Some(event));
        }
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
        assert_eq!(
            next_state(Some(doubt), Event::Done(Stage::Created)),
            Ok(State::new(Stage::Created, Condition::Ready))
        );
    }

    #[test]
    fn the_diagram_is_the_one_in_the_architecture() {
        insta::assert_snapshot!(diagram());
    }

    proptest! {
        /// Whatever happens in whatever order, a unit never goes back, but for `differed`.
        #[test]
        fn stages_only_rise(events in proptest::collection::vec(0..Event::all().len(), 0..200)) {
            let all = Event::all();
            let mut state = None;
            for index in events {
                let event = all[index];
                if let Ok(next) = next_state(state, event) {
                    if let Some(before) = state && event != Event::Differed {
                        prop_assert!(next.stage >= before.stage);
                    }
                    state = Some(next);
                }
            }
        }
    }
}
