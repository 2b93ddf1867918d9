//! The emulator's time: the wall clock at its start, moved on by tokio's
//! clock, so that paused and advanced time reaches `created_at` and the rate
//! windows alike.

use tokio::time::Instant;

/// Milliseconds since the Unix epoch, as tokio's clock sees them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    anchor_ms: i64,
    start: Instant,
}

impl Clock {
    /// Starts at `epoch_ms`, or at the wall clock's present without one.
    #[allow(clippy::disallowed_methods, reason = "the emulated servers have a clock of their own")]
    pub(crate) fn start(epoch_ms: Option<i64>) -> Self {
        Self {
            anchor_ms: epoch_ms.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond()),
            start: Instant::now(),
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        let passed = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.anchor_ms.saturating_add(passed)
    }

    /// Whole seconds since the emulator was started.
    pub(crate) fn second(&self) -> u64 {
        self.start.elapsed().as_secs()
    }
}
