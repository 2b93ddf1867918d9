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
    changed: watch::Sender<()>,
}

impl Board {
    /// A board for so many lanes, all busy at first.
    pub(super) fn new(lanes: usize) -> Self {
        Self { reports: Mutex::new(vec![Report::Busy; lanes]), changed: watch::Sender::new(()) }
    }

    /// Takes a lane's report.
    pub(super) fn report(&self, lane: usize, report: Report) {
        let mut reports = self.lock();
        if let Some(place) = reports.get_mut(lane)
            && *place != report
        {
            *place = report;
            drop(reports);
            self.changed.send_replace(());
        }
    }

    /// Signals every change of any report.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn idle(version: u64, round: u64, waiting: usize) -> Report {
        Report::Idle { version, round, waiting }
    }

    #[test]
    fn nothing_moves_when_every_lane_has_looked_at_what_is_there_now() {
        for (reports, waiting) in [
            ([Report::Busy, idle(7, 1, 0), Report::Over], None),
            ([idle(6, 1, 0), idle(7, 1, 0), Report::Over], None),
            ([idle(7, 0, 0), idle(7, 1, 0), Report::Over], None),
            ([idle(7, 1, 2), idle(7, 1, 3), Report::Over], Some(5)),
            ([Report::Over, Report::Over, Report::Over], Some(0)),
        ] {
            let board = Board::new(3);
            for (lane, report) in reports.into_iter().enumerate() {
                assert_eq!(board.quiescent(7, 1), None, "a lane is busy until it says otherwise");
                board.report(lane, report);
            }
            assert_eq!(board.quiescent(7, 1), waiting, "{reports:?}");
        }
    }

    #[test]
    fn a_report_that_says_nothing_new_wakes_nobody() {
        let board = Board::new(1);
        let mut changes = board.changes();
        board.report(0, Report::Busy);
        board.report(1, Report::Over);
        assert!(!changes.has_changed().unwrap());
        board.report(0, Report::Over);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        board.report(0, Report::Over);
        assert!(!changes.has_changed().unwrap());
    }
}
