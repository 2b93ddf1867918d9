//! Killed with SIGKILL again and again, at moments drawn from a seed: everyone arrives once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
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

/// The moments are accounts that come about, drawn from a seed over the whole migration, and a few
/// requests later; the last of them come when everyone has an account and rows are on their way.
#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_of_two_thousand_users() {
    const USERS: u64 = 2_000;
    const LATE: usize = 10;
    let kills = 200 / rehome_tests::sample();
    let options = Options {
        users: 2_000,
        rows: 4_000,
        seed: 13,
        // Some milliseconds for each account: what is killed at the tenth has not made fifty.
        rate_limit: Some("2000/10s"),
        ..Options::default()
    };
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut accounts: Vec<u64> = (0..kills - LATE).map(|_| random.u64(1..=USERS)).collect();
    accounts.sort_unstable();
    accounts.extend([USERS; LATE]);
    let stage = Stage::set(options).await;
    let mut met = Vec::new();
    for (number, wanted) in accounts.into_iter().enumerate() {
        let mut running = stage.start(&["run", "--yes", "--json"]);
        let reached = running.reaches(|| stage.creates() >= wanted).await;
        let moment = stage.requests() + random.u64(..8);
        let reached = reached && running.reaches(|| stage.requests() >= moment).await;
        let finished = running.kill().await;
        let killed = reached && finished.code().is_none();
        assert!(killed, "kill {number} at {wanted} came too late\n{}", finished.stderr);
        met.push(stage.creates());
        if number % 20 == 0 {
            stage.replay();
        }
    }
    // Not one long run between the first kills and the last ones.
    met.dedup();
    assert!(met.len() > kills / 2, "only {} different moments", met.len());
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    stage.replay();
    let effects = stage.effects();
    let _nothing_left = stage.run().await.expect(0);
    assert_eq!(stage.effects(), effects, "a run after completion changes nothing");
    println!("{kills} kills at {} different numbers of accounts", met.len());
}
