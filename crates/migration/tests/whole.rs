//! Whole migrations through the facade, as a program that embeds rehome runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test stands outside the walls")]

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_clerk::http::Unusable;
use rehome_clerk::wire::{Exchange, Request, Wire};
use rehome_clerk::{Connection, HttpWire};
use rehome_core::clock::{Clock, SystemClock, TimerClock};
use rehome_core::engine::{Finish, Interrupt};
use rehome_core::progress::{Unwatched, Watcher};
use rehome_emulator::d1::verifieddit;
use rehome_emulator::seed::SeedUser;
use rehome_emulator::{Emulator, EmulatorConfig, InstanceConfig, seed};
use rehome_migration::document::{Finding, Severity, VerdictLine};
use rehome_migration::wiring::{End, Wiring};
use rehome_migration::{
    Config, Error, Keys, Observed, RollbackOptions, RunEnd, RunOptions, check, ledger, rollback,
    run,
};

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
        source_clerk: Some(key("source")),
        target_clerk: key("target"),
        source_database: None,
        target_database: None,
    };
    World { dir, emulator, config, keys }
}

async fn go(world: &World, options: RunOptions) -> Result<RunEnd, Error> {
    let watcher: Watcher = Arc::new(Unwatched);
    let clock = Arc::new(SystemClock);
    let interrupt = Interrupt::default();
    run(&world.config, &world.keys, options, watcher, &interrupt, clock).await
}

