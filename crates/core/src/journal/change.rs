//! What callers ask the writer to record.

use serde::{Deserialize, Serialize};

use crate::outcome::{Done, Rest};
use crate::state::{Event, Stage};
use crate::transition::Exported;
use crate::unit::{Block, Failure, Kind, Origin, UnitId, Wait};

/// One change. A list of them is recorded together or not at all.
#[derive(Clone, Debug)]
pub enum Change {
    /// A page of a source, with the place to go on from.
    Page {
        /// What the source finds.
        kind: Kind,
        /// The units; those already known are passed over.
        units: Vec<Exported>,
        /// Where to go on.
        cursor: serde_json::Value,
        /// Whether it was the last page.
        done: bool,
        /// How many units the source is thought to hold.
        total: Option<u64>,
    },
    /// Something happened to a unit.
    Step {
        /// The unit.
        unit: UnitId,
        /// What happened.
        event: Event,
        /// With what.
        detail: Detail,
    },
    /// Something about the migration as a whole, for the history: a run started or ended, a
    /// bookmark was taken.
    Note {
        /// A short word; must not be one of [`Event::as_str`].
        event: &'static str,
        /// More, as JSON.
        detail: serde_json::Value,
    },
}

impl Change {
    /// A step without any detail.
    pub fn step(unit: UnitId, event: Event) -> Self {
        Self::Step { unit, event, detail: Detail::default() }
    }

    /// A step that something went wrong with.
    pub fn failure(unit: UnitId, event: Event, failure: Failure, blocks: Vec<Block>) -> Self {
        let detail = Detail { failure: Some(failure), blocks, ..Detail::default() };
        Self::Step { unit, event, detail }
    }

    /// A hold.
    pub fn hold(unit: UnitId, waits: Vec<Wait>, blocks: Vec<Block>) -> Self {
        let detail = Detail { waits, blocks, ..Detail::default() };
        Self::Step { unit, event: Event::Held, detail }
    }

    /// The source has moved on: the unit has to go from `to` again. `renewed` is how the source
    /// shows it now, when that matters, with the names that it has lost since.
    pub fn reopened(
        unit: UnitId,
        to: Stage,
        reason: String,
        renewed: Option<(Exported, Vec<String>)>,
    ) -> Self {
        let (called, data) = match renewed {
            None => (None, None),
            Some((Exported { source_key: _, scope: _, label, aliases, data }, gone)) => {
                (Some(Called { label, aliases, gone }), Some(data))
            }
        };
        let detail = Detail { reason: Some(reason), called, data, ..Detail::default() };
        Self::Step { unit, event: Event::Reopened(to), detail }
    }

    /// An intent, of an effect or of an undo.
    pub fn intent(unit: UnitId, event: Event, intent: serde_json::Value) -> Self {
        let detail = Detail { data: Some(intent), ..Detail::default() };
        Self::Step { unit, event, detail }
    }

    /// What an undo leaves to record: that the unit went back, and then whether it is stuck there
    /// with what remains, or stays taken out (`out`) as it was before.
    pub fn undone(unit: UnitId, event: Event, done: Done, out: Option<Failure>) -> Vec<Self> {
        let Done { target: _, origin: _, data, rest } = done;
        let mut changes =
            vec![Self::Step { unit, event, detail: Detail { data, ..Detail::default() } }];
        match (rest, out) {
            (Some(Rest::Failed { failure, .. }), _) => {
                changes.push(Self::failure(unit, Event::Stuck, failure, Vec::new()));
            }
            (Some(Rest::Held { .. } | Rest::More) | None, Some(out)) => {
                changes.push(Self::failure(unit, Event::Skipped, out, Vec::new()));
            }
            (Some(Rest::Held { .. } | Rest::More) | None, None) => {}
        }
        changes
    }

    /// What an effect (or an advance without one) leaves to record: one step, and a second one
    /// when only a part could be done. `whole` is the event of the former case.
    pub fn done(unit: UnitId, whole: Event, done: Done) -> Vec<Self> {
        let Done { target, origin, data, rest } = done;
        let detail = Detail { target, origin, data, ..Detail::default() };
        match rest {
            None => vec![Self::Step { unit, event: whole, detail }],
            Some(Rest::More) => vec![Self::Step { unit, event: Event::Partly, detail }],
            Some(Rest::Held { waits, blocks }) => vec![
                Self::Step { unit, event: Event::Partly, detail },
                Self::hold(unit, waits, blocks),
            ],
            Some(Rest::Failed { failure, blocks }) => vec![
                Self::Step { unit, event: Event::Partly, detail },
                Self::failure(unit, Event::Failed, failure, blocks),
            ],
        }
    }
}

/// What changes that are recorded together are about: the first one's event.
pub(super) fn word(changes: &[Change]) -> &'static str {
    match changes.first() {
        None => "nothing",
        Some(Change::Page { .. }) => PAGE,
        Some(Change::Step { event, .. }) => event.as_str(),
        Some(Change::Note { event, .. }) => event,
    }
}

/// What an entry says besides the event. The names are short because there is one of these per
/// entry, and they are what a journal is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// The unit's identity in the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Who created the counterpart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Why the unit stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Why somebody did it, or what was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Wait>,
    /// Whom it blocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Block>,
    /// How the unit is called from now on, when the source shows it under other names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<Called>,
    /// The intent's or the outcome's own data; of a unit that was reopened, what the export knows
    /// of it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

/// How a unit is recognised and found again (see [`Exported`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Called {
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// For workers: every name that it has now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Names that it had before and has no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
}

impl Detail {
    /// A detail that is only a reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::default() }
    }
}

/// The detail of an `exported` entry: the unit itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ExportedDetail {
    pub(super) kind: Kind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) scope: String,
    pub(super) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<String>,
    pub(super) data: serde_json::Value,
}

/// What the export knows of a unit, whether it stands in an `exported` or a `reopened` entry.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ExportedData {
    pub(super) data: serde_json::Value,
}

/// The detail of a `page` entry: the checkpoint of a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PageDetail {
    pub(super) kind: Kind,
    pub(super) cursor: serde_json::Value,
    pub(super) done: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<u64>,
}

/// The event word of a [`PageDetail`] entry.
pub(super) const PAGE: &str = "page";

/// What the writer answers once the change is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The last entry of the change.
    pub seq: i64,
    /// How many units a page added.
    pub new_units: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_about_what_the_first_of_them_is_about() {
        let page = Change::Page {
            kind: Kind::new("user"),
            units: Vec::new(),
            cursor: serde_json::Value::Null,
            done: true,
            total: None,
        };
        let step = Change::step(UnitId(1), Event::Held);
        let note = Change::Note { event: "remark", detail: serde_json::Value::Null };
        assert_eq!(word(&[]), "nothing");
        assert_eq!(word(&[page, step.clone()]), "page");
        assert_eq!(word(&[step, note.clone()]), "held");
        assert_eq!(word(&[note]), "remark");
    }
}
