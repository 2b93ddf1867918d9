//! Which units a lane takes next.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::super::board::Report;
use super::super::course;
use super::{Lane, Lingering, QUIET};
use crate::boundary;
use crate::halt::Halt;
use crate::state::{Condition, State};
use crate::transition::Way;
use crate::unit::{Unit, UnitId};

impl Lane {
    /// Takes a batch of ready units and decides about each. Returns whether there was any.
    pub(super) async fn take(&mut self) -> Result<bool, Halt> {
        if self.shared.settings.only_doubts {
            self.again.clear();
            return Ok(false);
        }
        // What could not be handed out yet would only take memory, and grow old.
        if self.room().await?.is_none() {
            return Ok(false);
        }
        for unit in self.waiting.take_ready(&self.shared.reader)? {
            self.again.insert(unit, Instant::now());
        }
        let mut units = self.take_again()?;
        let batch = self.step.batch.max(1);
        // What waits takes memory: with enough of it, no more is taken until some of it goes on.
        let room = (batch * 4).max(64).saturating_sub(self.waiting.len() + self.again.len());
        let wanted = batch.saturating_sub(units.len()).min(room);
        if wanted > 0 {
            self.scan(wanted, &mut units)?;
        }
        if units.is_empty() {
            return Ok(false);
        }
        self.shared.board.report(self.index, Report::Busy);
        self.decide(units).await?;
        Ok(true)
    }

    /// Adds units that are not in hand, going on where the last scan ended. Units reach a stage
    /// in any order, so on the way forth the scan starts over once before it says that there are
    /// none. On the way back nothing becomes ready meanwhile, and each unit is offered once.
    fn scan(&mut self, wanted: usize, units: &mut Vec<Unit>) -> Result<(), Halt> {
        let taken: BTreeSet<UnitId> = units.iter().map(|unit| unit.id).collect();
        // In the order of the scan: behind the cursor first, then from the beginning.
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut start = self.cursor;
        let mut cursor = self.cursor;
        while found.len() < wanted {
            let ids = self.next_ids(cursor, wanted)?;
            let Some(last) = ids.last() else {
                if start == UnitId(0) || course::from(&self.step.way).is_none() {
                    break;
                }
                // Once more, from the beginning to where this scan began.
                start = UnitId(0);
                cursor = UnitId(0);
                continue;
            };
            cursor = *last;
            let free = ids.into_iter().filter(|id| {
                !taken.contains(id)
                    && seen.insert(*id)
                    && !self.handed.contains(id)
                    && !self.waiting.contains(*id)
                    && !self.again.contains_key(id)
                    && !self.doubts.contains(*id)
            });
            let free: Vec<_> = free.take(wanted - found.len()).collect();
            found.extend(free);
        }
        if !found.is_empty() && found.len() < wanted && self.lingers() {
            return Ok(());
        }
        self.lingering = None;
        match (found.last(), &self.step.way) {
            (Some(last), _) => self.cursor = *last,
            (None, Way::Forth { .. }) => self.cursor = UnitId(0),
            (None, Way::Back { .. }) => {}
        }
        units.extend(self.shared.reader.load(&found)?);
        Ok(())
    }

    fn next_ids(&self, after: UnitId, wanted: usize) -> Result<Vec<UnitId>, Halt> {
        let reader = &self.shared.reader;
        let kind = &self.step.kind;
        Ok(match &self.step.way {
            Way::Forth { from, .. } => reader.ready_ids(kind, *from, after, wanted)?,
            Way::Back { to, scope } => {
                reader.undoable_ids(kind, *to, scope.as_deref(), after, wanted)?
            }
        })
    }

    /// Whether a unit that was put off is still one of this lane's.
    fn is_ours(&self, unit: &Unit) -> bool {
        match &self.step.way {
            Way::Forth { from, .. } => unit.state == State::new(*from, Condition::Ready),
            // Put off by an undo that did not go through, which leaves it ready.
            Way::Back { .. } => unit.state.condition == Condition::Ready,
        }
    }

    /// Whether a batch that is not full should still wait for more: until nothing was committed
    /// for a moment, and never longer than the worker allows.
    fn lingers(&mut self) -> bool {
        let allowed = self.transition.linger();
        if allowed.is_zero() {
            return false;
        }
        let now = Instant::now();
        let version = *self.shared.journal.version().borrow();
        let lingering =
            self.lingering.get_or_insert(Lingering { until: now + allowed, version, quiet: now });
        if lingering.version != version {
            lingering.version = version;
            lingering.quiet = now;
        }
        now < lingering.until && now < lingering.quiet + boundary::hasten(QUIET)
    }

    fn take_again(&mut self) -> Result<Vec<Unit>, Halt> {
        let now = Instant::now();
        let due: Vec<UnitId> = self
            .again
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(unit, _)| *unit)
            .take(self.step.batch.max(1))
            .collect();
        let mut units = Vec::with_capacity(due.len());
        for id in due {
            self.again.remove(&id);
            let unit = self.shared.reader.unit(id)?;
            if self.is_ours(&unit) {
                units.push(unit);
            }
        }
        Ok(units)
    }
}
