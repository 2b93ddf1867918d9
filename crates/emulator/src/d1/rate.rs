//! Cloudflare's limit on API calls: a number of requests in a window, then 429 until it ends.
//!
//! The published figure is 1,200 requests in five minutes per user or account token
//! (developers.cloudflare.com/fundamentals/api/reference/limits).

use std::time::{Duration, Instant};

/// A window that opens with its first request.
#[derive(Debug)]
pub(crate) struct RateLimit {
    requests: u32,
    window: Duration,
    opened: Option<Instant>,
    used: u32,
}

impl RateLimit {
    /// Lets `requests` through in each `window`.
    pub(crate) fn new(requests: u32, window: Duration) -> Self {
        Self { requests, window, opened: None, used: 0 }
    }

    /// Takes one request at `now`.
    ///
    /// # Errors
    /// When the window is used up: how long until it ends.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let elapsed = self.opened.map(|opened| now.saturating_duration_since(opened));
        match elapsed {
            Some(elapsed) if elapsed < self.window => {
                if self.used >= self.requests {
                    return Err(self.window.saturating_sub(elapsed));
                }
                self.used = self.used.saturating_add(1);
            }
            Some(_) | None => {
                self.opened = Some(now);
                self.used = 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_ends_and_a_new_one_begins() {
        let start = Instant::now();
        let mut limit = RateLimit::new(2, Duration::from_secs(300));
        assert_eq!(limit.take(start), Ok(()));
        assert_eq!(limit.take(start + Duration::from_secs(1)), Ok(()));
        assert_eq!(limit.take(start + Duration::from_secs(100)), Err(Duration::from_secs(200)));
        assert_eq!(limit.take(start + Duration::from_secs(300)), Ok(()));
    }
}
