//! Memory does not grow with the number of users.
#![cfg(feature = "slow")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_tests::{Databases, Options, Stage};

const MEGABYTE: u64 = 1024 * 1024;

/// The peak of a whole run, in bytes.
async fn peak(users: usize) -> u64 {
    let options = Options {
        users,
        rows: users * 2,
        seed: 91,
        databases: Databases::Sqlite,
        rate_limit: Some("1000000/10s"),
        ..Options::default()
    };
    let stage = Stage::set(options).await;
    let (finished, peak) = stage.start(&["-q", "run", "--yes"]).finish_measured().await;
    let _complete = finished.expect(0);
    assert_eq!(stage.creates(), users as u64);
    peak
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_users_take_no_more() {
    let (few, many) = (peak(10_000).await, peak(100_000).await);
    assert!(many < 100 * MEGABYTE, "{} MB", many / MEGABYTE);
    assert!(
        many * 10 <= few * 11,
        "{} MB, and {} MB of ten times",
        few / MEGABYTE,
        many / MEGABYTE
    );
}
