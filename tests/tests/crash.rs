//! Killed at every boundary there is, one after the other: everyone arrives once, and a second run
//! has nothing to do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "a test"
)]

use std::collections::BTreeSet;

use rehome_tests::crash::{Act, Deaths, Trial, run_all};
use rehome_tests::{Databases, binary};

/// Counts the boundaries of an undisturbed life, then lives one for each of them, with a death there.
async fn enumerate(databases: Databases) {
    let undisturbed = Trial { databases, steps: vec![(Act::Run, None)] };
    let ended = undisturbed.live().await.unwrap_or_else(|wrong| panic!("{wrong}"));
    let boundaries = ended.reached[0].len() as u64;
    let trials = (1..=boundaries).map(|at| Trial { databases, steps: vec![(Act::Run, Some(at))] });
    let begun = std::time::Instant::now();
    let lives = run_all(trials.collect()).await;
    let took = begun.elapsed();
    let mut deaths = Deaths::new();
    let mut missed = 0;
    for (_, ended) in &lives {
        missed += ended.missed;
        for name in &ended.deaths {
            *deaths.entry(name.clone()).or_default() += 1;
        }
    }
    let count = lives.len();
    println!("{databases:?}: {count} lives in {took:?}, {missed} done before their death");
    for (name, times) in &deaths {
        println!("{times:>5}  {name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_boundary_between_files() {
    enumerate(Databases::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_boundary_between_databases_of_d1() {
    enumerate(Databases::D1).await;
}

/// What costs nothing is not there: the ordinary binary holds no boundary's name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_binary_cannot_be_told_to_die() {
    let undisturbed = Trial { databases: Databases::D1, steps: vec![(Act::Run, None)] };
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
