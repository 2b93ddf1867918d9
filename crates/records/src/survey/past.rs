//! What is known of a span from before: its latest intent, and what it has left in the target.
//!
//! A row that is found under a key of ours may be ours, as it was written or changed since, or
//! somebody else's. Only the journal can tell, and only as far as it knows that a request happened.

use std::collections::{HashMap, HashSet};

use rehome_core::{Halt, Unit};

use super::Planned;
use crate::import::digests::RowDigest;
use crate::import::summary::SpanDone;
use crate::import::{Prior, Replaced};
use crate::rekey::Apart;
use crate::undo::SpanEffect;
use crate::value::Value;

/// What earlier attempts at the same span tell.
#[derive(Default)]
pub(crate) struct Past {
    /// The latest intent since the span was last taken back, if ever.
    pub(crate) prior: Option<Prior>,
    /// Whether it is certain that nothing of that was written.
    pub(crate) void: bool,
    /// What is recorded to be there.
    effect: Option<Left>,
}

/// What a span has left in the target, as its latest outcome says.
struct Left {
    done: SpanDone,
    inserted: HashMap<Vec<Value>, Option<RowDigest>>,
    open: HashSet<Vec<Value>>,
    overtaken: HashSet<Vec<Value>>,
    rejected: HashMap<Vec<Value>, Option<RowDigest>>,
    /// Earlier rows that an undo is not through with.
    replaced: Vec<Replaced>,
}

impl Past {
    pub(crate) fn of(unit: &Unit, void: bool) -> Result<Self, Halt> {
        let effect = match SpanEffect::of(unit)? {
            Some(SpanEffect { done, replaced, .. }) => {
                let inserted = done.rows()?.into_iter().collect();
                let open = done.open.to_set()?;
                let overtaken = done.overtaken.to_set()?;
                let rejected = done.rejected()?.into_iter().collect();
                Some(Left { done, inserted, open, overtaken, rejected, replaced })
            }
            None => None,
        };
        Ok(Self { prior: Prior::of(unit)?, void, effect })
    }

    /// The intent, when something of it may have been written.
    fn meant(&self) -> Option<&Prior> {
        self.prior.as_ref().filter(|_| !self.void)
    }

    /// By how much the span moved on its own, or that it did not, once something of it may be in
    /// the target; `None` while it can go anywhere.
    pub(crate) fn moved(&self) -> Option<Option<i64>> {
        if let Some(prior) = self.meant() {
            return Some(prior.moved);
        }
        let left = self.effect.as_ref().filter(|left| !left.inserted.is_empty())?;
        Some(left.done.moved)
    }

    /// The rows that stand apart as an intent has them of which something may be in the target.
    pub(crate) fn apart(&self) -> Apart {
        self.meant().map(|prior| prior.apart.clone()).unwrap_or_default()
    }

    /// Whether a row of this key, equal to ours, was put there by us.
    pub(super) fn is_ours(&self, key: &Vec<Value>) -> bool {
        self.meant().is_some_and(|prior| prior.covers(key))
            || self.effect.as_ref().is_some_and(|left| left.inserted.contains_key(key))
    }

    /// Whether a row that stands under a key of ours was put there by us and changed since. One
    /// that was to make room for ours and is as it was before shows that nothing was written.
    pub(super) fn was_ours(&self, key: &Vec<Value>, there: &Vec<Value>) -> bool {
        self.is_ours(key) && !self.meant().is_some_and(|prior| prior.awaits(there))
    }

    /// Whether the journal knows this row as it is now.
    pub(crate) fn knows(&self, plan: &Planned) -> bool {
        let known = self.effect.as_ref().and_then(|left| left.inserted.get(&plan.key));
        known == Some(&Some(RowDigest::of(&plan.now)))
    }

    /// The rows that are recorded to be there, with what was written.
    pub(crate) fn written(&self) -> impl Iterator<Item = (&Vec<Value>, Option<RowDigest>)> {
        let rows = self.effect.iter().flat_map(|left| &left.inserted);
        rows.map(|(key, digest)| (key, *digest))
    }

    /// What is recorded to have been written under this key.
    pub(crate) fn digest(&self, key: &Vec<Value>) -> Option<RowDigest> {
        self.effect.as_ref().and_then(|left| left.inserted.get(key).copied().flatten())
    }

    /// The rows that an intent meant to write of which the outcome is not known, with what.
    pub(super) fn meant_rows(&self) -> impl Iterator<Item = (&Vec<Value>, RowDigest)> {
        let rows = self.meant().into_iter().flat_map(|prior| &prior.writes);
        rows.filter_map(|(key, digest)| Some((key, (*digest)?)))
    }

    /// Whether the source has this row as it was written: whoever has changed it since is the
    /// target. One with a reference empty is owed to it still.
    pub(super) fn still_wanted(&self, plan: &Planned) -> bool {
        !plan.was_open && self.digest(&plan.key) == Some(RowDigest::of(&plan.row))
    }

    /// Whether this row of ours was found to be the target's by now.
    pub(crate) fn overtaken(&self, key: &Vec<Value>) -> bool {
        self.effect.as_ref().is_some_and(|left| left.overtaken.contains(key))
    }

    /// Whether the database has refused rows.
    pub(crate) fn any_rejected(&self) -> bool {
        self.effect.as_ref().is_some_and(|left| !left.rejected.is_empty())
    }

    /// Whether the database has refused this row as it is.
    pub(crate) fn was_rejected(&self, plan: &Planned) -> bool {
        let rejected = self.effect.as_ref().and_then(|left| left.rejected.get(&plan.key));
        rejected == Some(&Some(RowDigest::of(&plan.now)))
    }

    /// Whether this row is ours and just as the journal has it: as it was written, or was to be,
    /// whatever the source has made of it since.
    pub(super) fn as_written(&self, key: &Vec<Value>, there: &[Value]) -> bool {
        let there = Some(RowDigest::of(there));
        let meant = self.meant().and_then(|prior| prior.writes.get(key).copied().flatten());
        self.digest(key) == there || (meant.is_some() && meant == there)
    }

    pub(crate) fn was_open(&self, key: &Vec<Value>) -> bool {
        self.meant().is_some_and(|prior| prior.open.contains(key))
            || self.effect.as_ref().is_some_and(|left| left.open.contains(key))
    }

    /// Whether the intent that counts for the outcome has repeated the earlier rows: the present
    /// one, or the one that is about to be written.
    pub(crate) const fn meant_or(&self, about_to: bool) -> bool {
        about_to || self.prior.is_some()
    }

    /// Earlier rows that a later undo has to know of. An intent repeats those of the effect
    /// before it.
    pub(crate) fn replaced(&self) -> Vec<Replaced> {
        let effect = self.effect.as_ref().map(|left| left.replaced.clone()).unwrap_or_default();
        self.meant().map_or(effect, |prior| prior.replaced.clone())
    }

    /// Puts into a new outcome what an undo has noted about earlier rows. `repeated` says that an
    /// intent has repeated those that are still to come back, without the others.
    pub(crate) fn hand_on(&self, done: &mut SpanDone, repeated: bool) {
        let Some(left) = &self.effect else {
            return;
        };
        done.waiting = left.done.waiting.clone();
        done.emptied = left.done.emptied.clone();
        if !repeated {
            done.settled = left.done.settled.clone();
        }
    }
}
