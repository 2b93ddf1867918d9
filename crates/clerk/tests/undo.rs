//! The way back for accounts, through the real engine and journal.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{World, code, reader, unit, units};
use futures::future::BoxFuture;
use rehome_clerk::undo::{Attached, Attachment, Standing, Tie, Unattached, judge};
use rehome_clerk::{USER, UserPolicy};
use rehome_core::engine::Finish;
use rehome_core::{Condition, Done, Halt, Origin, Outcome, RemoteTrouble, Stage, Unit, journal};
use rehome_emulator::FaultPlan;
use rehome_emulator::fault::{BodyKind, Fault, RetryAfter, Rule, When};
use rehome_emulator::seed::{self, SeedIdentifier, SeedUser};
use serde_json::{Value, json};

fn policy() -> UserPolicy {
    UserPolicy::default()
}

fn user(address: &str) -> SeedUser {
    SeedUser { created_at: Some(1_600_000_000_123), ..SeedUser::with_email(address) }
}

fn nothing() -> Arc<dyn Attached> {
    Arc::new(Unattached)
}

fn status(status: u16, body: BodyKind, retry_after: Option<RetryAfter>, when: When) -> Fault {
    Fault::Status { status, body, retry_after, when }
}

async fn back(world: &World, path: &Path) -> Finish {
    world.run_back(path, |delete| delete, nothing()).await.unwrap()
}

/// How the target looks to a judge that knows nothing of rehome: every user, whole.
fn picture(world: &World) -> BTreeMap<String, Value> {
    world.target().users().iter().map(|user| (user.id.clone(), json!(**user))).collect()
}

fn replays(path: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    journal::check_replay(path, &scratch.path().join("replayed")).unwrap();
}

