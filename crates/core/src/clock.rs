//! Wall-clock time, injected.
//!
//! Waiting goes through tokio's timer, which a test can pause; *dates* go through this trait, so
//! that a whole migration can run in virtual time from a seed. Nothing else in the workspace may
//! ask the system for the time.

use jiff::Timestamp;

/// Where dates come from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place where the system clock is read")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A date that starts somewhere fixed and advances with tokio's timer: real in real time,
/// virtual when that is paused.
#[derive(Clone, Debug)]
pub struct TimerClock {
    origin: Timestamp,
    started: tokio::time::Instant,
}

impl TimerClock {
    /// A clock that shows `origin` now.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { origin, started: tokio::time::Instant::now() }
    }
}

impl Clock for TimerClock {
    fn now(&self) -> Timestamp {
        let elapsed = jiff::SignedDuration::try_from(self.started.elapsed());
        elapsed.ok().and_then(|gone| self.origin.checked_add(gone).ok()).unwrap_or(self.origin)
    }
}
