//! What every worker of every kind must stand, forth and back: its outcome forgotten and asked for
//! again, each of its effects refused. The workers are not listed here: whatever the facade hands
//! out is tried.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use rehome_core::clock::{Clock, SystemClock};
use rehome_core::engine::{Finish, Interrupt};
use rehome_core::progress::{Unwatched, Watcher};
use rehome_migration::{Config, Keys, RollbackOptions, RunOptions, rollback, run};
use rehome_tests::crash::Snapshot;
use rehome_tests::meddle::{Meddler, Meddling};
use rehome_tests::{Databases, Judge, Options, Stage};
use rusqlite::Connection;
use secrecy::SecretString;

/// The example's tables, and two that refer to each other and to themselves.
async fn stage(databases: Databases, seed: u64) -> Stage {
    let options =
        Options { users: 16, rows: 60, seed, databases, lot_users: 5, ..Options::default() };
    let stage = Stage::set(options).await;
    let (source, target) = stage.databases().unwrap();
    let circle =
        "CREATE TABLE teams (id INTEGER PRIMARY KEY, owner TEXT REFERENCES users(clerk_id),
                      above INTEGER REFERENCES teams(id), best INTEGER REFERENCES players(id));
                  CREATE TABLE players (id INTEGER PRIMARY KEY, team INTEGER NOT NULL
                      REFERENCES teams(id), plays TEXT REFERENCES users(clerk_id));";
    for path in [&source, &target] {
        Connection::open(path).unwrap().execute_batch(circle).unwrap();
    }
    for path in [Some(&source), databases.in_place().then_some(&target)].into_iter().flatten() {
        let rows = Connection::open(path).unwrap();
        rows.pragma_update(None, "foreign_keys", false).unwrap();
        for (number, (id, _)) in stage.people.iter().enumerate() {
            let above = (number > 0).then_some(number / 2);
            rows.execute("INSERT INTO players VALUES (?1, ?1, ?2)", (number, id)).unwrap();
            rows.execute("INSERT INTO teams VALUES (?1, ?2, ?3, ?1)", (number, id, above)).unwrap();
        }
    }
    stage.configure(|text| {
        text.replace(
            "[records.ids]\n",
            "[records.ids]\n\"teams.owner\" = \"user\"\n\"players.plays\" = \"user\"\n",
        )
    });
    stage
}

fn keys(stage: &Stage) -> Keys {
    let secrets = stage.secrets();
    let secret = |name: &str| SecretString::from(secrets[name].clone());
    Keys {
        source_clerk: Some(secret("SOURCE_KEY")),
        target_clerk: secret("TARGET_KEY"),
        source_database: None,
        target_database: None,
    }
}

fn surroundings() -> (Watcher, Interrupt, Arc<dyn Clock>) {
    (Arc::new(Unwatched), Interrupt::default(), Arc::new(SystemClock))
}

/// Goes forth under the meddler. How many units were left aside.
async fn forth(stage: &Stage, meddler: &Arc<Meddler>) -> u64 {
    let config = Config::load(&stage.config()).unwrap().with_wiring(meddler.clone());
    let (watcher, interrupt, clock) = surroundings();
    let keys = keys(stage);
    let end = run(&config, &keys, RunOptions::default(), watcher, &interrupt, clock).await.unwrap();
    assert_eq!(end.finish, Finish::Quiescent);
    stage.replay();
    end.aside
}

/// Goes back under the meddler. How many units are stuck.
async fn back(stage: &Stage, meddler: &Arc<Meddler>) -> u64 {
    let config = Config::load(&stage.config()).unwrap().with_wiring(meddler.clone());
    let (watcher, interrupt, clock) = surroundings();
    let options = RollbackOptions::default();
    let end = rollback(&config, &keys(stage), &options, &watcher, &interrupt, clock).await.unwrap();
    assert_eq!(end.finish, Finish::Quiescent);
    stage.replay();
    end.stuck
}

fn snapshot(stage: &Stage) -> Snapshot {
    Snapshot::take(&stage.target(), &stage.databases().unwrap().1)
}