/// Some users, moved; one of them is adopted. Gives where the journal is.
async fn moved(world: &World, count: usize) -> (tempfile::TempDir, std::path::PathBuf) {
    for user in seed::users(count, 7) {
        world.source().insert_seed(user).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    assert_eq!(world.run(&path, policy()).await.unwrap(), Finish::Quiescent);
    (dir, path)
}

#[tokio::test]
async fn every_created_account_goes_once_whatever_the_network_does_and_nobody_elses() {
    let world = World::start().await;
    for number in 0..20 {
        world.target().insert_seed(user(&format!("resident{number}@x.org"))).unwrap();
    }
    for number in 0..5 {
        world.source().insert_seed(user(&format!("Resident{number}@x.org"))).unwrap();
    }
    let before = picture(&world);
    let (_dir, path) = moved(&world, 200).await;
    assert_eq!(world.target().count(), 220);
    let adopted = units(&path).iter().filter(|u| u.origin == Some(Origin::Adopted)).count();
    assert_eq!(adopted, 5);

    world.target().configure(|settings| settings.deletion_delay_ms = 100);
    let after = |fault: Fault| Rule::always(fault).with_probability(0.04);
    world.emulator.set_faults(FaultPlan {
        seed: 23,
        rules: vec![
            after(Fault::Reset { when: When::After }),
            after(Fault::Reset { when: When::Before }),
            after(Fault::Truncate),
            after(Fault::WrongShape),
            after(Fault::RepeatPage),
            after(status(502, BodyKind::Html, None, When::After)),
            after(status(500, BodyKind::Json, None, When::Before)),
            after(status(503, BodyKind::Empty, None, When::After)),
            after(Fault::Refuse { status: 409, code: "resource_locked".into(), param: None })
                .on("DELETE", "/v1/users/*"),
            after(status(429, BodyKind::Json, Some(RetryAfter::Seconds(0)), When::Before)),
        ],
    });
    assert_eq!(back(&world, &path).await, Finish::Quiescent);
    let counters = world.target().counters();
    assert!(counters.faults.len() >= 6, "{:?}", counters.faults);
    assert_eq!((counters.deletes, counters.deletes_by_id.len()), (200, 200));
    assert_eq!(picture(&world), before);
    for unit in units(&path) {
        assert_eq!(
            (unit.state.stage, unit.state.condition),
            (Stage::Exported, Condition::RolledBack)
        );
        assert_eq!((&unit.target_key, unit.origin), (&None, None), "{unit:?}");
    }
    replays(&path);

    // A second time there is nothing to do, and forth again everybody gets an account again.
    world.emulator.clear_faults();
    world.target().reset_counters();
    assert_eq!(back(&world, &path).await, Finish::Quiescent);
    assert_eq!(world.target().counters().writes_requested(), 0);
    world.run(&path, policy()).await.unwrap();
    assert_eq!(world.target().counters().creates, 200);
    assert!(units(&path).iter().all(|unit| unit.state.stage == Stage::Mapped));
    back(&world, &path).await;
    assert_eq!(picture(&world), before);
    replays(&path);
}

#[tokio::test]
async fn used_and_changed_accounts_are_left_to_a_person_and_told_with_the_difference() {
    let world = World::start().await;
    let (_dir, path) = moved(&world, 12).await;
    let all = units(&path);
    let target = world.target();
    let id = |n: usize| all[n].target_key.clone().unwrap();
    let now = target.now_ms();
    assert!(target.sign_in(&id(0)));
    assert!(target.change_user(&id(1), |user| user.last_active_at = Some(now + 600_000)));
    assert!(target.change_user(&id(2), |user| user.first_name = Some("Eve".into())));
    assert!(target.change_user(&id(3), |user| user.password_enabled = true));
    assert!(target.change_user(&id(4), |user| {
        user.private_metadata.insert("plan".into(), json!("gold"));
    }));
    assert!(target.change_user(&id(5), |user| user.has_image = true));
    assert!(target.remove_user(&id(6)));
    // Its own creation is nobody's use.
    assert!(target.change_user(&id(7), |user| user.last_active_at = Some(now)));

    let judged = judge(&reader(&world.target), &all, &policy()).await.unwrap();
    let said = |n: usize| match &judged[n].standing {
        Standing::Used(failure) | Standing::Changed(failure) => {
            (failure.code.as_str(), failure.message.as_str())
        }
        other => panic!("{n}: {other:?}"),
    };
    for (n, wanted, part) in [
        (0, "account_used", "last signed in 20"),
        (1, "account_used", "last active 20"),
        (2, "account_changed", "is \"Eve\""),
        (3, "account_changed", "password_enabled was false, is true"),
        (4, "account_changed", "private_metadata differs in plan"),
        (5, "account_changed", "has_image"),
    ] {
        let (code, message) = said(n);
        assert_eq!(code, wanted, "{message}");
        assert!(message.contains(part) && message.contains(&id(n)), "{message}");
        assert!(!message.contains("gold"), "{message}");
        assert!(
            judged[n].standing.objection().unwrap().hint.as_ref().unwrap().contains("--force N")
        );
    }
    assert_eq!(judged[6].standing, Standing::Gone);
    for one in judged.iter().skip(7) {
        assert_eq!(one.standing, Standing::AsLeft);
    }
    target.reset_counters();
    assert_eq!(back(&world, &path).await, Finish::Quiescent);
    assert_eq!(target.counters().deletes, 5);
    for (n, was) in all.iter().enumerate().take(6) {
        let now = unit(&path, &was.source_key);
        assert_eq!(now.state.condition, Condition::Stuck);
        assert_eq!(code(&now), said(n).0);
        assert_eq!(now.target_key, was.target_key, "a stuck user keeps its account");
    }

    // Forced: those that were agreed to, and no other.
    let stuck: BTreeSet<_> = all.iter().take(6).map(|unit| unit.id).collect();
    retry(&path, &stuck.iter().copied().collect::<Vec<_>>()).await;
    let forced: Vec<_> = stuck.iter().copied().take(5).collect();
    world.run_back(&path, |delete| delete.forcing(forced), nothing()).await.unwrap();
    assert_eq!(target.count(), 1);
    assert_eq!(unit(&path, &all[5].source_key).state.condition, Condition::Stuck);
    replays(&path);
}

/// Puts units back as a person would.
async fn retry(path: &Path, ids: &[rehome_core::UnitId]) {
    let clock = Arc::new(rehome_core::clock::SystemClock);
    let setup = journal::Setup { name: "test".into(), ..journal::Setup::default() };
    let journal = journal::Journal::open(path, &setup, clock).unwrap();
    let changes = ids.iter().map(|unit| journal::Change::Step {
        unit: *unit,
        event: rehome_core::Event::Retried,
        detail: journal::Detail::default(),
    });
    journal.submit(changes.collect()).await.unwrap();
}

#[tokio::test]
async fn an_account_that_no_list_shows_yet_is_not_taken_for_gone() {
    let world = World::start().await;
    let one = world.source().insert_seed(user("a@x.org")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    // The look-ups after the creation end the run, so that the user stands at `created`.
    let gone = status(401, BodyKind::Json, None, When::Before);
    world.emulator.set_faults(FaultPlan::of([Rule::always(gone)
        .on("GET", "/v1/users")
        .at("target")
        .skip(2)]));
    world.target().configure(|settings| settings.visibility_delay_ms = 250);
    world.run(&path, policy()).await.unwrap_err();
    assert_eq!(unit(&path, &one).state.stage, Stage::Created);
    world.emulator.clear_faults();
    back(&world, &path).await;
    assert_eq!((world.target().count(), world.target().counters().deletes), (0, 1));
}

#[tokio::test]
async fn a_rotated_key_ends_the_run_and_the_next_one_goes_on() {
    let world = World::start().await;
    let (_dir, path) = moved(&world, 30).await;
    let rotated = status(401, BodyKind::Json, None, When::Before);
    let rule = Rule::always(rotated).on("DELETE", "/v1/users/*").skip(10);
    world.emulator.set_faults(FaultPlan::of([rule]));
    let halt = world.run_back(&path, |delete| delete, nothing()).await.unwrap_err();
    let Halt::Remote { trouble, .. } = halt else { panic!("{halt}") };
    assert_eq!(trouble, RemoteTrouble::Authentication);
    world.emulator.clear_faults();
    back(&world, &path).await;
    assert_eq!((world.target().count(), world.target().counters().deletes), (0, 30));
}

#[tokio::test]
async fn what_clerk_refuses_to_delete_is_stuck_in_its_words() {
    let world = World::start().await;
    let (_dir, path) = moved(&world, 2).await;
    let managed = Fault::Refuse { status: 409, code: "user_managed_by_scim".into(), param: None };
    let rule = Rule::always(managed).on("DELETE", "/v1/users/*").times(1);
    world.emulator.set_faults(FaultPlan::of([rule]));
    back(&world, &path).await;
    let stuck: Vec<_> =
        units(&path).into_iter().filter(|u| u.state.condition == Condition::Stuck).collect();
    assert_eq!((stuck.len(), code(&stuck[0])), (1, "user_managed_by_scim"));
    assert_eq!(world.target().count(), 1);
}

/// A database in memory: rows that mention accounts.
#[derive(Default)]
struct Rows {
    rows: Mutex<Vec<Attachment>>,
    /// How `clear` ends, before what it does.
    ends: Mutex<Vec<Outcome>>,
}

impl Rows {
    fn count(&self) -> usize {
        self.rows.lock().unwrap().len()
    }
}

impl Attached for Rows {
    fn look<'a>(&'a self, accounts: &'a [String]) -> BoxFuture<'a, Result<Vec<Attachment>, Halt>> {
        let rows = self.rows.lock().unwrap();
        let found = rows.iter().filter(|row| accounts.contains(&row.account)).cloned().collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn clear<'a>(&'a self, gone: &'a [Attachment]) -> BoxFuture<'a, Outcome> {
        let end = self.ends.lock().unwrap().pop();
        if !matches!(end, Some(Outcome::NotSent { .. } | Outcome::Rejected(_))) {
            self.rows.lock().unwrap().retain(|row| !gone.contains(row));
        }
        Box::pin(std::future::ready(end.unwrap_or(Outcome::Done(Done::default()))))
    }
}

fn row(unit: &Unit, table: &str, tie: Tie) -> Attachment {
    let account = unit.target_key.clone().unwrap();
    let content = if tie == Tie::Echo { json!({"clerk_id": account, "n": 1}) } else { Value::Null };
    Attachment { key: format!("{table}-{account}"), account, table: table.into(), tie, content }
}

#[tokio::test]
async fn rows_of_the_webhook_go_first_and_any_other_row_keeps_an_account_alive() {
    let world = World::start().await;
    let (_dir, path) = moved(&world, 4).await;
    let all = units(&path);
    let rows = Arc::new(Rows::default());
    rows.rows.lock().unwrap().extend([
        row(&all[0], "users", Tie::Echo),
        row(&all[1], "users", Tie::Echo),
        row(&all[1], "badges", Tie::Own),
        row(&all[2], "users", Tie::Echo),
    ]);
    // The last is answered first: an answer that was lost although the rows went, a throttle.
    let unknown = Outcome::Unknown { reason: "lost".into() };
    let later = Outcome::NotSent { reason: "busy".into(), retry_after: None, halt: None };
    rows.ends.lock().unwrap().extend([unknown, later]);
    world.run_back(&path, |delete| delete, rows.clone()).await.unwrap();

    assert_eq!((rows.count(), world.target().count()), (2, 1));
    let stuck = unit(&path, &all[1].source_key);
    assert_eq!((code(&stuck), stuck.state.condition), ("rows_remain", Condition::Stuck));
    assert!(stuck.failure.as_ref().unwrap().message.contains("badges badges-user_"));
    let intents = undo_intents(&path);
    let kept = |n: usize| {
        let id = all[n].target_key.as_deref().unwrap();
        intents
            .iter()
            .any(|intent| intent["account"] == id && intent["rows"][0]["content"]["n"] == 1)
    };
    assert!(kept(0) && kept(2), "{intents:?}");
    replays(&path);
}

/// What the log keeps of the undos' intents.
fn undo_intents(path: &Path) -> Vec<Value> {
    let reader = journal::Reader::open(path).unwrap();
    let mut intents = Vec::new();
    for unit in units(path) {
        for entry in reader.history(unit.id).unwrap() {
            if entry.event == "undo_intended" {
                intents.extend(entry.detail.data);
            }
        }
    }
    intents
}

#[tokio::test]
async fn a_judgement_costs_a_request_for_a_hundred_accounts() {
    let world = World::start().await;
    let (_dir, path) = moved(&world, 150).await;
    world.target().reset_counters();
    let judged = judge(&reader(&world.target), &units(&path), &policy()).await.unwrap();
    assert!(judged.iter().all(|one| one.standing == Standing::AsLeft), "{judged:?}");
    assert_eq!(world.target().counters().requests, BTreeMap::from([("GET /v1/users".into(), 2)]));
    assert_eq!(USER.as_str(), "user");
}

#[tokio::test]
async fn what_was_left_out_and_came_later_is_a_change() {
    let world = World::start().await;
    let mut one = user("a@x.org");
    one.phone_numbers = vec![SeedIdentifier::verified("+12125550100")];
    let one = world.source().insert_seed(one).unwrap();
    world.target().configure(|settings| {
        settings.attributes.retain(|one| *one != rehome_emulator::Attribute::PhoneNumber);
        settings.active_at_creation = true;
    });
    let without = [rehome_clerk::Attribute::PhoneNumber].into();
    let policy = UserPolicy { without, ..policy() };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    world.run(&path, policy.clone()).await.unwrap();
    let left = unit(&path, &one);
    let standing = async || {
        let units = std::slice::from_ref(&left);
        let mut judged = judge(&reader(&world.target), units, &policy).await.unwrap();
        judged.remove(0).standing
    };
    assert_eq!(standing().await, Standing::AsLeft);
    let id = left.target_key.clone().unwrap();
    world.target().change_user(&id, |user| {
        let mut phone = user.email_addresses[0].clone();
        phone.id = "idn_phone".into();
        phone.value = "+12125550100".into();
        user.phone_numbers = vec![phone];
    });
    let Standing::Changed(failure) = standing().await else { panic!() };
    assert!(failure.message.contains("phone_numbers"), "{}", failure.message);
}
