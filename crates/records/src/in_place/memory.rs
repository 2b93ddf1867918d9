//! What the journal remembers of a lot: whose ids were exchanged, and which rows carried a new id
//! before, so that a rollback leaves those alone.

use std::collections::BTreeSet;

use rehome_core::{Halt, Unit, UnitId};
use serde::{Deserialize, Serialize};

use crate::import::KeySet;
use crate::layout::Keying;
use crate::value::Value;

/// Units by their numbers, consecutive ones as ranges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Users(KeySet);

impl Users {
    pub(super) fn of(units: &BTreeSet<UnitId>) -> Self {
        let keys: Vec<_> = units.iter().map(|unit| vec![Value::Integer(unit.0)]).collect();
        Self(KeySet::new(&keys))
    }

    pub(super) fn to_set(&self) -> Result<BTreeSet<UnitId>, Halt> {
        let keys = self.0.keys()?;
        let number = |key: Vec<Value>| key.first().and_then(Value::as_integer).map(UnitId);
        Ok(keys.into_iter().filter_map(number).collect())
    }
}

/// Rows that carried a new id in one place before the lot was written: the application's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stood {
    /// The table.
    pub(super) table: String,
    /// The place, as a person knows it.
    pub(super) place: String,
    /// Whether ids stand inside JSON there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) inside: bool,
    /// By what the rows are told apart.
    pub(super) keying: Keying,
    /// Their keys as they were then; parts that are ids may have been exchanged since.
    pub(super) keys: KeySet,
}

/// A row that stood under a new id in the way of the user's own row, and made room for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Displaced {
    /// The table.
    pub(super) table: String,
    /// By what its rows are told apart.
    pub(super) keying: Keying,
    /// The whole row as it was, in the order of the columns that travel.
    pub(super) earlier: Vec<serde_json::Value>,
}

/// The intent of one lot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LotIntent {
    /// Whose ids are about to be exchanged.
    pub(super) users: Users,
    /// Rows that are left alone on the way back, by this or an earlier intent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) stood: Vec<Stood>,
    /// Rows that make room, by this or an earlier intent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) displaced: Vec<Displaced>,
}

/// What became of a lot, so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LotDone {
    /// Whose ids were exchanged.
    pub(super) users: Users,
    /// Whose ids may have been exchanged: the answer to a request was lost, and not all of their
    /// ids are new ones.
    #[serde(default, skip_serializing_if = "is_nobody")]
    pub(super) unsure: Users,
    /// Whose ids were certainly not exchanged under the intent that this is the outcome of.
    #[serde(default, skip_serializing_if = "is_nobody")]
    pub(super) void: Users,
    /// See [`LotIntent::stood`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) stood: Vec<Stood>,
    /// See [`LotIntent::displaced`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) displaced: Vec<Displaced>,
}

fn is_nobody(users: &Users) -> bool {
    users.0.is_empty()
}

impl LotDone {
    pub(super) fn json(&self) -> Result<serde_json::Value, Halt> {
        serde_json::to_value(self).map_err(|error| Halt::Bug(error.to_string()))
    }
}

/// What is known of a lot when a worker takes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// Whose ids were exchanged.
    pub(super) done: BTreeSet<UnitId>,
    /// Whose ids may have been.
    pub(super) unsure: BTreeSet<UnitId>,
    /// See [`LotIntent::stood`].
    pub(super) stood: Vec<Stood>,
    /// See [`LotIntent::displaced`].
    pub(super) displaced: Vec<Displaced>,
}

impl Past {
    /// Of a lot on the way forth.
    pub(super) fn of(unit: &Unit) -> Result<Self, Halt> {
        let bug = |error: serde_json::Error| {
            Halt::Bug(format!("{} of the journal: {error}", unit.source_key))
        };
        let mut past = Self::of_effect(unit)?;
        // Nothing of an intent that was never sent can be there.
        if let Some(json) = unit.intent.as_ref().filter(|_| !unit.intent_void) {
            let intent = LotIntent::deserialize(json).map_err(bug)?;
            let mut about = intent.users.to_set()?;
            // Two intents are never the same: whoever is done is in the next one no more.
            if let Some(effect) = unit.effect.as_ref().filter(|one| one.intent == unit.intent)
                && let Some(done) = &effect.data
            {
                let void = LotDone::deserialize(done).map_err(bug)?.void.to_set()?;
                about.retain(|user| !void.contains(user));
            }
            past.unsure.extend(about.into_iter().filter(|user| !past.done.contains(user)));
            past.stood = intent.stood;
            past.displaced = intent.displaced;
        }
        Ok(past)
    }

    /// Of what the lot left in the database alone.
    pub(super) fn of_effect(unit: &Unit) -> Result<Self, Halt> {
        let Some(json) = unit.effect.as_ref().and_then(|effect| effect.data.as_ref()) else {
            return Ok(Self::default());
        };
        let done = LotDone::deserialize(json).map_err(|error| {
            Halt::Bug(format!("what the journal keeps of {}: {error}", unit.source_key))
        })?;
        let (users, unsure) = (done.users.to_set()?, done.unsure.to_set()?);
        Ok(Self { done: users, unsure, stood: done.stood, displaced: done.displaced })
    }

    /// As the journal is to remember it.
    pub(super) fn to_done(&self) -> LotDone {
        LotDone {
            users: Users::of(&self.done),
            unsure: Users::of(&self.unsure),
            void: Users::default(),
            stood: self.stood.clone(),
            displaced: self.displaced.clone(),
        }
    }
}
