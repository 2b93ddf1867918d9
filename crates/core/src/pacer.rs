//! One pacer per remote, shared by everything that talks to it.
//!
//! Requests leave evenly spaced, not in bursts: an even stream is right under a fixed window and
//! under a sliding one, whichever the remote keeps. The spacing is 2 % wider than the rate
//! allows, which is the room that network jitter needs (at 1000 in 10 s: twenty requests, or
//! 200 ms); measured against both window shapes it draws no refusal. A share of the rate can be
//! left to the live application.
//!
//! `Retry-After` pauses every caller at once. Refusals and server trouble widen the spacing;
//! successes narrow it again, back to the configured rate and never beyond.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many requests in so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// How many requests.
    pub requests: u32,
    /// In which time.
    pub window: Duration,
}

/// The room left for jitter; see the module's text.
const MARGIN: f64 = 1.02;
/// The spacing is never widened beyond this many times the configured one.
const SLOWEST: f64 = 16.0;
/// How much one piece of trouble widens the spacing.
const WIDEN: f64 = 1.5;
/// How much one success narrows a widened spacing.
const NARROW: f64 = 0.99;

/// Lateness up to here is made good by the turns after it: timers are coarse. What is later (a
/// stalled machine) is lost, because making it good would be a burst.
const LATENESS: Duration = Duration::from_millis(50);

/// Gives each caller its turn.
#[derive(Debug)]
pub struct Pacer {
    spacing: Duration,
    /// When the next turn is due. Held by the caller whose turn is next, so that turns are given
    /// one after the other, in the order of asking.
    next: tokio::sync::Mutex<Option<Instant>>,
    mood: Mutex<Mood>,
}

#[derive(Debug)]
struct Mood {
    paused_until: Option<Instant>,
    slowdown: f64,
    turns: u64,
}

impl Pacer {
    /// A pacer for `share` (0 to 1, of which the rest stays with others) of `rate`.
    pub fn new(rate: Rate, share: f64) -> Self {
        let share = if share.is_finite() { share.clamp(0.01, 1.0) } else { 1.0 };
        let each = rate.window.as_secs_f64() / f64::from(rate.requests.max(1));
        let spacing = Duration::try_from_secs_f64(each * MARGIN / share).unwrap_or(rate.window);
        Self {
            spacing,
            next: tokio::sync::Mutex::new(None),
            mood: Mutex::new(Mood { paused_until: None, slowdown: 1.0, turns: 0 }),
        }
    }

    /// Waits for this caller's turn. Turns are given in the order of asking.
    pub async fn turn(&self) {
        let mut next = self.next.lock().await;
        let due = loop {
            let due = next.max(self.lock().paused_until);
            match due {
                // A pause may come up meanwhile, so the question is asked again.
                Some(at) if at > Instant::now() => tokio::time::sleep_until(at).await,
                Some(_) | None => break due,
            }
        };
        let now = Instant::now();
        let mut mood = self.lock();
        mood.turns += 1;
        let earliest = now.checked_sub(LATENESS).unwrap_or(now);
        let from = due.map_or(now, |due| due.max(earliest));
        *next = Some(from + self.spacing.mul_f64(mood.slowdown));
    }

    /// Nobody's turn comes before `pause` is over. Longer pauses win over shorter ones.
    pub fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut mood = self.lock();
        if mood.paused_until.is_none_or(|earlier| earlier < until) {
            mood.paused_until = Some(until);
        }
    }

    /// The remote refused or failed: slower from now on.
    pub fn trouble(&self) {
        let mut mood = self.lock();
        mood.slowdown = (mood.slowdown * WIDEN).min(SLOWEST);
    }

    /// The remote answered well: back up, a little.
    pub fn success(&self) {
        let mut mood = self.lock();
        mood.slowdown = (mood.slowdown * NARROW).max(1.0);
    }

    /// How long everybody still has to wait for a pause to end; `None` when nobody has to.
    pub fn paused_for(&self) -> Option<Duration> {
        let until = self.lock().paused_until?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// How many turns were given: requests that were sent, or are about to be.
    pub fn turns(&self) -> u64 {
        self.lock().turns
    }

    fn lock(&self) -> MutexGuard<'_, Mood> {
        // The state is a few numbers, valid after any panic elsewhere.
        self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn times(pacer: &Pacer, count: usize) -> Vec<Duration> {
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..count {
            pacer.turn().await;
            times.push(start.elapsed());
        }
        times
    }

    const CLERK: Rate = Rate { requests: 1000, window: Duration::from_secs(10) };

    #[tokio::test(start_paused = true)]
    async fn no_window_holds_more_than_the_rate_and_most_of_it_is_used() {
        let pacer = Pacer::new(CLERK, 1.0);
        let times = times(&pacer, 3500).await;
        for (index, start) in times.iter().enumerate() {
            let within = times[index..].iter().filter(|t| **t < *start + CLERK.window).count();
            assert!(within <= 1000, "{within} in one window");
        }
        let rate = 3500.0 / times.last().unwrap().as_secs_f64();
        assert!(rate >= 95.0, "{rate} a second of 100 allowed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_machine_does_not_make_a_burst() {
        let pacer = Pacer::new(CLERK, 1.0);
        let mut all = Vec::new();
        let start = Instant::now();
        for turn in 0..2500 {
            if turn % 400 == 399 {
                // Nobody runs for a while; every turn that was due then is late.
                tokio::time::advance(Duration::from_millis(700)).await;
            }
            pacer.turn().await;
            all.push(start.elapsed());
        }
        for (index, from) in all.iter().enumerate() {
            let within = all[index..].iter().filter(|t| **t < *from + CLERK.window).count();
            assert!(within <= 990, "{within} in one window");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_is_left_to_others() {
        let pacer = Pacer::new(CLERK, 0.5);
        let last = *times(&pacer, 1000).await.last().unwrap();
        assert!(last > Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_for_everybody_and_trouble_passes() {
        let pacer = Pacer::new(CLERK, 1.0);
        pacer.turn().await;
        pacer.pause(Duration::from_secs(3));
        pacer.pause(Duration::from_secs(1));
        let start = Instant::now();
        pacer.turn().await;
        assert!(start.elapsed() >= Duration::from_secs(3));

        pacer.trouble();
        let slowed = times(&pacer, 10).await;
        for _ in 0..200 {
            pacer.success();
        }
        pacer.turn().await;
        let recovered = times(&pacer, 10).await;
        assert!(slowed.last() > recovered.last());
    }
}
