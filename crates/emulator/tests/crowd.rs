//! Faults that are other people, keys, clocks and lists that are behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the client here is the test itself")]

mod common;

use std::time::Duration;

use common::{World, errors, read};
use rehome_emulator::fault::{BodyKind, Fault, Rule, When};
use rehome_emulator::seed::SeedUser;
use rehome_emulator::{Cut, Emulator, EmulatorConfig, FaultPlan, InstanceConfig};
use reqwest::Method;
use serde_json::{Value, json};

fn body(address: &str) -> Value {
    json!({ "external_id": address, "email_address": [address] })
}

fn plan(rule: Rule) -> FaultPlan {
    FaultPlan { seed: 5, rules: vec![rule] }
}

#[tokio::test]
async fn a_rival_takes_the_address_right_before_a_create() {
    let world = World::new().await;
    world.emulator.set_faults(plan(Rule::always(Fault::Rival).times(1)));
    // A list is not what rivals wait for.
    assert_eq!(world.get("/v1/users").await.0, 200);
    assert_eq!(world.target().count(), 0);
    let (status, answer) = world.post("/v1/users", &body("a@example.com")).await;
    assert_eq!(status, 422);
    assert_eq!(errors(&answer)[0], ("form_identifier_exists".into(), "email_address".into()));
    let users = world.target().users();
    assert_eq!(users.len(), 1);
    assert_eq!((users[0].external_id.as_ref(), world.target().counters().creates), (None, 0));
}

#[tokio::test]
async fn people_come_go_and_change_between_pages() {
    let drifted = || async {
        let world = World::new().await;
        for number in 0..20 {
            let seed = SeedUser {
                created_at: Some(1_700_000_000_000 + number),
                ..SeedUser::with_email(format!("{number}@example.com"))
            };
            world.target().insert_seed(seed).unwrap();
        }
        let before = world.ids("limit=50").await;
        let drift = Fault::Drift { created: 2, deleted: 5, changed: 1 };
        world.emulator.set_faults(plan(Rule::always(drift).times(1)));
        let after = world.ids("limit=50").await;
        let gone: Vec<_> = before.iter().filter(|id| !after.contains(id)).cloned().collect();
        let came = after.iter().filter(|id| !before.contains(id)).count();
        let users = world.target().users();
        let changed = users.iter().filter(|user| user.first_name.is_some()).count();
        assert_eq!((gone.len(), came, changed), (5, 2, 1));
        assert_eq!(world.target().counters().deletes, 0, "nobody asked for it");
        gone
    };
    assert_eq!(drifted().await, drifted().await, "the same seed");
}

#[tokio::test]
async fn a_cursor_is_gone_and_a_code_is_refused_without_an_effect() {
    let world = World::new().await;
    let id = world.target().insert_seed(SeedUser::with_email("a@example.com")).unwrap();
    world.emulator.set_faults(plan(Rule::always(Fault::CursorGone).times(1)));
    assert_eq!(world.get("/v1/users?limit=1").await.0, 200);
    let after = format!("/v1/users?order_by=%2Bcreated_at&starting_after={id}");
    let (status, answer) = world.get(&after).await;
    assert_eq!((status, errors(&answer)[0].1.as_str()), (422, "starting_after"));
    assert_eq!(world.get(&after).await.0, 200);

    let refuse = Fault::Refuse { status: 409, code: "resource_locked".into(), param: None };
    world.emulator.set_faults(plan(Rule::always(refuse).times(1)));
    let (status, answer) = world.post("/v1/users", &body("b@example.com")).await;
    assert_eq!((status, errors(&answer)[0].0.as_str()), (409, "resource_locked"));
    assert_eq!(world.target().counters().creates, 0);
}

#[tokio::test]
async fn a_rotated_key_is_refused_in_clerks_words() {
    let world = World::new().await;
    let rotated =
        Fault::Status { status: 401, body: BodyKind::Json, retry_after: None, when: When::Before };
    world.emulator.set_faults(plan(Rule::always(rotated).skip(1)));
    assert_eq!(world.get("/v1/users").await.0, 200);
    let (status, answer) = world.get("/v1/users").await;
    assert_eq!((status, errors(&answer)[0].0.as_str()), (401, "clerk_key_invalid"));
}

#[tokio::test]
async fn a_slow_body_is_slower_than_a_patient_client() {
    let world = World::new().await;
    world.emulator.set_faults(plan(Rule::always(Fault::SlowBody { byte_ms: 50 }).times(1)));
    let sent = world.request(Method::POST, "/v1/users").timeout(Duration::from_millis(400));
    let response = sent.json(&body("a@example.com")).send().await.unwrap();
    assert!(response.bytes().await.unwrap_err().is_timeout());
    assert_eq!(world.target().counters().creates, 1);
}

