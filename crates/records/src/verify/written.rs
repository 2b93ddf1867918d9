//! Which rows the migration wrote, as its journal says.
//!
//! Not to believe in a success, but to tell an alteration from a row that was left out. Asked only
//! about tables in which conflicts are skipped; of such a table every key is remembered in eight
//! bytes, so that one that is asked about does not cost a walk through the journal.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use rehome_core::{Halt, UnitId};

use crate::undo::{SpanEffect, Undoable};
use crate::value::Value;

/// Spans that are read from the journal at once.
const SPANS: usize = 16;

/// The keys of rows of ours, by table.
pub(super) struct Written {
    spans: Arc<dyn Undoable>,
    tables: Mutex<HashMap<String, HashSet<u64>>>,
}

impl Written {
    pub(super) fn new(spans: Arc<dyn Undoable>) -> Self {
        Self { spans, tables: Mutex::default() }
    }

    /// Whether the journal says that the row of this key (in the target) was written.
    pub(super) fn wrote(&self, table: &str, key: &[Value]) -> Result<bool, Halt> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tables.get(table) {
            return Ok(known.contains(&short(key)));
        }
        let mut known = HashSet::new();
        let mut after = UnitId(0);
        loop {
            let units = self.spans.undoable(table, after, SPANS)?;
            let Some(last) = units.last() else {
                break;
            };
            after = last.id;
            for unit in &units {
                if let Some(effect) = SpanEffect::of(unit)? {
                    known.extend(effect.done.inserted.keys()?.iter().map(|key| short(key)));
                }
            }
        }
        let found = known.contains(&short(key));
        tables.insert(table.to_owned(), known);
        Ok(found)
    }
}

/// The same within a process, which is as long as it is needed.
fn short(key: &[Value]) -> u64 {
    let mut hash = DefaultHasher::new();
    key.hash(&mut hash);
    hash.finish()
}
