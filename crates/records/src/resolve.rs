//! What has become of the units that rows name.

use std::collections::{BTreeSet, HashMap};

use rehome_core::{Condition, Halt, Kind, Knowledge, Known, Stage, UnitId};

use crate::layout::Form;
use crate::rekey::Moves;
use crate::rewrite::{Mention, rewrite};
use crate::value::Value;

/// What has become of one unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Resolution {
    /// It has a proven counterpart.
    Mapped(String),
    /// It will have one, if all goes well.
    Moving(UnitId),
    /// It will not have one in this run, for the reason of this code.
    Stuck(String),
    /// A person took it out of the migration.
    TakenOut,
    /// The journal knows no such unit.
    Unknown,
}

/// The answers for a set of mentions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved {
    all: HashMap<Mention, Resolution>,
    /// The mentions that are mapped, as [`crate::rewrite::rewrite`] takes them.
    pub(crate) targets: HashMap<Mention, String>,
    /// Where the keys of tables go that get new ones.
    pub(crate) moves: Moves,
}

impl Resolved {
    /// The row with every id and every key exchanged of which it is known for what.
    pub(crate) fn rewrite(&self, form: &Form, row: &[Value]) -> Vec<Value> {
        let mut row = rewrite(form, row, &self.targets);
        self.moves.apply(form, &mut row);
        row
    }

    pub(crate) fn of(&self, mention: &Mention) -> &Resolution {
        self.all.get(mention).unwrap_or(&Resolution::Unknown)
    }

    /// The last unit, in the order of export, that still moves.
    pub(crate) fn last_moving(&self) -> Option<UnitId> {
        self.all
            .values()
            .filter_map(|resolution| match resolution {
                Resolution::Moving(id) => Some(*id),
                Resolution::Mapped(_)
                | Resolution::Stuck(_)
                | Resolution::TakenOut
                | Resolution::Unknown => None,
            })
            .max()
    }

    /// The kinds of which some unit is unknown.
    pub(crate) fn unknown_kinds(&self) -> BTreeSet<&Kind> {
        self.all
            .iter()
            .filter(|(_, resolution)| **resolution == Resolution::Unknown)
            .map(|((kind, _), _)| kind)
            .collect()
    }
}

/// Asks the journal about all of them.
pub(crate) fn resolve(
    knowledge: &dyn Knowledge,
    mentions: impl IntoIterator<Item = Mention>,
) -> Result<Resolved, Halt> {
    let mut by_kind: HashMap<Kind, BTreeSet<String>> = HashMap::new();
    for (kind, key) in mentions {
        by_kind.entry(kind).or_default().insert(key);
    }
    let mut resolved = Resolved::default();
    for (kind, keys) in by_kind {
        let keys: Vec<_> = keys.into_iter().collect();
        let known = knowledge.by_source(&kind, &keys)?;
        for key in keys {
            let resolution =
                known.get(&key).map_or(Resolution::Unknown, |known| judge(&kind, known));
            let mention = (kind.clone(), key);
            if let Resolution::Mapped(target) = &resolution {
                resolved.targets.insert(mention.clone(), target.clone());
            }
            resolved.all.insert(mention, resolution);
        }
    }
    Ok(resolved)
}

fn judge(kind: &Kind, known: &Known) -> Resolution {
    // From `mapped` on the pair is proven, whatever happened to the unit later.
    if known.state.stage >= Stage::Mapped
        && let Some(target) = &known.target_key
    {
        return Resolution::Mapped(target.clone());
    }
    if !known.selected && known.state.condition != Condition::Skipped {
        return Resolution::Stuck(format!("{kind}_unmapped"));
    }
    match known.state.condition {
        Condition::Ready
        | Condition::Intended
        | Condition::InDoubt
        | Condition::Undoing
        | Condition::UndoInDoubt
        | Condition::RolledBack => Resolution::Moving(known.id),
        Condition::Failed | Condition::Held | Condition::Stuck => {
            Resolution::Stuck(format!("{kind}_failed"))
        }
        Condition::Skipped => Resolution::TakenOut,
    }
}
