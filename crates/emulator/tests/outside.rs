//! What surrounds the API: control path, tape, webhooks, effects, the start.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the client here is the test itself")]

mod common;

use std::sync::Arc;

use common::World;
use rehome_emulator::d1::{D1, DatabaseSpec};
use rehome_emulator::fault::{BodyKind, Fault, Rule, When};
use rehome_emulator::{Effect, Emulator, EmulatorConfig, Error, FaultPlan, InstanceConfig};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn the_control_path_shows_and_changes() {
    let world = World::new().await;
    let base = format!("{}/__emulator", world.emulator.clerk_url());
    let insert = world.client.post(format!("{base}/users?instance=source"));
    let seed = json!({ "email_addresses": [{ "value": "a@example.com", "status": "unverified" }] });
    let made: Value = insert.json(&seed).send().await.unwrap().json().await.unwrap();
    let id = made["id"].as_str().unwrap();
    let get = async |path: &str| -> Value {
        world.client.get(format!("{base}/{path}")).send().await.unwrap().json().await.unwrap()
    };
    let state = get("state").await;
    let user = &state["instances"]["source"]["users"][0];
    assert_eq!(user["id"], id);
    assert_eq!(user["email_addresses"][0]["verification"]["status"], "unverified");
    let change = world.client.put(format!("{base}/settings?instance=target"));
    let settings: Value = change
        .json(&json!({ "latency_ms": 1, "user_cap": 3 }))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((&settings["latency_ms"], &settings["ban_plan"]), (&json!(1), &json!(true)));
    assert_eq!(world.target().settings().user_cap, Some(3));
    let wrong = world.client.put(format!("{base}/settings?instance=target"));
    assert_eq!(wrong.json(&json!({ "laterncy": 1 })).send().await.unwrap().status(), 422);
    world.get("/v1/users").await;
    assert_eq!(get("counters").await["instances"]["target"]["requests"]["GET /v1/users"], 1);
    assert_eq!(get("requests").await["instances"]["target"]["max_in_window"], 1);
    let gone = world.client.delete(format!("{base}/users/{id}?instance=source"));
    assert_eq!(gone.send().await.unwrap().status(), 200);
    assert_eq!(world.emulator.instance("source").unwrap().count(), 0);
    let nowhere = world.client.get(format!("{base}/settings?instance=nowhere"));
    assert_eq!(nowhere.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn the_tape_holds_both_sides_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("tape.ndjson");
    let world = World::of(EmulatorConfig {
        instances: vec![InstanceConfig::production("target")],
        record: Some(tape.clone()),
        ..EmulatorConfig::default()
    })
    .await;
    let body = json!({ "username": "someone", "password": "correct horse" });
    world.post("/v1/users", &body).await;
    world.get("/v1/users?limit=1").await;
    let text = std::fs::read_to_string(&tape).unwrap();
    assert!(!text.contains(world.target().secret_key()) && !text.contains("correct horse"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["request_body"]["username"], "someone");
    assert_eq!(lines[0]["response_body"]["object"], "user");
    assert_eq!((&lines[1]["query"], &lines[1]["path"]), (&json!("limit=1"), &json!("/v1/users")));
    assert_eq!(lines[1]["instance"], "production");
    assert_eq!(lines[1]["content_type"], "application/json");
}

#[tokio::test]
async fn webhooks_and_effects_tell_of_creates_and_deletes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let world = World::with(|settings| settings.webhook_url = Some(url)).await;
    let mut effects = world.emulator.subscribe();
    let (_, user) = world.post("/v1/users", &json!({ "username": "someone" })).await;
    let id = user["id"].as_str().unwrap();
    let created = receive(&listener).await;
    assert_eq!((&created["type"], &created["data"]), (&json!("user.created"), &user));
    world.request(Method::DELETE, &format!("/v1/users/{id}")).send().await.unwrap();
    let deleted = receive(&listener).await;
    assert_eq!((&deleted["type"], &deleted["data"]["id"]), (&json!("user.deleted"), &json!(id)));
    assert!(matches!(effects.recv().await.unwrap(), Effect::Created { user, .. } if user.id == id));
    assert!(matches!(effects.recv().await.unwrap(), Effect::Deleted { user, .. } if user.id == id));
    assert_eq!(world.target().counters().deletes_by_id[id], 1);
}

/// One request, answered with 200.
async fn receive(listener: &tokio::net::TcpListener) -> Value {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut text = Vec::new();
    let body = loop {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0);
        text.extend_from_slice(&buffer[..n]);
        let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(text[..end].to_vec()).unwrap().to_lowercase();
        let length = head.split("content-length:").nth(1).unwrap().lines().next().unwrap();
        if text.len() >= end + 4 + length.trim().parse::<usize>().unwrap() {
            break text[end + 4..].to_vec();
        }
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn starts_that_cannot_be() {
    let twice = InstanceConfig::production("same");
    let config =
        EmulatorConfig { instances: vec![twice.clone(), twice], ..EmulatorConfig::default() };
    assert!(matches!(Emulator::start(config).await, Err(Error::SameKey { .. })));
    let first = Emulator::start(EmulatorConfig::default()).await.unwrap();
    let port = first.addr().port();
    let again = EmulatorConfig { port, ..EmulatorConfig::default() };
    assert!(matches!(Emulator::start(again.clone()).await, Err(Error::Bind { .. })));
    first.shutdown().await;
    Emulator::start(again).await.unwrap();
}

#[tokio::test]
async fn d1_is_served_beside_clerk_and_meets_the_same_faults() {
    let uuid = "11111111-2222-3333-4444-555555555555";
    let spec = DatabaseSpec { uuid: uuid.into(), name: "app".into(), path: None };
    let d1 = D1::new("account", "token", vec![spec]).unwrap();
    d1.execute_sql(uuid, "CREATE TABLE t (id INTEGER PRIMARY KEY)").unwrap();
    let world = World::of(EmulatorConfig {
        instances: vec![InstanceConfig::production("target")],
        d1: Some(Arc::new(d1)),
        ..EmulatorConfig::default()
    })
    .await;
    let url = format!("{}/accounts/account/d1/database/{uuid}/query", world.emulator.d1_url());
    let query = async |sql: &str| {
        let body = json!({ "sql": sql, "params": [] });
        world.client.post(&url).bearer_auth("token").json(&body).send().await
    };
    let count = async || -> Value {
        let answer = query("SELECT count(*) AS n FROM t").await.unwrap();
        let body: Value = answer.json().await.unwrap();
        body["result"][0]["results"][0]["n"].clone()
    };
    for (when, rows) in [(When::Before, 0), (When::After, 1)] {
        let rule = Rule::always(Fault::Reset { when }).at("d1").times(1);
        world.emulator.set_faults(FaultPlan::of([rule]));
        assert!(query("INSERT INTO t DEFAULT VALUES").await.is_err());
        assert_eq!(count().await, rows);
    }
    let status =
        Fault::Status { status: 503, body: BodyKind::Json, retry_after: None, when: When::Before };
    world.emulator.set_faults(FaultPlan::of([Rule::always(status).at("d1").times(1)]));
    // Rules for d1 leave Clerk alone.
    assert_eq!(world.get("/v1/users").await.0, 200);
    let refused = query("SELECT 1").await.unwrap();
    assert_eq!(refused.status(), 503);
    let body: Value = refused.json().await.unwrap();
    assert_eq!((&body["success"], &body["result"]), (&json!(false), &Value::Null));
    let counters = world.emulator.d1_counters();
    assert_eq!((counters.faults["reset"], counters.faults["status"]), (2, 1));
    let route = "POST /client/v4/accounts/account/d1/database/{id}/query";
    assert_eq!(counters.requests[route], 5);
}
