//! The way back: the target is again what it was, whatever was in it, whenever it is killed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rehome_core::clock::SystemClock;
use rehome_core::journal::{Change, Journal, Writing};
use rehome_emulator::FaultPlan;
use rehome_emulator::d1::verifieddit;
use rehome_emulator::fault::{BodyKind, Fault, Rule, When};
use rehome_emulator::seed::{self, SeedUser, Status};
use rehome_tests::{Databases, Options, Stage};
use rusqlite::Connection;
use serde_json::{Value, json};

/// Addresses of people of the source who are in the target before.
fn adopted(options: &Options, count: usize) -> Vec<SeedUser> {
    seed::users(options.users, options.seed)
        .into_iter()
        .filter_map(|person| person.email_addresses.into_iter().next())
        .filter(|address| address.status == Status::Verified)
        .map(|address| SeedUser::with_email(address.value.to_uppercase()))
        .take(count)
        .collect()
}

/// People and rows of the application's own in the target, besides `adopting` people of the source.
async fn inhabited(mut options: Options, own: usize, rows: usize, adopting: usize) -> Stage {
    let (seed, owners) = (options.seed, own - adopting);
    options.target_people = adopted(&options, adopting);
    assert_eq!(options.target_people.len(), adopting);
    let names = (0..owners).map(|n| SeedUser::with_email(format!("own{n}@application.example")));
    options.target_people.extend(names);
    let stage = Stage::set(options).await;
    let Some((_, target)) = stage.databases() else { return stage };
    let people: Vec<_> = stage
        .target()
        .users()
        .iter()
        .filter_map(|user| {
            let address = user.email_addresses.first()?.value.clone();
            address.starts_with("own").then(|| (user.id.clone(), Some(address)))
        })
        .collect();
    assert_eq!(people.len(), owners);
    // Made in a file of their own, because the same rows have the same keys everywhere.
    let made = stage.folder().join("own.sqlite");
    verifieddit::fill(&Connection::open(&made).unwrap(), &people, rows, seed + 1000).unwrap();
    let connection = Connection::open(&target).unwrap();
    let made = made.to_string_lossy();
    connection.execute("ATTACH ?1 AS own", [made]).unwrap();
    connection
        .execute_batch(
            "PRAGMA foreign_keys = OFF;
             UPDATE own.badge_images SET badge_id = 'own-' || badge_id, id = 'own-' || id;
             UPDATE own.badges SET id = 'own-' || id;
             UPDATE own.events SET id = id + 5000000;
             UPDATE own.counters SET id = id + 5000000;
             INSERT INTO main.users SELECT * FROM own.users;
             INSERT INTO main.badges SELECT * FROM own.badges;
             INSERT INTO main.badge_images SELECT * FROM own.badge_images;
             INSERT INTO main.events SELECT * FROM own.events;
             INSERT INTO main.counters SELECT * FROM own.counters;",
        )
        .unwrap();
    stage
}

/// The target as it was, kept for the judge.
struct Before {
    state: PathBuf,
    database: Option<PathBuf>,
}

async fn keep(stage: &Stage, name: &str) -> Before {
    let state = stage.folder().join(format!("{name}.json"));
    std::fs::write(&state, stage.control("state").await.to_string()).unwrap();
    let database = stage.databases().map(|(_, target)| {
        let copy = stage.folder().join(format!("{name}.sqlite"));
        copy_database(&target, &copy);
        copy
    });
    Before { state, database }
}

fn copy_database(from: &Path, to: &Path) {
    let to = to.to_string_lossy();
    Connection::open(from).unwrap().execute("VACUUM INTO ?1", [to]).unwrap();
}

/// Asks the program that shares no code with rehome.
async fn restored(stage: &Stage, before: &Before, name: &str) -> Result<String, String> {
    let now = keep(stage, name).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("judges/restored.py");
    let mut command = tokio::process::Command::new("python3");
    command.arg(script).arg("--before").arg(&before.state).arg("--after").arg(&now.state);
    if let (Some(before), Some(now)) = (&before.database, &now.database) {
        command.arg("--database-before").arg(before).arg("--database-after").arg(now);
    }
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(said) } else { Err(said) }
}

fn created(stage: &Stage) -> Vec<String> {
    let own = |address: &str| address.starts_with("own");
    let users = stage.target().users();
    let ours = users.iter().filter(|user| user.external_id.is_some());
    ours.filter(|user| user.email_addresses.first().is_none_or(|one| !own(&one.value)))
        .map(|user| user.id.clone())
        .collect()
}

