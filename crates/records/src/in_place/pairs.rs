//! The pairs of ids that one request exchanges.

use rehome_core::{Kind, Origin, UnitId};

/// One unit's two ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// Its number in the journal.
    pub(super) unit: UnitId,
    /// Its identity in the source.
    pub(super) old: String,
    /// Its identity in the target.
    pub(super) new: String,
    /// Who brought the counterpart into being.
    pub(super) origin: Option<Origin>,
}

/// Which of the two ids is sought, and which takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The old ones go, the new ones come.
    Forth,
    /// The new ones go, the old ones come back.
    Back,
}

impl Pair {
    /// The id that is sought.
    pub(super) fn from(&self, turn: Turn) -> &str {
        match turn {
            Turn::Forth => &self.old,
            Turn::Back => &self.new,
        }
    }

    /// The id that takes its place.
    pub(super) fn to(&self, turn: Turn) -> &str {
        match turn {
            Turn::Forth => &self.new,
            Turn::Back => &self.old,
        }
    }
}

/// The sought ids as one parameter: a JSON array of strings.
pub(super) fn sought(pairs: &[Pair], turn: Turn) -> String {
    let ids: Vec<_> = pairs.iter().map(|pair| pair.from(turn)).collect();
    serde_json::json!(ids).to_string()
}

/// Both ids of each as one parameter: a JSON object with the sought ids as its names.
pub(super) fn exchanged(pairs: &[Pair], turn: Turn) -> String {
    let both = |pair: &Pair| (pair.from(turn).to_owned(), pair.to(turn).into());
    serde_json::Value::Object(pairs.iter().map(both).collect()).to_string()
}

/// The kind and the id that take the place of each sought one, as [`crate::rewrite`] wants them.
pub(super) fn targets(
    kind: &Kind,
    pairs: &[Pair],
    turn: Turn,
) -> std::collections::HashMap<crate::rewrite::Mention, String> {
    let exchange =
        |pair: &Pair| ((kind.clone(), pair.from(turn).to_owned()), pair.to(turn).to_owned());
    pairs.iter().map(exchange).collect()
}
