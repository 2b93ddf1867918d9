//! Whether a row of the target that is not as the source has it was put there by this migration, as
//! its journal says: then it was changed since, here or there, and is no stranger.
//!
//! The journal keeps the keys that it wrote by span. They are gone through, not remembered: only
//! rows that differ are asked about, and there may be millions of the others.

use std::collections::HashSet;

use rehome_core::{Halt, UnitId};

use super::Surveyor;
use super::alike::same_thing;
use crate::layout::Form;
use crate::undo::SpanEffect;
use crate::value::Value;

/// Spans that are read from the journal at once.
const SPANS: usize = 16;

impl Surveyor {
    /// Which of these keys of the target this migration wrote; none where there is no journal to
    /// ask.
    pub(super) fn recorded(
        &self,
        form: &Form,
        keys: &HashSet<Vec<Value>>,
    ) -> Result<HashSet<Vec<Value>>, Halt> {
        let mut found = HashSet::new();
        let Some(spans) = self.spans.as_ref().filter(|_| !keys.is_empty()) else {
            return Ok(found);
        };
        let mut after = UnitId(0);
        loop {
            let units = spans.undoable(&form.table, after, SPANS)?;
            let Some(last) = units.last() else { return Ok(found) };
            after = last.id;
            for unit in &units {
                if let Some(effect) = SpanEffect::of(unit)? {
                    let written = effect.done.inserted.keys()?.into_iter();
                    found.extend(written.filter(|key| keys.contains(key)));
                }
            }
        }
    }
}

/// Whether a row under a key that we wrote can still be that row: SQLite gives the largest number
/// again when its row is gone. It names the same accounts and agrees in something besides, or it was
/// given to another account and agrees in everything else.
pub(super) fn still_that(form: &Form, ours: &[Value], there: &[Value]) -> bool {
    let agree = |column: usize| {
        ours.get(column).is_some_and(|value| !value.is_null())
            && ours.get(column) == there.get(column)
    };
    let plain = form.ids.iter().filter(|id| id.path.is_none());
    let same_accounts = plain.into_iter().all(|id| ours.get(id.column) == there.get(id.column));
    let others = || (0..ours.len()).filter(|column| !form.key.contains(column));
    let is_id = |column: &usize| form.ids.iter().any(|id| id.column == *column);
    let given_away = || {
        let alike = |column: usize| ours.get(column) == there.get(column);
        others().filter(|column| !is_id(column)).all(alike)
            && others().filter(|column| !is_id(column)).any(agree)
    };
    same_thing(form, ours, there) || same_accounts && others().any(agree) || given_away()
}