async fn observe(world: &World) -> Observed {
    Observed::connect(&world.config, &world.keys, Arc::new(SystemClock)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_signs_up_after_the_export_is_seen_and_taken_up_by_the_next_run() {
    let world = world(40, 200).await;
    assert!(go(&world, RunOptions::default()).await.unwrap().status.complete);
    let source = world.emulator.instance("source").unwrap();
    let late = SeedUser::with_email("late@example.com");
    let late = source.insert_seed(late).unwrap();

    let watcher: Watcher = Arc::new(Unwatched);
    let mut missing = Vec::new();
    let mut each = |line: VerdictLine| {
        if line.mark == '-' {
            missing.push(line.key);
        }
    };
    let verdict = observe(&world).await.verify(&watcher, &mut each).await.unwrap();
    assert!(!verdict.ok);
    assert_eq!(missing, [late]);

    let end = go(&world, RunOptions::default()).await.unwrap();
    assert!(end.status.complete, "{:#?}", end.status);
    assert_eq!(world.emulator.instance("target").unwrap().count(), 41);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undeclared_column_stops_the_first_run_before_it_writes() {
    let mut world = world(20, 100).await;
    world.config.records.as_mut().unwrap().ids.remove("events.payload:$.actor.id");
    let error = go(&world, RunOptions::default()).await.unwrap_err();
    let Error::Refused(findings) = error else { panic!("{error}") };
    assert_eq!(findings[0].code, "undeclared_ids");
    assert!(findings[0].message.contains("events.payload"), "{}", findings[0].message);
    assert!(!ledger::has_begun(&world.config).unwrap(), "and it can be corrected");
    assert_eq!(world.emulator.instance("target").unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pilot_is_judged_by_its_own_users_and_an_unknown_name_is_told() {
    let world = world(60, 300).await;
    let pilot = RunOptions { limit: Some(7), ..RunOptions::default() };
    let end = go(&world, pilot).await.unwrap();
    assert_eq!((end.aside, end.verdict.map(|verdict| verdict.ok)), (0, Some(true)));
    assert_eq!(end.status.units["user"].verified, 7);

    let typo = RunOptions { only: vec!["nobody@nowhere".into()], ..RunOptions::default() };
    let error = go(&world, typo).await.unwrap_err();
    assert!(matches!(error, Error::UnknownKey(_)), "{error}");

    assert!(go(&world, RunOptions::default()).await.unwrap().status.complete);
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

/// Says that the source has more users than any disk has room for.
#[derive(Debug)]
struct Crowded;

struct Boasting(Box<dyn Wire>);

impl Wiring for Crowded {
    fn clerk(&self, end: End, connection: &Connection) -> Result<Box<dyn Wire>, Unusable> {
        let wire: Box<dyn Wire> = Box::new(HttpWire::new(connection)?);
        Ok(match end {
            End::Source => Box::new(Boasting(wire)),
            End::Target => wire,
        })
    }
}

impl Wire for Boasting {
    fn exchange(&self, request: Request) -> BoxFuture<'_, Exchange> {
        let counting = request.path.starts_with("/users/count");
        Box::pin(async move {
            let mut exchange = self.0.exchange(request).await;
            if let (true, Exchange::Answered(answer)) = (counting, &mut exchange) {
                answer.body = r#"{"object":"total_count","total_count":1000000000000}"#.into();
            }
            exchange
        })
    }
}

/// A finding about a disk without how much is free, which others change at any time.
fn steady(finding: Finding) -> Finding {
    let (_, needed) = finding.message.split_once("MB free").unwrap();
    Finding { message: needed.to_owned(), ..finding }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_room_stops_a_run_in_the_words_of_the_check() {
    let mut world = world(20, 100).await;
    let ordinary = world.config.clone();
    for begun in [false, true] {
        world.config = ordinary.clone().with_wiring(Arc::new(Crowded));
        let checked = check(&world.config, &world.keys, Arc::new(SystemClock)).await;
        let said = checked.findings.into_iter().find(|finding| finding.code == "disk").unwrap();
        assert_eq!((checked.ok, said.severity), (false, Severity::Refused));
        let target = world.emulator.instance("target").unwrap();
        let creates = target.counters().creates;
        let error = go(&world, RunOptions::default()).await.unwrap_err();
        let Error::Refused(findings) = error else { panic!("{error}") };
        assert_eq!(findings.into_iter().map(steady).collect::<Vec<_>>(), [steady(said)], "{begun}");
        assert_eq!(target.counters().creates, creates);
        assert_eq!(ledger::has_begun(&world.config).unwrap(), begun);
        world.config = ordinary.clone();
        let pilot = RunOptions { limit: Some(5), ..RunOptions::default() };
        let _some = go(&world, pilot).await.unwrap();
    }
}

/// Rows of each table of the target, and what the status says of them.
fn there_and_told(world: &World) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let target = rusqlite::Connection::open(world.dir.path().join("target.sqlite")).unwrap();
    let status = ledger::status(&world.config, SystemClock.now()).unwrap();
    let count = |table: &String| {
        let sql = format!("SELECT count(*) FROM \"{table}\"");
        target.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    let there = status.tables.keys().map(|table| (table.clone(), count(table))).collect();
    let told = status.tables.into_iter().map(|(name, counts)| (name, counts.imported)).collect();
    (there, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_counts_the_rows_that_are_in_the_target() {
    let world = world(60, 300).await;
    let pilot = RunOptions { limit: Some(7), ..RunOptions::default() };
    let _part = go(&world, pilot).await.unwrap();
    let (there, told) = there_and_told(&world);
    assert!(there["badges"] > 0, "{there:?}");
    assert_eq!(told, there, "a pilot leaves spans of which a part is held");

    assert!(go(&world, RunOptions::default()).await.unwrap().status.complete);
    let (there, told) = there_and_told(&world);
    assert_eq!(told, there);

    let target = rusqlite::Connection::open(world.dir.path().join("target.sqlite")).unwrap();
    let changed = "UPDATE badges SET status = 'ours now' WHERE rowid IN
                   (SELECT rowid FROM badges LIMIT 3)";
    assert_eq!(target.execute(changed, []).unwrap(), 3);
    let watcher: Watcher = Arc::new(Unwatched);
    let (interrupt, clock) = (Interrupt::default(), Arc::new(SystemClock));
    let options = RollbackOptions::default();
    let _back =
        rollback(&world.config, &world.keys, &options, &watcher, &interrupt, clock).await.unwrap();
    let (there, told) = there_and_told(&world);
    assert_eq!(there["badges"], 3, "{there:?}");
    assert_eq!(told, there, "rows that stay are still there");
}

/// A run goes on whatever the clock says, and so says the check.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_behind_is_warned_of_and_stops_nobody() {
    let world = world(5, 10).await;
    assert!(go(&world, RunOptions::default()).await.unwrap().status.complete);
    let hours_ago = SystemClock.now().checked_sub(jiff::SignedDuration::from_hours(5)).unwrap();
    let behind: Arc<dyn Clock> = Arc::new(TimerClock::starting_at(hours_ago));
    let checked = check(&world.config, &world.keys, Arc::clone(&behind)).await;
    let clock = checked.findings.iter().find(|finding| finding.code == "clock").unwrap();
    assert_eq!(clock.severity, Severity::Warning, "{clock:?}");
    assert!(checked.ok && clock.message.contains("s behind the journal"), "{:?}", checked.findings);
    let (watcher, interrupt) = (Arc::new(Unwatched), Interrupt::default());
    let again = run(&world.config, &world.keys, RunOptions::default(), watcher, &interrupt, behind);
    assert!(again.await.unwrap().status.complete);
}
