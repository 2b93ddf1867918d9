//! What the journal is told before a span is written, so that a lost answer can be settled and a
//! rollback can tell our rows from theirs.

use std::collections::{BTreeMap, HashMap, HashSet};

use rehome_core::{Halt, Unit};
use serde::{Deserialize, Serialize};

use super::digests::{Digests, RowDigest, unpack};
use crate::rekey::Apart;
use crate::span::{key_from_json, key_to_json};
use crate::value::Value;

/// Keys, written compactly: consecutive integers as ranges, the others one by one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeySet {
    /// Keys of one integer, as inclusive ranges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<(i64, i64)>,
    /// All other keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Vec<serde_json::Value>>,
}

impl KeySet {
    /// The set of these keys.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a Vec<Value>>) -> Self {
        let mut set = Self::default();
        let mut numbers = Vec::new();
        for key in keys {
            match key.as_slice() {
                [Value::Integer(number)] => numbers.push(*number),
                _ => set.keys.push(key_to_json(key)),
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            match set.ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
                Some(_) | None => set.ranges.push((number, number)),
            }
        }
        set
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.keys.is_empty()
    }

    /// How many keys it holds.
    pub fn len(&self) -> u64 {
        let ranged: u64 =
            self.ranges.iter().map(|(low, high)| high.abs_diff(*low).saturating_add(1)).sum();
        ranged.saturating_add(self.keys.len() as u64)
    }

    /// The keys themselves.
    ///
    /// # Errors
    /// [`Halt::Bug`] when a key of the journal cannot be read.
    pub fn keys(&self) -> Result<Vec<Vec<Value>>, Halt> {
        let numbers = self
            .ranges
            .iter()
            .flat_map(|(low, high)| *low..=*high)
            .map(|number| vec![Value::Integer(number)]);
        let mut all: Vec<_> = numbers.collect();
        for key in &self.keys {
            all.push(key_from_json(key)?);
        }
        Ok(all)
    }

    pub(crate) fn to_set(&self) -> Result<HashSet<Vec<Value>>, Halt> {
        Ok(self.keys()?.into_iter().collect())
    }
}

/// A row that stood in the target and makes room for ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    /// Its key.
    pub key: Vec<serde_json::Value>,
    /// The whole row as it was, in the order of the columns that travel.
    pub earlier: Vec<serde_json::Value>,
}

/// The intent of one span.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The target's table.
    pub table: String,
    /// How many rows are to be inserted.
    pub insert: u64,
    /// Rows that were there before, equal to ours. They are not ours.
    #[serde(default, skip_serializing_if = "KeySet::is_empty")]
    pub existed: KeySet,
    /// Rows of the span that are not written now: held, skipped, in conflict. Every other row of
    /// the span that is found later, equal, is ours.
    #[serde(default, skip_serializing_if = "KeySet::is_empty")]
    pub left: KeySet,
    /// Rows of ours that are written with a reference empty for the time being.
    #[serde(default, skip_serializing_if = "KeySet::is_empty")]
    pub open: KeySet,
    /// Rows that make room, by this or an earlier intent of the span.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Replaced>,
    /// Rows of ours as the target's application had made them, which the policy of the table lets
    /// this intent overwrite. They are kept for a person, and are not given back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overwritten: Vec<Replaced>,
    /// By how much the keys of the span move, when not with their table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<i64>,
    /// Rows whose keys do not move with the span, with their keys in the target: those that go
    /// elsewhere on their own, and those for which rows of the target stand.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub apart: BTreeMap<i64, i64>,
    /// Keys of all rows that are to be written. Absent in journals of earlier versions, which know
    /// a row of theirs only as long as the source has not changed it.
    #[serde(default, skip_serializing_if = "KeySet::is_empty")]
    pub writes: KeySet,
    /// What is to be written there, in the order of those keys.
    #[serde(default, skip_serializing_if = "Digests::is_empty")]
    pub(crate) digests: Digests,
}

/// What an earlier intent of the same span says about its rows.
#[derive(Debug, Default)]
pub(crate) struct Prior {
    pub(crate) existed: HashSet<Vec<Value>>,
    pub(crate) left: HashSet<Vec<Value>>,
    pub(crate) open: HashSet<Vec<Value>>,
    pub(crate) replaced: Vec<Replaced>,
    pub(crate) moved: Option<i64>,
    pub(crate) apart: Apart,
    /// The rows that were to be written.
    pub(crate) writes: HashMap<Vec<Value>, Option<RowDigest>>,
    /// Those that were to make room, as they stood.
    room: HashSet<Vec<Value>>,
}

impl Prior {
    pub(crate) fn of(unit: &Unit) -> Result<Option<Self>, Halt> {
        let Some(json) = &unit.intent else {
            return Ok(None);
        };
        let intent = Intent::deserialize(json).map_err(|error| {
            Halt::Bug(format!("the intent of span {}: {error}", unit.source_key))
        })?;
        let mut room = HashSet::new();
        for one in &intent.replaced {
            room.insert(key_from_json(&one.earlier)?);
        }
        let writes = unpack(&intent.writes, &intent.digests)?.into_iter().collect();
        Ok(Some(Self {
            room,
            writes,
            existed: intent.existed.to_set()?,
            left: intent.left.to_set()?,
            open: intent.open.to_set()?,
            replaced: intent.replaced,
            moved: intent.moved,
            apart: intent.apart,
        }))
    }

    /// Whether this row was to make room and still stands as it stood before.
    pub(crate) fn awaits(&self, row: &Vec<Value>) -> bool {
        self.room.contains(row)
    }

    /// Whether an earlier intent meant to write the row of this key.
    pub(crate) fn covers(&self, key: &Vec<Value>) -> bool {
        if self.writes.is_empty() {
            // Of an earlier version: all that it did not leave.
            return !self.existed.contains(key) && !self.left.contains(key);
        }
        self.writes.contains_key(key)
    }
}
