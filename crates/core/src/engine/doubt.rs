//! Units whose last effect has no known outcome.
//!
//! Each is probed soon, and again until its worker's settle time is over. Found means done.
//! Only an absence that is still there after the settle time is believed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::boundary;
use crate::unit::UnitId;

/// How soon after a lost answer the first probe goes out.
const FIRST: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
struct Doubt {
    since: Instant,
    next: Instant,
}

/// The units in doubt of one lane: at most as many as effects were under way at once.
#[derive(Debug)]
pub(super) struct Doubts {
    settle: Duration,
    units: BTreeMap<UnitId, Doubt>,
}

impl Doubts {
    pub(super) fn new(settle: Duration) -> Self {
        Self { settle: boundary::hasten(settle), units: BTreeMap::new() }
    }

    /// How long an absence has to last.
    pub(super) fn settle(&self) -> Duration {
        self.settle
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub(super) fn contains(&self, unit: UnitId) -> bool {
        self.units.contains_key(&unit)
    }

    pub(super) fn add(&mut self, unit: UnitId) {
        let now = Instant::now();
        self.units.insert(
            unit,
            Doubt { since: now, next: now + boundary::hasten(FIRST).min(self.settle) },
        );
    }

    /// Those that are due for a probe.
    pub(super) fn due(&self, limit: usize) -> Vec<UnitId> {
        let now = Instant::now();
        self.units.iter().filter(|(_, d)| d.next <= now).map(|(id, _)| *id).take(limit).collect()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.units.values().map(|doubt| doubt.next).min()
    }

    /// A probe settled it.
    pub(super) fn settled(&mut self, unit: UnitId) {
        self.units.remove(&unit);
    }

    /// A probe found nothing. `true` when that is to be believed; the unit is then forgotten.
    pub(super) fn absent(&mut self, unit: UnitId) -> bool {
        let now = Instant::now();
        let Some(doubt) = self.units.get_mut(&unit) else {
            return true;
        };
        let end = doubt.since + self.settle;
        if now >= end {
            self.units.remove(&unit);
            return true;
        }
        doubt.next = end;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(5);
    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn an_absence_is_believed_when_it_outlasts_the_settle_time() {
        let begun = Instant::now();
        let mut doubts = Doubts::new(SETTLE);
        assert!(doubts.is_empty() && !doubts.contains(UnitId(1)));
        doubts.add(UnitId(1));
        assert!(!doubts.is_empty() && doubts.contains(UnitId(1)) && !doubts.contains(UnitId(2)));

        assert_eq!(doubts.next(), Some(begun + FIRST));
        tokio::time::advance(FIRST - MOMENT).await;
        assert_eq!(doubts.due(10), []);
        tokio::time::advance(MOMENT).await;
        assert_eq!(doubts.due(10), [UnitId(1)]);

        assert!(!doubts.absent(UnitId(1)), "the target may show it late");
        assert_eq!((doubts.due(10), doubts.next()), (vec![], Some(begun + SETTLE)));
        tokio::time::advance(SETTLE - FIRST - MOMENT).await;
        assert!(!doubts.absent(UnitId(1)));
        tokio::time::advance(MOMENT).await;
        assert_eq!(doubts.due(10), [UnitId(1)]);
        assert!(doubts.absent(UnitId(1)));
        assert!(doubts.is_empty());
        assert_eq!(doubts.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_settle_time_may_be_shorter_than_the_wait_for_the_first_probe() {
        let begun = Instant::now();
        let mut doubts = Doubts::new(MOMENT);
        doubts.add(UnitId(1));
        assert_eq!((doubts.settle(), doubts.next()), (MOMENT, Some(begun + MOMENT)));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_due_at_once_and_what_is_settled_is_not() {
        let mut doubts = Doubts::new(SETTLE);
        [3, 1, 2].into_iter().for_each(|unit| doubts.add(UnitId(unit)));
        tokio::time::advance(FIRST).await;
        assert_eq!(doubts.due(2), [UnitId(1), UnitId(2)]);
        doubts.settled(UnitId(1));
        assert_eq!(doubts.due(2), [UnitId(2), UnitId(3)]);
    }
}
