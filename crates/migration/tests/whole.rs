//! Whole migrations through the facade, as a program that embeds rehome runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test stands outside the walls")]

use std::sync::Arc;

use rehome_core::clock::SystemClock;
use rehome_core::engine::{Finish, Interrupt};
use rehome_core::progress::Unwatched;
use rehome_emulator::d1::verifieddit;
use rehome_emulator::{Emulator, EmulatorConfig, InstanceConfig, seed};
use rehome_migration::{Config, Keys, Observed, RunOptions, check, ledger, run};

struct World {
    dir: tempfile::TempDir,
    emulator: Emulator,
    config: Config,
    keys: Keys,
}

const RATE: &str = "rate_limit = \"1000000/1s\"\nrate_share = 1.0";

async fn world(users: usize, rows: usize) -> World {
    let dir = tempfile::tempdir().unwrap();
    let emulator = Emulator::start(EmulatorConfig {
        instances: vec![
            InstanceConfig::development("source"),
            InstanceConfig::production("target"),
        ],
        ..EmulatorConfig::default()
    })
    .await
    .unwrap();
    for name in ["source", "target"] {
        emulator.instance(name).unwrap().configure(|settings| settings.rate_limit = None);
    }
    let source = emulator.instance("source").unwrap();
    let ids: Vec<_> = seed::users(users, 7)
        .into_iter()
        .map(|user| {
            let email = user.email_addresses.first().map(|email| email.value.clone());
            (source.insert_seed(user).unwrap(), email)
        })
        .collect();
    let open = |name: &str| rusqlite::Connection::open(dir.path().join(name)).unwrap();
    verifieddit::fill(&open("source.sqlite"), &ids, rows, 3).unwrap();
    open("target.sqlite").execute_batch(verifieddit::schema()).unwrap();
    let url = emulator.clerk_url();
    let text = format!(
        r#"
[migration]
name = "whole"
[source.clerk]
secret_key = "env:A"
api_url = "{url}"
{RATE}
[target.clerk]
secret_key = "env:B"
api_url = "{url}"
{RATE}
[source.database]
kind = "sqlite"
path = "source.sqlite"
[target.database]
kind = "sqlite"
path = "target.sqlite"
[records.ids]
"users.clerk_id" = "user"
"events.payload:$.actor.id" = "user"
"#
    );
    let config = Config::parse(&dir.path().join("rehome.toml"), &text).unwrap();
    let key = |name: &str| emulator.instance(name).unwrap().secret_key().to_owned().into();
    let keys = Keys {
        source_clerk: key("source"),
        target_clerk: key("target"),
        source_database: None,
        target_database: None,
    };
    World { dir, emulator, config, keys }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_base_and_its_rows_arrive_and_a_second_run_writes_nothing() {
    let world = world(300, 2_000).await;
    let clock = Arc::new(SystemClock);
    let checked = check(&world.config, &world.keys, clock.clone()).await;
    assert!(checked.ok, "{checked:#?}");
    let observed = Observed::connect(&world.config, &world.keys, clock.clone()).await.unwrap();
    let watcher: rehome_core::progress::Watcher = Arc::new(Unwatched);
    let plan = observed.plan(&watcher).await.unwrap();
    assert_eq!((plan.users.total, plan.users.create), (300, 300), "{plan:#?}");
    assert!(plan.ok, "{plan:#?}");
    let options = RunOptions { plan: Some(plan), ..RunOptions::default() };
    let end = run(
        &world.config,
        &world.keys,
        options,
        Arc::clone(&watcher),
        &Interrupt::default(),
        clock.clone(),
    )
    .await
    .unwrap();
    assert_eq!(end.finish, Finish::Quiescent);
    assert!(end.status.complete, "{:#?}", end.status);
    assert!(end.verdict.as_ref().unwrap().ok, "{:#?}", end.verdict);
    let target = world.emulator.instance("target").unwrap();
    assert_eq!(target.count(), 300);
    let counters = target.counters();

    let again = run(
        &world.config,
        &world.keys,
        RunOptions::default(),
        Arc::clone(&watcher),
        &Interrupt::default(),
        clock.clone(),
    )
    .await
    .unwrap();
    assert!(again.status.complete);
    assert_eq!(target.counters().creates, counters.creates);

    let verdict = observed.verify(&watcher, &mut |_| {}).await.unwrap();
    assert!(verdict.ok, "{verdict:#?}");
    assert_eq!(verdict.users.equal, 300);
    let mut pairs = 0;
    ledger::map(&world.config, &mut |_| pairs += 1).unwrap();
    assert_eq!(pairs, 300);
    let shown = ledger::show(&world.config, &again.status.migration);
    assert!(shown.is_err());
    let scratch = world.dir.path().join("scratch");
    rehome_core::journal::check_replay(&world.config.journal_path(), &scratch).unwrap();
}
