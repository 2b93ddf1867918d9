//! A rate limit over tokio's clock, and what was really seen per window, so
//! that a test can assert that a client stayed under a limit without trusting
//! the limiter that it is testing against.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{RateLimit, WindowShape};

/// The state of one limit.
#[derive(Debug)]
pub(crate) struct Limiter {
    start: Instant,
    window: u128,
    used: VecDeque<Instant>,
}

impl Limiter {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, window: 0, used: VecDeque::new() }
    }

    /// Takes one request in, or says how long to wait until one may pass.
    pub(crate) fn admit(&mut self, limit: &RateLimit, now: Instant) -> Result<(), Duration> {
        let length = Duration::from_millis(limit.window_ms.max(1));
        let opens = match limit.shape {
            WindowShape::Fixed => {
                let since = now.saturating_duration_since(self.start).as_millis();
                let index = since / length.as_millis();
                if index != self.window {
                    self.window = index;
                    self.used.clear();
                }
                let left = length.as_millis() - since % length.as_millis();
                now + Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))
            }
            WindowShape::Sliding => {
                while self.used.front().is_some_and(|first| *first + length <= now) {
                    self.used.pop_front();
                }
                // With refused requests counted, the window opens again only
                // when enough of them have left it.
                let limit = limit.limit as usize;
                let last = self.used.len().saturating_sub(limit.max(1));
                self.used.get(last).map_or(now, |first| *first + length)
            }
        };
        if self.used.len() < limit.limit as usize {
            self.used.push_back(now);
            return Ok(());
        }
        if limit.count_refused {
            self.used.push_back(now);
        }
        Err(opens.saturating_duration_since(now))
    }
}

/// The highest number of requests in any stretch of a window's length.
#[derive(Debug, Default)]
pub(crate) struct Peak {
    recent: VecDeque<Instant>,
    highest: usize,
}

impl Peak {
    pub(crate) fn see(&mut self, now: Instant, window: Duration) {
        while self.recent.front().is_some_and(|first| *first + window <= now) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.highest = self.highest.max(self.recent.len());
    }

    pub(crate) fn highest(&self) -> u64 {
        self.highest as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(shape: WindowShape, count_refused: bool) -> RateLimit {
        RateLimit { limit: 2, window_ms: 10_000, shape, count_refused }
    }

    #[tokio::test]
    async fn a_sliding_window_opens_when_its_first_request_leaves() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let rule = limit(WindowShape::Sliding, false);
        let mut limiter = Limiter::new(start);
        assert!(limiter.admit(&rule, at(0)).is_ok());
        assert!(limiter.admit(&rule, at(4_000)).is_ok());
        assert_eq!(limiter.admit(&rule, at(5_000)), Err(Duration::from_secs(5)));
        assert!(limiter.admit(&rule, at(10_000)).is_ok());
        assert_eq!(limiter.admit(&rule, at(10_001)), Err(Duration::from_millis(3_999)));
    }

    #[tokio::test]
    async fn counting_the_refused_pushes_the_opening_away() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let rule = limit(WindowShape::Sliding, true);
        let mut limiter = Limiter::new(start);
        assert!(limiter.admit(&rule, at(0)).is_ok());
        assert!(limiter.admit(&rule, at(0)).is_ok());
        assert!(limiter.admit(&rule, at(9_000)).is_err());
        assert!(limiter.admit(&rule, at(9_500)).is_err());
        assert_eq!(limiter.admit(&rule, at(10_000)), Err(Duration::from_millis(9_000)));
    }

    #[tokio::test]
    async fn a_fixed_window_opens_at_the_next_border() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let rule = limit(WindowShape::Fixed, false);
        let mut limiter = Limiter::new(start);
        assert!(limiter.admit(&rule, at(9_000)).is_ok());
        assert!(limiter.admit(&rule, at(9_001)).is_ok());
        assert_eq!(limiter.admit(&rule, at(9_500)), Err(Duration::from_millis(500)));
        assert!(limiter.admit(&rule, at(10_000)).is_ok());
        assert!(limiter.admit(&rule, at(10_001)).is_ok());
    }
}
