//! A unit: what moves on its own.
//!
//! A user is a unit, and so is a span of rows. The engine moves units without looking inside;
//! what a worker needs to know about one stands in [`Unit::data`], as the export wrote it.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::state::{Stage, State};

/// What sort of thing a unit is, for example `user` or `span`. Part of a unit's identity: two
/// units may share a source key when their kinds differ.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(Cow<'static, str>);

impl Kind {
    /// A kind named at compile time.
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A kind whose name comes from a journal or a configuration.
    pub fn from_name(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    /// The name as it stands in the journal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({})", self.0)
    }
}

/// A unit's number in its journal, given in the order of export, starting at 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnitId(pub i64);

/// Who brought the target's counterpart into being. Decides what a rollback may delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// This migration created it: a rollback deletes it.
    Created,
    /// It stood in the target before: a rollback leaves it alive.
    Adopted,
}

impl Origin {
    /// The word used in the journal and in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Adopted => "adopted",
        }
    }

    /// The reverse of [`Origin::as_str`]; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "created" => Some(Self::Created),
            "adopted" => Some(Self::Adopted),
            _ => None,
        }
    }
}

/// Why a unit cannot go on by itself. Shown to a person, so it holds no secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word to group by, for example `form_identifier_exists`.
    pub code: String,
    /// What happened, with the names that matter.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: None }
    }

    /// The same with advice on what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What a held unit waits for. The journal keeps it, and the engine releases the unit when it
/// has come true.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wait {
    /// A stable word to group by, for example `user_failed` or `parent_held`.
    pub code: String,
    /// The kind of what it waits for.
    pub kind: Kind,
    /// With a key: the unit (kind, key) reaching at least `stage`. Without one: any unit of the
    /// scope recording a new effect after this hold was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// See `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The stage that the awaited unit must have reached.
    pub stage: Stage,
    /// How many rows (or other parts) of the held unit wait for it.
    pub parts: u64,
    /// One of those parts, to show a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

/// A unit that must not advance to "everything of mine is there" while another one, held or
/// failed, still owes something to it: a mapped user with a row that also names an unmapped one.
#[derive(Clone, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct Block {
    /// Kind of the blocked unit.
    pub kind: Kind,
    /// Source key of the blocked unit.
    pub key: String,
}

/// One unit as the journal knows it.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its number in the journal.
    pub id: UnitId,
    /// What sort of thing it is.
    pub kind: Kind,
    /// A group within the kind (the table, for a span); empty when the kind has no groups.
    pub scope: String,
    /// Its identity in the source, unique within the kind.
    pub source_key: String,
    /// Its identity in the target, as soon as that is known.
    pub target_key: Option<String>,
    /// Whether this migration created the target's counterpart.
    pub origin: Option<Origin>,
    /// How a person recognises it (an e-mail address, a table and a range).
    pub label: Option<String>,
    /// How far it has come.
    pub state: State,
    /// Intents journaled for the present stage.
    pub attempts: u32,
    /// Why it stands still, when it does.
    pub failure: Option<Failure>,
    /// What the export knew about it.
    pub data: serde_json::Value,
    /// The latest intent of the present stage, when there is one: what was about to be done,
    /// with everything that a probe must know. While an undo is under way or in doubt: the
    /// intent of that undo.
    pub intent: Option<serde_json::Value>,
    /// Whether nothing of that intent, or of any before it at this stage, is there besides
    /// [`Unit::effect`]: a probe has found no trace of it, or it was never sent. Whatever looks
    /// like it was put there by somebody else. Says nothing of an undo.
    pub intent_void: bool,
    /// What the latest effect (whole or a part) left in the target, until it is taken back.
    pub effect: Option<Effect>,
}

/// What the journal remembers of an effect: everything that an undo has to know.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Effect {
    /// The intent under which it happened; `None` when it was found to be there without one. An
    /// undo that leaves a part of the effect leaves this as it is.
    pub intent: Option<serde_json::Value>,
    /// What the outcome said besides ([`crate::Done::data`]).
    pub data: Option<serde_json::Value>,
}
