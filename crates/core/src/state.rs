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
    /// An undo may be on its way: its intent is durable, its outcome is not known yet.
    Undoing,
    /// The outcome of an undo was lost. Only a probe of the target may move it.
    UndoInDoubt,
    /// Cannot be undone safely: a person has to look at it.
    Stuck,
    /// Back where it was before the target knew of it. The next run takes it up again.
    RolledBack,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 10] = [
        Self::Ready,
        Self::Intended,
        Self::InDoubt,
        Self::Failed,
        Self::Held,
        Self::Skipped,
        Self::Undoing,
        Self::UndoInDoubt,
        Self::Stuck,
        Self::RolledBack,
    ];

    /// The word used in the journal and in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Intended => "intended",
            Self::InDoubt => "in_doubt",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Skipped => "skipped",
            Self::Undoing => "undoing",
            Self::UndoInDoubt => "undo_in_doubt",
            Self::Stuck => "stuck",
            Self::RolledBack => "rolled_back",
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
    /// An absence that was believed is not believed any more: a request may arrive late, and who
    /// goes back sends nothing after it.
    Doubted,
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
    /// The source has moved on since: what was done up to this stage still stands, what follows
    /// has to be done again.
    Reopened(Stage),
    /// An effect is about to be taken back.
    UndoIntended,
    /// The effect was taken back, and with it the unit went back.
    Undone(Stage),
    /// It went back without an effect: there was nothing of it to take back.
    Reverted(Stage),
    /// It cannot be taken back safely, found out without an effect.
    Stuck,
}

impl Event {
    /// Every event that can happen at some state; stages enumerated.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Exported, Self::Intended];
        all.extend(Stage::ALL.map(Self::Advanced));
        all.extend(Stage::ALL.map(Self::Done));
        all.extend(Stage::ALL.map(Self::Undone));
        all.extend(Stage::ALL.map(Self::Reverted));
        all.extend(Stage::ALL.map(Self::Reopened));
        all.extend([
            Self::Partly,
            Self::Rejected,
            Self::NotSent,
            Self::Unknown,
            Self::Absent,
            Self::Doubted,
            Self::Failed,
            Self::Held,
            Self::Released,
            Self::Skipped,
            Self::Retried,
            Self::Differed,
            Self::UndoIntended,
            Self::Stuck,
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
            Self::Doubted => "doubted",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Released => "released",
            Self::Skipped => "skipped",
            Self::Retried => "retried",
            Self::Differed => "differed",
            Self::Reopened(_) => "reopened",
            Self::UndoIntended => "undo_intended",
            Self::Undone(_) => "undone",
            Self::Reverted(_) => "reverted",
            Self::Stuck => "stuck",
        }
    }

    /// The reverse of [`Event::as_str`], given the stage that the entry led to.
    pub fn from_word(word: &str, to: Stage) -> Option<Self> {
        match word {
            "advanced" => Some(Self::Advanced(to)),
            "done" => Some(Self::Done(to)),
            "undone" => Some(Self::Undone(to)),
            "reverted" => Some(Self::Reverted(to)),
            "reopened" => Some(Self::Reopened(to)),
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
    use Condition::{
        Failed, Held, InDoubt, Intended, Ready, RolledBack, Skipped, Stuck, UndoInDoubt, Undoing,
    };

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
            | Event::Doubted
            | Event::Failed
            | Event::Held
            | Event::Released
            | Event::Skipped
            | Event::Retried
            | Event::Differed
            | Event::Reopened(_)
            | Event::UndoIntended
            | Event::Undone(_)
            | Event::Reverted(_)
            | Event::Stuck => Err(illegal),
        };
    };
    let here = |condition| Ok(State::new(stage, condition));
    match (event, condition) {
        (Event::Intended, Ready) => here(Intended),
        (Event::Advanced(to), Ready) | (Event::Done(to), Intended | InDoubt) if to > stage => {
            Ok(State::new(to, Ready))
        }
        (Event::Partly, Intended | InDoubt)
        | (Event::Absent, Intended | InDoubt | Undoing | UndoInDoubt)
        | (Event::NotSent, Intended | Undoing)
        | (Event::Released, Held | RolledBack)
        | (Event::Retried, Failed | Skipped | Stuck) => here(Ready),
        (Event::Rejected, Intended | InDoubt) | (Event::Failed, Ready) => here(Failed),
        (Event::Unknown, Intended | InDoubt) | (Event::Doubted, Ready) => here(InDoubt),
        (Event::Held, Ready) => here(Held),
        (Event::Skipped, Ready | Failed | Held | RolledBack) => here(Skipped),
        (Event::Differed, Ready) if stage == Stage::Verified => {
            Ok(State::new(Stage::Imported, Failed))
        }
        (Event::Reopened(to), Ready) if to < stage => Ok(State::new(to, Ready)),
        (Event::Reopened(to), Failed | Held) if to <= stage => Ok(State::new(to, Ready)),
        (Event::UndoIntended, Ready | Failed | Held | Skipped | RolledBack) => here(Undoing),
        (Event::Undone(to), Undoing | UndoInDoubt)
        | (Event::Reverted(to), Ready | Failed | Held | Skipped | RolledBack)
            if goes_back(stage, to) =>
        {
            Ok(State::new(to, after_undo(to)))
        }
        (Event::Unknown, Undoing | UndoInDoubt) => here(UndoInDoubt),
        (Event::Rejected, Undoing | UndoInDoubt)
        | (Event::Stuck, Ready | Failed | Held | Skipped | RolledBack) => here(Stuck),
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
            | Event::Doubted
            | Event::Failed
            | Event::Held
            | Event::Released
            | Event::Skipped
            | Event::Retried
            | Event::Differed
            | Event::Reopened(_)
            | Event::UndoIntended
            | Event::Undone(_)
            | Event::Reverted(_)
            | Event::Stuck,
            Ready | Intended | InDoubt | Failed | Held | Skipped | Undoing | UndoInDoubt | Stuck
            | RolledBack,
        ) => Err(illegal),
    }
}

/// Whether an undo may lead there. At `exported` a unit may still have left a part of its effect
/// in the target, so an undo may end where it began.
fn goes_back(stage: Stage, to: Stage) -> bool {
    to < stage || to == Stage::Exported
}

/// A unit that is all the way back rests until a run takes it up; one that was only taken back
/// some stages stands there like any other.
fn after_undo(to: Stage) -> Condition {
    if to == Stage::Exported { Condition::RolledBack } else { Condition::Ready }
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
    let _ = writeln!(out, "    verified --> exported: reopened, reverted, undone");
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
mod tests;