fn assert_restored(stage: &Stage, before: &Snapshot, what: &str) {
    if let Some(differences) = snapshot(stage).differs(before) {
        panic!("{what}: the target is not what it was\n{differences}");
    }
}

/// Every worker with an effect, as a whole migration there and back shows them.
async fn workers(databases: Databases) -> (BTreeSet<String>, BTreeSet<String>) {
    let stage = stage(databases, 81).await;
    let before = snapshot(&stage);
    let (there, here) = (Meddler::new(Meddling::Watch), Meddler::new(Meddling::Watch));
    assert_eq!(forth(&stage, &there).await, 0);
    assert_eq!(back(&stage, &here).await, 0);
    assert_restored(&stage, &before, "watched only");
    let with_effects = |meddler: &Meddler| {
        let all = meddler.effects().into_iter();
        all.filter(|(_, effects)| *effects > 0).map(|(name, _)| name).collect::<BTreeSet<_>>()
    };
    let (there, here) = (with_effects(&there), with_effects(&here));
    let (forth, back) = if databases.in_place() {
        ("lot exported to imported", "lot back to exported")
    } else {
        ("span exported to imported", "span of teams back to exported")
    };
    assert!(there.contains("user exported to created") && there.contains(forth), "{there:?}");
    assert!(here.contains("user back to exported") && here.contains(back), "{here:?}");
    (there, here)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_effect_forgotten_happens_once_all_the_same() {
    forgotten(Databases::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_every_effect_forgotten_happens_once_all_the_same() {
    forgotten(Databases::InPlace).await;
}

async fn forgotten(databases: Databases) {
    let stage = stage(databases, 82).await;
    let before = snapshot(&stage);
    let meddler = Meddler::new(Meddling::Forget);
    assert_eq!(forth(&stage, &meddler).await, 0);
    let users = stage.people.len() as u64;
    assert_eq!(meddler.effects()["user exported to created"], users, "asked for once each");
    assert_eq!(stage.creates(), users);
    Judge::default().accepts(&stage).await;
    let effects = stage.effects();
    assert_eq!(forth(&stage, &Meddler::new(Meddling::Watch)).await, 0);
    assert_eq!(stage.effects(), effects, "a second run writes nothing");

    let meddler = Meddler::new(Meddling::Forget);
    assert_eq!(back(&stage, &meddler).await, 0);
    assert_eq!(meddler.effects()["user back to exported"], users, "asked for once each");
    assert_eq!(stage.target().counters().deletes, users);
    assert_restored(&stage, &before, "every outcome of the way back forgotten");
    let effects = stage.effects();
    assert_eq!(back(&stage, &Meddler::new(Meddling::Watch)).await, 0);
    assert_eq!(stage.effects(), effects, "a second rollback writes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_worker_refused_in_turn_leaves_a_world_that_can_be_cleaned() {
    refused(Databases::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_every_worker_refused_in_turn_leaves_a_world_that_can_be_cleaned() {
    refused(Databases::InPlace).await;
}

async fn refused(databases: Databases) {
    let (there, here) = workers(databases).await;
    for name in there {
        let stage = stage(databases, 83).await;
        let before = snapshot(&stage);
        let aside = forth(&stage, &Meddler::new(Meddling::Refuse(name.clone()))).await;
        assert!(aside > 0, "{name}: refusals are told");
        assert_eq!(back(&stage, &Meddler::new(Meddling::Watch)).await, 0, "{name}");
        assert_restored(&stage, &before, &name);
    }
    for name in here {
        let stage = stage(databases, 84).await;
        let before = snapshot(&stage);
        assert_eq!(forth(&stage, &Meddler::new(Meddling::Watch)).await, 0);
        let stuck = back(&stage, &Meddler::new(Meddling::Refuse(name.clone()))).await;
        assert!(stuck > 0, "{name}: what is refused is stuck");
        assert_eq!(back(&stage, &Meddler::new(Meddling::Watch)).await, 0, "{name}");
        assert_restored(&stage, &before, &name);
    }
}
