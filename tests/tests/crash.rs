//! Killed at every boundary there is, one after the other: everyone arrives once, a second run has
//! nothing to do, and a rollback leaves the target as it was, whichever of them was killed where.
//!
//! A failure prints its trial, which `REHOME_CRASH_TRIAL` repeats alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "a test"
)]

use std::collections::BTreeSet;

use rehome_tests::crash::{Act, Setting, Trial, boundaries, run_all, tell};
use rehome_tests::{Databases, binary, sample};

/// One life for every boundary that the last of `steps` reaches undisturbed, with a death there; and
/// then what `after` says. Gives how many boundaries there are; one in [`sample`]
/// of them is lived.
async fn enumerate(setting: impl Into<Setting>, steps: &[Act], after: &[Act]) -> u64 {
    let setting = setting.into();
    let (last, first) = steps.split_last().unwrap();
    let whole = |act: &Act| (*act, None);
    let all = boundaries(setting, steps).await;
    let trials = (1..=all).step_by(sample()).map(|at| Trial {
        setting,
        steps: (first.iter().map(whole))
            .chain([(*last, Some(at))])
            .chain(after.iter().map(whole))
            .collect(),
    });
    let lives = run_all(trials.collect()).await;
    let deaths = tell(&lives) as usize;
    assert!(deaths * 10 > lives.len() * 8, "only {deaths} of {} died", lives.len());
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(feature = "slow", ignore = "one of the everyday suites")]
async fn every_boundary_of_a_run() {
    assert!(enumerate(Databases::Sqlite, &[Act::Run], &[]).await > 140);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(feature = "slow", ignore = "one of the everyday suites")]
async fn every_boundary_of_a_run_that_is_then_taken_back() {
    assert!(enumerate(Databases::Sqlite, &[Act::Run], &[Act::Rollback]).await > 140);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(feature = "slow", ignore = "one of the everyday suites")]
async fn every_boundary_of_a_rollback() {
    assert!(enumerate(Databases::Sqlite, &[Act::Run, Act::Rollback], &[]).await > 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(feature = "slow", ignore = "one of the everyday suites")]
async fn every_boundary_of_a_run_in_place() {
    assert!(enumerate(Databases::InPlace, &[Act::Run], &[]).await > 110);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(feature = "slow", ignore = "one of the everyday suites")]
async fn every_boundary_of_a_rollback_in_place() {
    assert!(enumerate(Databases::InPlace, &[Act::Run, Act::Rollback], &[]).await > 60);
}

#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_boundary_in_place_over_d1() {
    assert!(enumerate(Databases::InPlaceD1, &[Act::Run], &[Act::Rollback]).await > 110);
    assert!(enumerate(Databases::InPlaceD1, &[Act::Run, Act::Rollback], &[]).await > 60);
}

/// Rows of both sides that have the same numbers are merged under new keys: nothing comes twice, no
/// reference is torn, nothing of the target's own changes.
#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_boundary_where_keys_move() {
    for databases in [Databases::Sqlite, Databases::D1] {
        let setting = Setting { databases, merged: true };
        assert!(enumerate(setting, &[Act::Run], &[]).await > 180);
        assert!(enumerate(setting, &[Act::Run, Act::Rollback], &[]).await > 100);
    }
}

/// What the source has changed since goes again, and is taken back like the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(feature = "slow", ignore = "one of the everyday suites")]
async fn every_boundary_of_a_run_that_catches_up() {
    let steps = [Act::Run, Act::Change, Act::Run];
    assert!(enumerate(Databases::Sqlite, &steps, &[]).await > 90);
}

#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_boundary_of_a_run_over_d1() {
    assert!(enumerate(Databases::D1, &[Act::Run], &[]).await > 200);
}

#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_boundary_of_a_rollback_over_d1() {
    assert!(enumerate(Databases::D1, &[Act::Run, Act::Rollback], &[]).await > 80);
}

/// Rows that go as files: those of a table together, each with a story of its own.
#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_boundary_of_a_run_that_imports_files() {
    assert!(enumerate(Databases::D1Files, &[Act::Run], &[Act::Rollback]).await > 170);
}

/// A second death during the recovery from the first: both drawn from a seed.
#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs() {
    const SEED: u64 = 20_261_123;
    const PAIRS: usize = 500;
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut trials = Vec::new();
    for databases in [Databases::Sqlite, Databases::D1] {
        let forth = boundaries(databases, &[Act::Run]).await;
        let back = boundaries(databases, &[Act::Run, Act::Rollback]).await;
        for number in 0..300 {
            use Act::{Rollback, Run};
            let (n, m) = (random.u64(1..=forth), random.u64(1..=back));
            // What a recovery has to do shrinks with what was done before.
            let left = |all: u64, done: u64| (all - done) / 2 + 12;
            let steps = match number % 4 {
                0 => vec![(Run, Some(n)), (Run, Some(random.u64(1..=left(forth, n))))],
                1 => {
                    let begun = back * n / forth / 2 + 12;
                    vec![(Run, Some(n)), (Rollback, Some(random.u64(1..=begun)))]
                }
                2 => {
                    let then = random.u64(1..=left(back, m));
                    vec![(Run, None), (Rollback, Some(m)), (Rollback, Some(then))]
                }
                _ => {
                    let then = random.u64(1..=forth * m / back / 2 + 12);
                    vec![(Run, None), (Rollback, Some(m)), (Run, Some(then))]
                }
            };
            trials.push(Trial { setting: databases.into(), steps });
        }
    }
    println!("seed {SEED}");
    let lives = run_all(trials).await;
    tell(&lives);
    let both = lives.iter().filter(|(_, ended)| ended.deaths.len() == 2).count();
    println!("{both} of {} died twice", lives.len());
    assert!(both >= PAIRS, "only {both} died twice");
}

/// What costs nothing is not there: the ordinary binary holds no boundary's name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_binary_cannot_be_told_to_die() {
    let undisturbed = Trial { setting: Databases::D1.into(), steps: vec![(Act::Run, None)] };
    let ended = undisturbed.live().await.unwrap_or_else(|wrong| panic!("{wrong}"));
    let reached: BTreeSet<_> = ended.reached.iter().flatten().map(String::as_str).collect();
    let mut names: Vec<_> = reached.into_iter().filter(|name| !name.contains(": ")).collect();
    names.extend(["not handed to the journal yet", "clerk: served, answer unread"]);
    names.extend(["REHOME_CRASH_AT", "REHOME_CRASH_COUNT", "REHOME_CRASH_HASTE"]);
    let holds = |file: &[u8], name: &str| file.windows(name.len()).any(|at| at == name.as_bytes());
    let (shipped, mortal) = (std::fs::read(binary::path()), std::fs::read(binary::mortal()));
    let (shipped, mortal) = (shipped.unwrap(), mortal.unwrap());
    for name in names {
        assert!(holds(&mortal, name), "`{name}` is not where it should be");
        assert!(!holds(&shipped, name), "the shipped binary knows `{name}`");
    }
}

/// The life that `REHOME_CRASH_TRIAL` names, as a failure prints it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn named() {
    let Ok(named) = std::env::var("REHOME_CRASH_TRIAL") else { return };
    let trial: Trial = named.parse().unwrap();
    for (trial, ended) in run_all(vec![trial]).await {
        println!("{trial}: died at {:?}, {} missed", ended.deaths, ended.missed);
        for (number, reached) in ended.reached.iter().enumerate() {
            println!("process {number}:");
            for (at, name) in (1..).zip(reached) {
                println!("{at:>5}  {name}");
            }
        }
    }
}
