//! Killed with SIGKILL again and again, at moments drawn from a seed: everyone arrives once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_tests::{Databases, Judge, Options, Stage};

/// Runs and kills so often, each time after up to `stride` more requests, then lets it finish.
async fn survive(options: Options, kills: u32, stride: u64) {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let stage = Stage::set(options).await;
    let mut landed = 0;
    for _ in 0..kills {
        let moment = stage.requests() + 1 + random.u64(..stride);
        let mut running = stage.start(&["run", "--yes", "--json"]);
        let reached = running.reaches(|| stage.requests() >= moment).await;
        let finished = running.kill().await;
        stage.replay();
        if finished.code().is_none() {
            landed += 1;
        } else if !reached {
            // Done before the moment came: nothing is left to be killed.
            let _complete = finished.expect(0);
            break;
        }
    }
    assert!(landed * 2 > kills, "only {landed} of {kills} kills met a running process");
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    stage.replay();
    let effects = stage.effects();
    let _nothing_left = stage.run().await.expect(0);
    assert_eq!(stage.effects(), effects, "a run after completion changes nothing");
}

/// How many requests a run needs before it can move anybody: who the instances are, and where the
/// source goes on.
#[cfg(feature = "slow")]
const BEGINNING: u64 = 4;

/// How many requests the whole job makes on this stage, when nobody kills it.
async fn requests(options: &Options) -> u64 {
    let stage = Stage::set(options.clone()).await;
    let _complete = stage.run().await.expect(0);
    stage.requests()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_kills() {
    let options =
        Options { users: 150, rows: 800, seed: 11, databases: Databases::D1, ..Options::default() };
    let stride = requests(&options).await * 2 / 4;
    survive(options, 4, stride).await;
}

#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_over_d1() {
    let options = Options { seed: 12, databases: Databases::D1, ..Options::default() };
    let stride = requests(&options).await * 2 / 20;
    survive(options, 20, stride).await;
}

/// Each kill comes after some more requests than it takes to start, so that the two hundred are
/// spread over the whole migration.
#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_of_two_thousand_users() {
    const KILLS: u64 = 200;
    let options = Options { users: 2_000, rows: 4_000, seed: 13, ..Options::default() };
    let whole = requests(&options).await;
    let mut random = fastrand::Rng::with_seed(options.seed);
    let stage = Stage::set(options).await;
    let start = stage.requests();
    let (mut landed, mut to_begin) = (0, 0);
    while landed < KILLS {
        let begun = stage.requests();
        // What is left, shared among the kills that are left: always something for the next.
        let left = whole.saturating_sub(begun - start - to_begin) / (KILLS - landed + 1);
        let moment = begun + BEGINNING + 1 + random.u64(..left.max(1) * 2);
        let mut running = stage.start(&["run", "--yes", "--json"]);
        let _reached = running.reaches(|| stage.requests() >= moment).await;
        let finished = running.kill().await;
        assert_eq!(finished.code(), None, "kill {landed} came too late\n{}", finished.stderr);
        to_begin += BEGINNING;
        landed += 1;
        if landed % 20 == 0 {
            stage.replay();
        }
    }
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    stage.replay();
    let effects = stage.effects();
    let _nothing_left = stage.run().await.expect(0);
    assert_eq!(stage.effects(), effects, "a run after completion changes nothing");
}
