//! What the journal is told before rows are taken back: enough to settle a lost answer.

use rehome_core::{Done, Failure, Halt, Rest, Unit};
use serde::{Deserialize, Serialize};

use crate::import::KeySet;
use crate::import::summary::SpanDone;
use crate::value::Value;

/// The intent of one undo of a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub(crate) enum UndoIntent {
    /// Rows go, and earlier ones come back.
    Remove {
        /// Keys of rows that go.
        #[serde(default, skip_serializing_if = "KeySet::is_empty")]
        removed: KeySet,
        /// Keys of rows that become the earlier row of the same key.
        #[serde(default, skip_serializing_if = "KeySet::is_empty")]
        restored: KeySet,
        /// Keys of earlier rows that are put back.
        #[serde(default, skip_serializing_if = "KeySet::is_empty")]
        put_back: KeySet,
        /// What remains of the span afterwards.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<SpanDone>,
        /// Why, when some of it has to remain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// References within a circle are emptied.
    Detach {
        /// Keys of the rows.
        detached: KeySet,
        /// What the span is afterwards.
        after: SpanDone,
    },
}

impl UndoIntent {
    /// The one under which a unit is in doubt.
    pub(crate) fn of(unit: &Unit) -> Result<Self, Halt> {
        let json = unit.intent.clone().unwrap_or_default();
        serde_json::from_value(json)
            .map_err(|error| Halt::Bug(format!("the undo of span {}: {error}", unit.source_key)))
    }

    /// Keys of the rows that go with it.
    pub(crate) fn removed(&self) -> Result<Vec<Vec<Value>>, Halt> {
        match self {
            Self::Remove { removed, .. } => removed.keys(),
            Self::Detach { .. } => Ok(Vec::new()),
        }
    }

    /// As the journal writes it.
    pub(crate) fn json(&self) -> Result<serde_json::Value, Halt> {
        serde_json::to_value(self).map_err(|error| Halt::Bug(error.to_string()))
    }

    /// What is recorded once it has happened.
    pub(crate) fn done(&self) -> Result<Done, Halt> {
        let (after, failure) = match self {
            Self::Remove { after, failure, .. } => (after.as_ref(), failure.clone()),
            Self::Detach { after, .. } => (Some(after), None),
        };
        Ok(Done {
            target: None,
            origin: None,
            data: after.map(SpanDone::json).transpose()?,
            rest: failure.map(|failure| Rest::Failed { failure, blocks: Vec::new() }),
        })
    }
}
