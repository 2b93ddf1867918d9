//! One database whose ids are rewritten where they stand: forth, back and forth again, while the
//! application answers, for users who cannot come, and with rows that come under old ids late.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "a test"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rehome_emulator::seed::SeedUser;
use rehome_tests::crash::Snapshot;
use rehome_tests::stage::ID_COLUMNS;
use rehome_tests::webhook::Handler;
use rehome_tests::{Databases, Judge, Options, Stage};
use rusqlite::Connection;
use serde_json::Value;
use tokio::process::Command;

async fn stage(databases: Databases, seed: u64) -> Stage {
    Stage::set(Options {
        users: 120,
        rows: 900,
        seed,
        databases,
        place: memory(),
        ..Options::default()
    })
    .await
}

/// A folder in memory, where the system has one: that commits are synced is tried elsewhere.
fn memory() -> Option<PathBuf> {
    let place = PathBuf::from("/dev/shm");
    place.is_dir().then_some(place)
}

fn snapshot(stage: &Stage) -> Snapshot {
    Snapshot::take(&stage.target(), &stage.databases().unwrap().1)
}

/// Forth, nothing more to do, back as it was, and forth once more.
async fn there_and_back(databases: Databases, seed: u64) {
    let stage = stage(databases, seed).await;
    let before = snapshot(&stage);
    let plan = stage.rehome(&["plan", "--json"]).await.expect(0).json();
    assert_eq!(plan["tables"]["users"]["rewrite"], 120, "{plan}");
    assert_eq!(snapshot(&stage).differs(&before), None, "a plan writes nothing");

    let _run = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    let _verified = stage.rehome(&["verify"]).await.expect(0);
    stage.replay();
    let effects = stage.effects();
    let _run = stage.run().await.expect(0);
    assert_eq!(stage.effects(), effects, "a second run writes nothing");

    let dry = stage.rehome(&["rollback", "--dry-run", "--json"]).await.expect(0).json();
    assert_eq!(dry["tables"]["users"]["rewrite"], 120, "{dry}");
    assert_eq!(stage.effects(), effects, "a dry run writes nothing");
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!(snapshot(&stage).differs(&before), None, "everything is as it was");
    stage.replay();

    let _run = stage.run().await.expect(0);
    Judge { uncounted: true, ..Judge::default() }.accepts(&stage).await;
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_rewritten_and_given_back() {
    there_and_back(Databases::InPlace, 61).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_d1_is_rewritten_and_given_back() {
    there_and_back(Databases::InPlaceD1, 62).await;
}

/// While the application's webhook makes a bare row for each new account, which stands where the
/// person's own row has to go; and takes rows of deleted accounts away.
async fn race(databases: Databases, seed: u64) {
    let stage = stage(databases, seed).await;
    let before = snapshot(&stage);
    let handler = Handler::start(&stage.emulator, &stage.databases().unwrap().1);
    let _complete = stage.run().await.expect(0);
    handler.settled().await;
    assert!(handler.rows() > 20, "only {} rows were there before", handler.rows());
    Judge::default().accepts(&stage).await;
    stage.replay();
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    handler.settled().await;
    assert_eq!(snapshot(&stage).differs(&before), None, "everything is as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_webhook_make_room_in_a_file() {
    race(Databases::InPlace, 63).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_webhook_make_room_in_a_d1() {
    race(Databases::InPlaceD1, 64).await;
}

/// Rows of those who cannot come keep their ids, are told of, and follow when they have come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_keeps_the_old_id_and_follows_later() {
    let refused = (0..7).map(|n| SeedUser::with_email(format!("someone{n}@blocked.example")));
    let options = Options {
        users: 60,
        rows: 400,
        seed: 65,
        databases: Databases::InPlace,
        lot_users: 20,
        source_people: refused.collect(),
        place: memory(),
        ..Options::default()
    };
    let stage = Stage::set(options).await;
    let before = snapshot(&stage);
    let blocked = vec!["@blocked.example".to_owned()];
    stage.target().configure(|settings| settings.refused_addresses = blocked);
    let _some_failed = stage.run().await.expect(3);
    let unmoved: Vec<_> = stage.people[60..].iter().map(|(id, _)| id.clone()).collect();
    Judge { unmoved, ..Judge::default() }.accepts(&stage).await;
    let status = stage.status().await;
    assert_eq!(status["units"]["lot"]["held"], 1, "only the lot with the refused: {status}");
    assert_eq!(status["units"]["lot"]["verified"], 3, "{status}");
    let effects = stage.effects();
    let _still_refused = stage.run().await.expect(3);
    assert_eq!(stage.effects(), effects);

    stage.target().configure(|settings| settings.refused_addresses.clear());
    let _put_back = stage.rehome(&["retry"]).await.expect(0);
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    assert_eq!(stage.status().await["complete"], true);
    stage.replay();
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!(snapshot(&stage).differs(&before), None, "everything is as it was");
}

/// The application writes old ids until it is switched: the next run finds and rewrites them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_ids_that_come_back_are_rewritten_by_the_next_run() {
    let stage = stage(Databases::InPlace, 66).await;
    let _complete = stage.run().await.expect(0);
    let database = Connection::open(stage.databases().unwrap().1).unwrap();
    let source = Connection::open(stage.databases().unwrap().0).unwrap();
    let late = "INSERT INTO events (id, kind, payload) VALUES (77001, 'late', ?1)";
    let id = &stage.people[7].0;
    let payload = format!("{{ \"actor\" : {{\"id\":\"{id}\"}}, \"n\": 1.50 }}");
    for connection in [&database, &source] {
        connection.execute(late, [&payload]).unwrap();
    }
    let verdict = stage.rehome(&["verify", "--json"]).await.expect(3).json();
    assert_eq!((&verdict["orphan_ids"], &verdict["different"]), (&1.into(), &1.into()));
    let _taken_up = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    let _verified = stage.rehome(&["verify"]).await.expect(0);
    stage.replay();
}

/// People with one address each, most of whom are in the target already.
fn crowd(count: usize) -> (Vec<SeedUser>, Vec<SeedUser>) {
    let one = |number: usize| SeedUser::with_email(format!("person{number}@crowd.example"));
    ((0..count).map(one).collect(), (0..count).filter(|n| n % 100 != 7).map(one).collect())
}

/// What the judge says of the database against what it was.
async fn judged(stage: &Stage, rewritten: bool) -> String {
    let (before, after) = stage.databases().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("judges/in_place.py");
    let mut command = Command::new("python3");
    command.arg(script).arg("--before").arg(before).arg("--after").arg(after);
    if rewritten {
        let accounts: HashMap<_, _> = stage
            .target()
            .users()
            .iter()
            .filter_map(|user| Some((user.email_addresses.first()?.value.clone(), user.id.clone())))
            .collect();
        let pair = |(id, address): &(String, Option<String>)| {
            Some((id.clone(), accounts.get(address.as_ref()?)?.clone().into()))
        };
        let pairs: serde_json::Map<_, _> = stage.people.iter().filter_map(pair).collect();
        let path = stage.folder().join("pairs.json");
        std::fs::write(&path, Value::Object(pairs).to_string()).unwrap();
        command.arg("--pairs").arg(path);
        for column in ID_COLUMNS {
            command.arg("--id").arg(column);
        }
    }
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    said
}

/// Lots of which the journal says that they are rewritten, or are not any more.
fn lots(stage: &Stage, condition: &str) -> u64 {
    let count = |journal: Connection| {
        let sql = format!("SELECT count(*) FROM unit WHERE kind = 'lot' AND {condition}");
        journal.query_row(&sql, [], |row| row.get(0)).ok()
    };
    let read_only = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    Connection::open_with_flags(stage.journal(), read_only).ok().and_then(count).unwrap_or(0)
}

/// So many kills while lots are rewritten, and as many while they are given back.
async fn killed(users: usize, rows: usize, lot_users: usize, kills: u64) {
    let (people, there) = crowd(users);
    let options = Options {
        users: 0,
        rows,
        seed: 67,
        databases: Databases::InPlace,
        lot_users,
        source_people: people,
        target_people: there,
        place: memory(),
        ..Options::default()
    };
    let begun = Instant::now();
    let stage = Stage::set(options).await;
    let accounts = || {
        let mut ids: Vec<_> = stage.target().users().iter().map(|user| user.id.clone()).collect();
        ids.sort();
        ids
    };
    let before = accounts();
    println!("{users} users and about {rows} rows stand after {:?}", begun.elapsed());
    let all = users.div_ceil(lot_users) as u64;
    for (arguments, condition) in [
        (["run", "--yes", "--json"], "stage >= 4"),
        (["rollback", "--yes", "--json"], "stage = 1 AND condition = 'rolled_back'"),
    ] {
        let begun = Instant::now();
        let mut landed = 0;
        for number in 0..kills {
            let wanted = all * number / (kills + 1);
            let mut running = stage.start(&arguments);
            let reached = running.reaches(|| lots(&stage, condition) > wanted).await;
            let finished = running.kill().await;
            landed += u64::from(reached && finished.code().is_none());
        }
        assert!(landed * 2 > kills, "only {landed} of {kills} kills met a running process");
        let _complete = stage.rehome(&arguments).await.expect(0);
        stage.replay();
        let said = judged(&stage, arguments[0] == "run").await;
        println!("{}, killed {landed} times: {:?}; {said}", arguments[0], begun.elapsed());
    }
    assert_eq!(accounts(), before, "the same accounts as before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_on_the_way_there_and_on_the_way_back() {
    killed(1_000, 10_000, 50, 3).await;
}

#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_users_and_a_million_rows_killed_ten_times() {
    let part = rehome_tests::sample();
    killed(100_000 / part, 1_000_000 / part, 5_000 / part, 10).await;
}
