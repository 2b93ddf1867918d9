//! As fast as the target allows, and never faster.
#![cfg(feature = "slow")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_emulator::{RateLimit, WindowShape};
use rehome_tests::{Databases, Judge, Options, Stage};

async fn keep_to(shape: WindowShape) {
    let limit = RateLimit { limit: 1_000, window_ms: 10_000, shape, count_refused: true };
    let options = Options {
        users: 3_500,
        seed: 81,
        databases: Databases::None,
        limit: Some(limit),
        rate_limit: Some("1000/10s"),
        rate_share: 1.0,
        ..Options::default()
    };
    let stage = Stage::set(options).await;
    let _complete = stage.run().await.expect(0);
    let counters = stage.target().counters();
    assert_eq!(counters.refused_429, 0, "{} in one window", counters.max_in_window);
    // The steady state: without the first and the last tenth, whole seconds.
    let seconds: Vec<u64> = counters.per_second.values().copied().collect();
    let edge = seconds.len() / 10 + 1;
    let steady = &seconds[edge..seconds.len() - edge];
    assert!(steady.len() >= 20, "{seconds:?}");
    let mean = steady.iter().sum::<u64>() as f64 / steady.len() as f64;
    assert!(mean >= 95.0, "{mean} requests a second: {seconds:?}");
    Judge::default().accepts(&stage).await;
}

/// One after the other: two at once would measure how they share the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_fixed_and_in_sliding_windows() {
    keep_to(WindowShape::Fixed).await;
    keep_to(WindowShape::Sliding).await;
}
