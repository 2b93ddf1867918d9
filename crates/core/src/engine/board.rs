//! Who is busy, and when nobody is.
//!
//! A lane that finds nothing to do says at which version of the journal it looked. When every
//! lane has looked at the present version and found nothing, nothing can move any more: each
//! lane only reacts to commits, and there was none since.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What one lane last said of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Report {
    /// Something is under way, or was when last heard of.
    Busy,
    /// Nothing to do at this version of the journal, with so many units waiting.
    Idle {
        /// The version at which it looked.
        version: u64,
        /// The round of orders that it had followed by then.
        round: u64,
        /// Units that it holds back in memory.
        waiting: usize,
    },
    /// Ended for good.
    Over,
}

/// The reports of all lanes.
#[derive(Debug)]
pub(super) struct Board {
    reports: Mutex<Vec<Report>>,
    changed: watch::Sender<u64>,
}

impl Board {
    /// A board for so many lanes, all busy at first.
    pub(super) fn new(lanes: usize) -> Self {
        Self { reports: Mutex::new(vec![Report::Busy; lanes]), changed: watch::Sender::new(0) }
    }

    /// Takes a lane's report.
    pub(super) fn report(&self, lane: usize, report: Report) {
        let mut reports = self.lock();
        if let Some(place) = reports.get_mut(lane)
            && *place != report
        {
            *place = report;
            drop(reports);
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Signals every change of any report.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// When nothing moves at this version and round: how many units wait. `None` while anything
    /// moves, or has not looked since.
    pub(super) fn quiescent(&self, now: u64, current: u64) -> Option<usize> {
        self.lock().iter().try_fold(0, |sum, report| match report {
            Report::Busy => None,
            Report::Idle { version, round, waiting } => {
                (*version == now && *round == current).then_some(sum + waiting)
            }
            Report::Over => Some(sum),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Report>> {
        // Plain values: valid after a panic elsewhere.
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
