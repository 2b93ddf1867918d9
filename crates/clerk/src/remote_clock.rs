//! What time it is at a remote.
//!
//! A lost create is recognised by the dates that the *target* gives to identifiers, so intents
//! have to be dated by the target's clock: this machine's may be wrong by hours, or be set while
//! a migration runs. Every answer carries the date of its sender (RFC 9110, 6.6.1); between two
//! answers time passes as the steady timer says. A remote that sends no dates is taken to have
//! the same time as this machine.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use rehome_core::clock::Clock;
use tokio::time::Instant;

/// HTTP's date form is the RFC 2822 one with a fixed zone name.
static PARSER: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

/// A date in HTTP's preferred form; `None` for anything else.
pub(crate) fn parse_date(value: &str) -> Option<Timestamp> {
    PARSER.parse_timestamp(value).ok()
}

/// The clock of one remote, as far as its answers tell.
pub(crate) struct RemoteClock {
    ours: Arc<dyn Clock>,
    /// The date of the latest answer, and when it came.
    heard: Mutex<Option<(Timestamp, Instant)>>,
}

impl fmt::Debug for RemoteClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteClock").field("heard", &*self.lock()).finish_non_exhaustive()
    }
}

impl RemoteClock {
    /// A clock that shows what `ours` does until the remote is heard.
    pub(crate) fn new(ours: Arc<dyn Clock>) -> Self {
        Self { ours, heard: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Timestamp, Instant)>> {
        // A pair of plain values, valid after any panic elsewhere.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer came just now, with this `Date`. Whatever is no date is ignored.
    pub(crate) fn hear(&self, date: Option<&str>) {
        if let Some(date) = date.and_then(parse_date) {
            *self.lock() = Some((date, Instant::now()));
        }
    }

    /// The present moment there: never ahead of the remote's own clock, and behind it by the way
    /// of the latest answer and the second to which dates are cut.
    pub(crate) fn now(&self) -> Timestamp {
        let Some((date, at)) = *self.lock() else {
            return self.ours.now();
        };
        let gone = SignedDuration::try_from(at.elapsed()).ok();
        gone.and_then(|gone| date.checked_add(gone).ok()).unwrap_or(date)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rehome_core::clock::TimerClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_remotes_own_date_counts_from_the_first_answer_on() {
        let date = |text: &str| text.parse::<Timestamp>().unwrap();
        let ours = Arc::new(TimerClock::starting_at(date("2030-01-01T00:00:00Z")));
        let clock = RemoteClock::new(ours);
        clock.hear(None);
        clock.hear(Some("the day after tomorrow"));
        assert_eq!(clock.now(), date("2030-01-01T00:00:00Z"));
        clock.hear(Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(clock.now(), date("1994-11-06T08:49:38.5Z"));
        clock.hear(Some("Sun, 06 Nov 1994 08:50:00 GMT"));
        assert_eq!(clock.now(), date("1994-11-06T08:50:00Z"));
    }
}
