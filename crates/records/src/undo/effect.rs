//! What a span left in the target, as the journal has it.

use rehome_core::journal::Error;
use rehome_core::{Condition, Halt, Unit, UnitId};
use serde::Deserialize as _;

use crate::import::summary::SpanDone;
use crate::import::{Intent, Replaced};
use crate::span::{SPAN, SpanData};

/// Where a plan finds the spans that left something behind.
pub trait Undoable: Send + Sync {
    /// Spans of one table (as the source spells it) that have an effect in the target, whatever
    /// their condition, with numbers above `after`, in their order.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn undoable(&self, table: &str, after: UnitId, limit: usize) -> Result<Vec<Unit>, Error>;
}

impl Undoable for rehome_core::journal::Reader {
    fn undoable(&self, table: &str, after: UnitId, limit: usize) -> Result<Vec<Unit>, Error> {
        self.with_effect(&SPAN, Some(table), after, limit)
    }
}

/// The effect of one span.
pub(crate) struct SpanEffect {
    pub(crate) unit: UnitId,
    pub(crate) span: SpanData,
    pub(crate) done: SpanDone,
    /// Earlier rows that an undo is not through with.
    pub(crate) replaced: Vec<Replaced>,
    /// Why it cannot be offered to a worker, when it cannot.
    pub(crate) stands: Option<String>,
}

impl SpanEffect {
    /// Of a unit; `None` when nothing of it is there.
    pub(crate) fn of(unit: &Unit) -> Result<Option<Self>, Halt> {
        let Some(effect) = &unit.effect else {
            return Ok(None);
        };
        let Some(data) = &effect.data else {
            return Ok(None);
        };
        let done = SpanDone::of(data)?;
        let replaced = unsettled(effect.intent.as_ref(), &done, unit)?;
        let stands = match unit.state.condition {
            Condition::Stuck => Some(unit.failure.as_ref().map_or_else(
                || "it is stuck from an earlier attempt".to_owned(),
                |failure| format!("it is stuck: {}", failure.message),
            )),
            Condition::Intended
            | Condition::InDoubt
            | Condition::Undoing
            | Condition::UndoInDoubt => {
                Some("it is not known what became of its last request".to_owned())
            }
            Condition::Ready
            | Condition::Failed
            | Condition::Held
            | Condition::Skipped
            | Condition::RolledBack => None,
        };
        Ok(Some(Self { unit: unit.id, span: SpanData::of(unit)?, done, replaced, stands }))
    }
}

/// The earlier rows of a forward intent that an undo is not through with.
pub(crate) fn unsettled(
    intent: Option<&serde_json::Value>,
    done: &SpanDone,
    unit: &Unit,
) -> Result<Vec<Replaced>, Halt> {
    let Some(intent) = intent else {
        return Ok(Vec::new());
    };
    let intent = Intent::deserialize(intent)
        .map_err(|error| Halt::Bug(format!("the intent of span {}: {error}", unit.source_key)))?;
    let settled = done.settled.to_set()?;
    let mut left = Vec::new();
    for one in intent.replaced {
        if !settled.contains(&crate::span::key_from_json(&one.key)?) {
            left.push(one);
        }
    }
    Ok(left)
}
