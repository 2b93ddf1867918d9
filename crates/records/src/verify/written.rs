//! Which rows the migration wrote, as its journal says.
//!
//! Not to believe in a success, but to tell an alteration from a row that was left out, and one that
//! the target's application has made from others. Asked only about rows that are not equal; of their
//! table every key is remembered in eight bytes, and what was written under it in as many, so that
//! one that is asked about does not cost a walk through the journal.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use rehome_core::{Halt, Stage, UnitId};

use crate::import::digests::RowDigest;
use crate::undo::{SpanEffect, Undoable};
use crate::value::Value;

/// Spans that are read from the journal at once.
const SPANS: usize = 16;

/// What was written, if a run has verified that since.
type Verified = Option<RowDigest>;

/// The rows of ours of one table, by their keys.
type Table = HashMap<u64, Verified>;

/// The rows of ours, by table.
pub(super) struct Written {
    spans: Arc<dyn Undoable>,
    /// Of the table that was asked about last: they are gone through one by one.
    table: Mutex<Option<(String, Table)>>,
}

impl Written {
    pub(super) fn new(spans: Arc<dyn Undoable>) -> Self {
        Self { spans, table: Mutex::default() }
    }

    /// Whether the journal says that the row of this key (in the target) was written.
    pub(super) fn wrote(&self, table: &str, key: &[Value]) -> Result<bool, Halt> {
        Ok(self.ask(table, key)?.is_some())
    }

    /// Whether the journal says that this row was written under this key, as it is here, and that a
    /// run has found it there.
    pub(super) fn verified(&self, table: &str, key: &[Value], row: &[Value]) -> Result<bool, Halt> {
        Ok(self.ask(table, key)?.flatten() == Some(RowDigest::of(row)))
    }

    fn ask(&self, table: &str, key: &[Value]) -> Result<Option<Verified>, Halt> {
        let mut known = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, rows)) = known.as_ref()
            && name == table
        {
            return Ok(rows.get(&short(key)).copied());
        }
        let rows = self.read(table)?;
        let found = rows.get(&short(key)).copied();
        *known = Some((table.to_owned(), rows));
        Ok(found)
    }

    fn read(&self, table: &str) -> Result<Table, Halt> {
        let mut rows = Table::new();
        let mut after = UnitId(0);
        loop {
            let units = self.spans.undoable(table, after, SPANS)?;
            let Some(last) = units.last() else { return Ok(rows) };
            after = last.id;
            for unit in &units {
                let Some(effect) = SpanEffect::of(unit)? else { continue };
                let verified = unit.state.stage == Stage::Verified;
                for (key, digest) in effect.done.rows()? {
                    rows.insert(short(&key), digest.filter(|_| verified));
                }
            }
        }
    }
}

/// The same within a process, which is as long as it is needed.
fn short(key: &[Value]) -> u64 {
    let mut hash = DefaultHasher::new();
    key.hash(&mut hash);
    hash.finish()
}
