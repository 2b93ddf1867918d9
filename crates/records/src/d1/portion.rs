//! How large a write to D1 may be at the moment.
//!
//! D1 ends a request after 30 s, and an answer that says so is a lost one. Nobody can know
//! beforehand what a database takes: it depends on indexes, on the row, on who else writes. So the
//! first request is small, and each answer says how long its SQL took (`meta.duration`): quick
//! ones make the next request larger, slow ones smaller, and one that was lost halves it. What is
//! aimed at leaves most of the 30 s unused, because the next request may meet a busier database.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rehome_core::RemoteTrouble;

use super::answer::Trouble;

/// What the first request may hold, in bytes of statements and parameters.
const FIRST: usize = 1_000_000;
/// The smallest that is gone down to. A single row may be larger, and is then sent alone.
const LEAST: usize = 32_000;
/// The largest: a parameter's worth of rows, and what else is said of them (their keys, once for
/// each foreign key).
const MOST: usize = 4_000_000;
/// A request that took longer makes the next one smaller, so that it takes about as long.
const AIM: Duration = Duration::from_secs(5);
/// A request that took less lets the next one be larger.
const QUICK: Duration = Duration::from_secs(2);

/// The present portion, learned from the answers.
#[derive(Debug)]
pub(super) struct Portion(Mutex<usize>);

impl Default for Portion {
    fn default() -> Self {
        Self(Mutex::new(FIRST))
    }
}

impl Portion {
    /// How many bytes the next write should hold at most.
    pub(super) fn bytes(&self) -> usize {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write of so many bytes was done in `took`, as the database says.
    pub(super) fn done(&self, bytes: usize, took: Duration) {
        self.learn(|now| {
            if took > AIM {
                // Never above what was sent: it was too slow already.
                scaled(bytes.min(now), AIM, took)
            } else if took < QUICK && bytes >= now / 2 {
                now.saturating_mul(2)
            } else {
                now
            }
        });
    }

    /// A write of so many bytes went wrong. One that was lost, or that the database ran out of
    /// something for, may have been too large.
    pub(super) fn failed(&self, bytes: usize, trouble: &Trouble) {
        let smaller = match trouble {
            Trouble::Lost { .. } => true,
            Trouble::Refused { message, .. }
            | Trouble::Closed { trouble: RemoteTrouble::Protocol, message } => exhausted(message),
            Trouble::Closed { .. } | Trouble::Later { .. } | Trouble::Gone { .. } => false,
        };
        if smaller {
            self.learn(|now| now.min(bytes) / 2);
        }
    }

    fn learn(&self, next: impl FnOnce(usize) -> usize) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = next(*now).clamp(LEAST, MOST);
    }
}

/// Whether these words speak of a limit that a smaller request would keep.
fn exhausted(message: &str) -> bool {
    let words = message.to_lowercase();
    ["timed out", "timeout", "too long", "too big", "memory", "cpu"]
        .iter()
        .any(|word| words.contains(word))
}

fn scaled(bytes: usize, by: Duration, of: Duration) -> usize {
    let (by, of) = (by.as_millis(), of.as_millis().max(1));
    usize::try_from((bytes as u128).saturating_mul(by) / of).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends so many bytes to a database that takes so many milliseconds for a kilobyte, each
    /// request as large as the portion allows. Returns the requests: bytes and whether they
    /// were done within 30 s.
    fn send(mut bytes: usize, per_kilobyte: u64) -> Vec<(usize, bool)> {
        let portion = Portion::default();
        let mut sent = Vec::new();
        while bytes > 0 {
            let part = bytes.min(portion.bytes());
            let took = Duration::from_millis(part as u64 * per_kilobyte / 1000);
            let in_time = took < Duration::from_secs(30);
            if in_time {
                portion.done(part, took);
                bytes -= part;
            } else {
                portion.failed(part, &Trouble::Lost { reason: "timed out".to_owned() });
            }
            sent.push((part, in_time));
            assert!(sent.len() < 100_000, "it ends");
        }
        sent
    }

    #[test]
    fn a_quick_database_is_soon_given_all_it_may_be_given() {
        let sent = send(100_000_000, 0);
        assert_eq!(
            sent.iter().take(3).map(|one| one.0).collect::<Vec<_>>(),
            [FIRST, 2 * FIRST, 4 * FIRST]
        );
        assert_eq!(sent.len(), 27);
    }

    #[test]
    fn a_slow_one_is_asked_for_less_until_each_request_takes_what_is_aimed_at() {
        for per_kilobyte in [8, 20, 50, 100] {
            let sent = send(20_000_000, per_kilobyte);
            let lost = sent.iter().filter(|(_, in_time)| !in_time).count();
            assert!(lost <= 2, "{per_kilobyte}: {lost} lost");
            let (last, _) = sent[sent.len() - 2];
            let took = last as u64 * per_kilobyte / 1000;
            assert!((1_500..=5_500).contains(&took), "{per_kilobyte}: {took} ms");
        }
    }

    #[test]
    fn a_small_request_that_was_quick_says_nothing() {
        let portion = Portion::default();
        portion.done(FIRST / 3, Duration::from_millis(1));
        assert_eq!(portion.bytes(), FIRST);
        let later = Trouble::Later { reason: "overloaded".to_owned(), retry_after: None };
        portion.failed(FIRST, &later);
        assert_eq!(portion.bytes(), FIRST, "it was not looked at");
        let lost = || Trouble::Lost { reason: "timed out".to_owned() };
        for _ in 0..100 {
            portion.failed(portion.bytes(), &lost());
        }
        assert_eq!(portion.bytes(), LEAST);
    }
}
