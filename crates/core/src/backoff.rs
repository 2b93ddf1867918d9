//! How long to wait before trying again.
//!
//! Only the pure sequence of delays: exponential, capped, with full jitter from a seeded source.
//! The sending itself stays with the engine (effects) and the clients (reads), so that no retry
//! hides from the journal.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// The shape of a sequence of delays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first delay, before jitter.
    pub first: Duration,
    /// No delay is longer, jitter excluded.
    pub cap: Duration,
    /// How many delays there are before the caller gives up.
    pub attempts: usize,
}

impl Default for Backoff {
    /// 250 ms doubling to 20 s, eight times: about a minute in all.
    fn default() -> Self {
        Self { first: Duration::from_millis(250), cap: Duration::from_secs(20), attempts: 8 }
    }
}

impl Backoff {
    /// The delays, jittered from `seed`; as many as [`Backoff::attempts`].
    pub fn delays(&self, seed: u64) -> impl Iterator<Item = Duration> + Send + use<> {
        ExponentialBuilder::default()
            .with_min_delay(self.first)
            .with_max_delay(self.cap)
            .with_factor(2.0)
            .with_max_times(self.attempts)
            .with_jitter()
            .with_jitter_seed(seed)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_end() {
        let backoff = Backoff::default();
        let delays: Vec<_> = backoff.delays(7).collect();
        assert_eq!(delays.len(), backoff.attempts);
        assert!(delays.iter().all(|delay| *delay <= backoff.cap * 2));
        assert!(delays[0] < delays[6]);
        assert_eq!(delays, backoff.delays(7).collect::<Vec<_>>(), "the same seed, the same delays");
    }
}