async fn there_and_back(databases: Databases) {
    let options = Options { users: 120, rows: 600, seed: 71, databases, ..Options::default() };
    let stage = inhabited(options, 25, 120, 5).await;
    let before = keep(&stage, "was").await;
    let _complete = stage.run().await.expect(0);
    assert_eq!(stage.target().count(), 140);
    assert!(restored(&stage, &before, "between").await.is_err(), "the judge can say no");

    let effects = stage.effects();
    let plan = stage.rehome(&["rollback", "--dry-run", "--json"]).await.expect(0).json();
    assert_eq!(stage.effects(), effects, "a dry run changes nothing");
    assert_eq!(
        plan["users"],
        json!({"delete": 115, "keep": 5, "gone": 0, "refused": 0, "forced": 0})
    );
    assert_eq!(plan["refusals"], json!([]));
    let _needs_consent = stage.rehome(&["rollback"]).await.expect(2);

    let _back = stage.rehome(&["rollback", "--yes", "--json"]).await.expect(0);
    stage.replay();
    restored(&stage, &before, "back").await.unwrap();
    let status = stage.status().await;
    assert_eq!(status["units"]["user"]["rolled_back"], 120, "{status}");
    let effects = stage.effects();
    let nothing_left = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    assert_eq!(nothing_left.stdout, "nothing is left to take back to `exported`\n");
    assert_eq!(stage.effects(), effects, "nothing is left to take back");

    // And forth again, with everything in its place.
    let _complete = stage.run().await.expect(0);
    assert_eq!(stage.target().count(), 140);
    let verified = stage.rehome(&["verify", "--json"]).await.expect(0).json();
    assert_eq!((&verified["missing"], &verified["different"]), (&json!(0), &json!(0)));
    stage.replay();
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    restored(&stage, &before, "again").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_between_files() {
    there_and_back(Databases::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_between_databases_of_d1() {
    there_and_back(Databases::D1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_uses_stays_until_its_number_is_named() {
    let options = Options { users: 60, rows: 300, seed: 72, ..Options::default() };
    let stage = inhabited(options, 6, 30, 2).await;
    let before = keep(&stage, "was").await;
    let _complete = stage.run().await.expect(0);
    let ours = created(&stage);
    assert_eq!(ours.len(), 58);
    assert!(stage.target().sign_in(&ours[3]));
    assert!(stage.target().change_user(&ours[8], |user| user.first_name = Some("Zed".into())));

    let plan = stage.rehome(&["rollback", "--dry-run", "--json"]).await.expect(3).json();
    assert_eq!(plan["users"]["refused"], 2, "{plan}");
    let codes: Vec<&Value> = plan["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|refusal| refusal["what"] == "user")
        .map(|refusal| &refusal["code"])
        .collect();
    assert_eq!(codes, [&json!("account_used"), &json!("account_changed")]);

    let _stuck = stage.rehome(&["rollback", "--yes"]).await.expect(3);
    let left = created(&stage);
    assert_eq!(left, [ours[3].clone(), ours[8].clone()], "those two, and nobody else");
    let status = stage.status().await;
    assert_eq!(status["units"]["user"]["stuck"], 2, "{status}");
    // Their rows stayed with them.
    let (_, target) = stage.databases().unwrap();
    let rows: u64 = Connection::open(&target)
        .unwrap()
        .query_row(
            "SELECT count(*) FROM users WHERE clerk_id IN (?1, ?2)",
            [&left[0], &left[1]],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(rows, 2);
    let failures = stage.rehome(&["failures", "--json"]).await.expect(0).stdout;
    assert!(failures.contains("account_used") && failures.contains("first_name"), "{failures}");

    let wrong = stage.rehome(&["rollback", "--yes", "--force", "5"]).await.expect(4);
    assert!(wrong.stderr.contains("--force 2"), "{}", wrong.stderr);
    assert_eq!(created(&stage).len(), 2, "a wrong number deletes nothing");
    let _forced = stage.rehome(&["rollback", "--yes", "--force", "2"]).await.expect(0);
    restored(&stage, &before, "back").await.unwrap();
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_goes_back_and_forth_again() {
    let options = Options { users: 60, rows: 300, seed: 73, ..Options::default() };
    let stage = inhabited(options, 6, 30, 2).await;
    let before = keep(&stage, "was").await;
    let _complete = stage.run().await.expect(0);
    let whole = keep(&stage, "whole").await;

    let _rows_only = stage.rehome(&["rollback", "--to", "mapped", "--yes"]).await.expect(0);
    assert_eq!(created(&stage).len(), 58, "the accounts stay");
    let status = stage.status().await;
    assert_eq!(status["units"]["user"]["mapped"], 60, "{status}");
    let _complete = stage.run().await.expect(0);
    restored(&stage, &whole, "again").await.unwrap();

    let one = stage.people[7].0.clone();
    let _one = stage.rehome(&["rollback", "--yes", "--only", &one]).await.expect(0);
    assert_eq!(created(&stage).len(), 57, "one account less");
    let unknown = stage.rehome(&["rollback", "--yes", "--only", "nobody@x.org"]).await.expect(2);
    assert!(unknown.stderr.contains("nobody@x.org"));
    let _complete = stage.run().await.expect(0);
    assert_eq!(created(&stage).len(), 58);
    let verified = stage.rehome(&["verify", "--json"]).await.expect(0).json();
    assert_eq!((&verified["missing"], &verified["different"]), (&json!(0), &json!(0)));
    stage.replay();
    let _back = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    restored(&stage, &before, "back").await.unwrap();
}

/// Kills a rollback so often, then lets it finish.
async fn survive(options: Options, (own, rows, adopting): (usize, usize, usize), kills: u32) {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let stage = inhabited(options, own, rows, adopting).await;
    let before = keep(&stage, "was").await;
    let _complete = stage.run().await.expect(0);
    let deletes = stage.target().count() - own;
    let stride = (deletes as u64 * 2 / u64::from(kills)).max(2);
    let mut landed = 0;
    for _ in 0..kills {
        let moment = stage.requests() + 1 + random.u64(..stride);
        let mut running = stage.start(&["rollback", "--yes", "--json"]);
        let reached = running.reaches(|| stage.requests() >= moment).await;
        let finished = running.kill().await;
        stage.replay();
        if finished.code().is_none() {
            landed += 1;
        } else if !reached {
            let _complete = finished.expect(0);
            break;
        }
    }
    assert!(landed * 2 > kills, "only {landed} of {kills} kills met a running process");
    let _back = stage.rehome(&["rollback", "--yes", "--json"]).await.expect(0);
    restored(&stage, &before, "back").await.unwrap();
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_kills_on_the_way_back() {
    let options =
        Options { users: 120, rows: 500, seed: 74, databases: Databases::D1, ..Options::default() };
    survive(options, (20, 80, 4), 3).await;
}

#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_five_hundred_users_back_out_of_an_inhabited_target_killed_ten_times() {
    let options = Options { users: 3_500, rows: 20_000, seed: 75, ..Options::default() };
    survive(options, (500, 2_000, 50), 10).await;
}

#[cfg(feature = "slow")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_five_hundred_users_back_out_of_an_inhabited_d1_killed_ten_times() {
    let databases = Databases::D1;
    let options = Options { users: 3_500, rows: 20_000, seed: 76, databases, ..Options::default() };
    survive(options, (500, 2_000, 50), 10).await;
}

/// A whole run into an emulated D1, and what the application wrote there afterwards.
async fn run_and_written_to_since() -> (Stage, Before, String) {
    let databases = Databases::D1;
    let options = Options { users: 120, rows: 600, seed: 77, databases, ..Options::default() };
    let stage = inhabited(options, 25, 120, 5).await;
    let before = keep(&stage, "was").await;
    let _complete = stage.run().await.expect(0);
    let (_, target) = stage.databases().unwrap();
    let application = Connection::open(&target).unwrap();
    application
        .execute_batch(
            "CREATE TABLE visits (id INTEGER PRIMARY KEY);
             INSERT INTO visits VALUES (1);
             UPDATE badges SET status = 'changed since';",
        )
        .unwrap();
    let plan = stage.rehome(&["rollback", "--dry-run", "--restore-bookmark", "--json"]).await;
    let restore = plan.expect(0).json()["restore"].take();
    assert_eq!(restore["database"], "target-db");
    assert!(restore["taken_at"].as_str().unwrap().starts_with("20"), "{restore}");
    (stage, before, restore["bookmark"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_a_last_resort_the_whole_database_is_restored() {
    let (stage, before, bookmark) = run_and_written_to_since().await;
    let restore = "--restore-bookmark";
    let effects = stage.effects();
    let page = stage.rehome(&["rollback", "--dry-run", restore]).await.expect(0).everything();
    assert!(page.contains(&bookmark) && page.contains("is lost"), "{page}");
    let _nobody_can_be_asked = stage.rehome(&["rollback", restore]).await.expect(2);
    let _unseen = stage.rehome(&["rollback", "--yes", restore]).await.expect(2);
    let _another = stage.rehome(&["rollback", "--yes", restore, "00000001"]).await.expect(4);
    let to = ["rollback", "--yes", restore, &bookmark, "--to", "imported"];
    let _a_part_only = stage.rehome(&to).await.expect(2);
    assert_eq!(stage.effects(), effects, "nothing was written so far");

    let _back = stage.rehome(&["rollback", "--yes", "--json", restore, &bookmark]).await.expect(0);
    stage.replay();
    restored(&stage, &before, "back").await.unwrap();
    let status = stage.status().await;
    assert_eq!(status["units"]["user"]["rolled_back"], 120, "{status}");
    let again = stage.rehome(&["rollback", "--yes", "--json", restore, &bookmark]).await;
    let _nothing_left = again.expect(0);
    restored(&stage, &before, "still").await.unwrap();

    // And forth again, from a bookmark of its own.
    let _complete = stage.run().await.expect(0);
    let verified = stage.rehome(&["verify", "--json"]).await.expect(0).json();
    assert_eq!((&verified["missing"], &verified["different"]), (&json!(0), &json!(0)));
    let old = stage.rehome(&["rollback", "--yes", restore, &bookmark]).await;
    let _not_that_one_any_more = old.expect(4);
    let _row_by_row = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    restored(&stage, &before, "again").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_of_which_nobody_heard_is_asked_for_again_before_anything_else() {
    let (stage, before, bookmark) = run_and_written_to_since().await;
    let back = ["rollback", "--yes", "--restore-bookmark", &bookmark];
    for when in [When::Before, When::After] {
        let lost = Rule::always(Fault::Reset { when }).at("d1").on("POST", "*/time_travel/restore");
        stage.emulator.set_faults(FaultPlan { seed: 1, rules: vec![lost] });
        let _unknown = stage.rehome(&back).await.expect(5);
        for other in [["run", "--yes"], ["rollback", "--yes"]] {
            let _waits = stage.rehome(&other).await.expect(5);
        }
    }
    stage.emulator.clear_faults();
    let _back = stage.rehome(&back).await.expect(0);
    stage.replay();
    restored(&stage, &before, "back").await.unwrap();
    let refused =
        Fault::Status { status: 400, body: BodyKind::Json, retry_after: None, when: When::Before };
    let _complete = stage.run().await.expect(0);
    let plan = stage.rehome(&["rollback", "--dry-run", "--restore-bookmark", "--json"]).await;
    let bookmark = plan.expect(0).json()["restore"]["bookmark"].as_str().unwrap().to_owned();
    let no = Rule::always(refused).at("d1").on("POST", "*/time_travel/restore");
    stage.emulator.set_faults(FaultPlan { seed: 1, rules: vec![no] });
    let back = ["rollback", "--yes", "--restore-bookmark", &bookmark];
    let _refused = stage.rehome(&back).await.expect(4);
    // Nothing happened, so everything else goes on.
    let _row_by_row = stage.rehome(&["rollback", "--yes"]).await.expect(0);
    restored(&stage, &before, "at last").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_was_cut_off_is_settled_by_whatever_comes_next() {
    let (stage, _, bookmark) = run_and_written_to_since().await;
    // As if the process had died when it had journaled the answer, and nothing more.
    let account = "0123456789abcdef0123456789abcdef";
    let database = "22222222-2222-4222-8222-222222222222";
    let d1 = stage.emulator.d1_url();
    let path = format!("{d1}/accounts/{account}/d1/database/{database}/time_travel/restore");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{path}?bookmark={bookmark}"));
    let answer = request.bearer_auth(&stage.secrets()["D1_TOKEN"]).send().await.unwrap();
    assert!(answer.status().is_success());
    let journal =
        Journal::open_existing_with(&stage.journal(), Arc::new(SystemClock), Writing::Thread);
    let journal = journal.unwrap();
    let taken = "2026-01-01T00:00:00Z";
    let detail = json!({ "state": "restored", "bookmark": bookmark, "taken": taken });
    journal.submit(vec![Change::Note { event: "bookmark", detail }]).await.unwrap();
    drop(journal);

    let _forth = stage.run().await.expect(0);
    stage.replay();
    let verified = stage.rehome(&["verify", "--json"]).await.expect(0).json();
    assert_eq!((&verified["missing"], &verified["different"]), (&json!(0), &json!(0)));
    assert!(verified["tables"]["badges"]["equal"].as_u64().unwrap() > 0, "{verified}");
}