#[tokio::test]
async fn readers_are_behind_writers_for_a_while() {
    let world = World::with(|settings| {
        settings.visibility_delay_ms = 60_000;
        settings.deletion_delay_ms = 60_000;
    })
    .await;
    let (status, created) = world.post("/v1/users", &body("a@example.com")).await;
    assert_eq!(status, 200);
    let id = created["id"].as_str().unwrap();
    let one = format!("/v1/users/{id}");
    let lists = [
        "limit=10".to_owned(),
        format!("user_id=%2B{id}"),
        "external_id=a%40example.com".to_owned(),
    ];
    for list in &lists {
        assert!(world.ids(list).await.is_empty(), "{list}");
    }
    assert_eq!(world.get(&one).await.0, 404);

    // The deletion itself knows what there is, and the lists go on showing it.
    let old = world.target().insert_seed(SeedUser::with_email("b@example.com")).unwrap();
    let gone = format!("/v1/users/{old}");
    assert_eq!(world.send(Method::DELETE, &gone, &json!({})).await.0, 200);
    assert_eq!(world.ids("limit=10").await, [old.as_str()]);
    assert_eq!(world.ids(&format!("user_id=%2B{old}")).await, [old.as_str()]);
    assert_eq!(world.get(&gone).await.0, 200);
    let (status, answer) = world.send(Method::DELETE, &gone, &json!({})).await;
    assert_eq!((status, errors(&answer)[0].0.as_str()), (404, "resource_not_found"));
    assert_eq!(world.target().counters().deletes_by_id[&old], 1);
}

#[tokio::test]
async fn an_account_is_used_and_edited_through_the_control_path() {
    let world = World::with(|settings| settings.clock_skew_ms = -90_000).await;
    let (_, created) = world.post("/v1/users", &body("a@example.com")).await;
    assert!(created["created_at"].as_i64().unwrap() < 1_800_000_000_000, "its clock is behind");
    assert!(created["last_active_at"].is_null());
    let id = created["id"].as_str().unwrap();
    let control = |rest: &str| {
        format!("{}/__emulator/users/{id}{rest}?instance=target", world.emulator.clerk_url())
    };
    let sent = world.client.post(control("/sign_in")).send().await.unwrap();
    assert_eq!(read(sent).await, (200, json!({ "changed": true })));
    let edit = json!({ "first_name": "Eve", "email_address": "eve@example.com" });
    let sent = world.client.patch(control("")).json(&edit).send().await.unwrap();
    assert_eq!(read(sent).await, (200, json!({ "changed": true })));
    let (_, user) = world.get(&format!("/v1/users/{id}")).await;
    assert!(user["last_sign_in_at"].is_i64() && user["last_active_at"].is_i64());
    assert_eq!(
        (&user["first_name"], user["email_addresses"].as_array().unwrap().len()),
        (&json!("Eve"), 2)
    );
    assert_eq!(world.target().counters().updates, 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_socket_every_fault_is_the_same() {
    let emulator = Emulator::embedded(EmulatorConfig {
        instances: vec![InstanceConfig::production("target")],
        epoch_ms: Some(1_800_000_000_000),
        ..EmulatorConfig::default()
    })
    .unwrap();
    let target = emulator.instance("target").unwrap();
    let create = |address: &str| {
        let sent = body(address).to_string();
        emulator.call("POST", "/v1/users", target.secret_key(), Some(sent.into()))
    };
    assert_eq!(create("a@example.com").await.unwrap().status(), 200);

    let always = |fault| FaultPlan::of([Rule::always(fault)]);
    emulator.set_faults(always(Fault::Reset { when: When::After }));
    assert_eq!(create("b@example.com").await.unwrap_err(), Cut::Reset);
    emulator.set_faults(always(Fault::Truncate));
    assert_eq!(create("c@example.com").await.unwrap_err(), Cut::Truncated);
    // A quarter of an hour of bytes, without waiting for them.
    emulator.set_faults(always(Fault::SlowBody { byte_ms: 1000 }));
    let started = tokio::time::Instant::now();
    let slow = create("d@example.com").await.unwrap();
    let length = slow.body().len() as u64;
    let elapsed = started.elapsed().as_secs();
    assert!((length..length + 2).contains(&elapsed), "{length} bytes in {elapsed} s");
    emulator.set_faults(always(Fault::Hang { when: When::After }));
    let hanging = create("e@example.com");
    assert!(tokio::time::timeout(Duration::from_secs(30), hanging).await.is_err());
    assert_eq!(target.counters().creates, 5);
    let last = target.user_by_external_id("e@example.com").unwrap();
    assert!(last.created_at >= 1_800_000_000_000 + 1000 * i64::try_from(length).unwrap());
}
