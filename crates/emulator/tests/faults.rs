//! Each kind of fault, as a real client meets it, and whether the effect
//! happened.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the client here is the test itself")]

mod common;

use std::time::Duration;

use common::{World, read};
use rehome_emulator::FaultPlan;
use rehome_emulator::fault::{BodyKind, Fault, RetryAfter, Rule, When};
use reqwest::{Method, Response};
use serde_json::{Value, json};

async fn create(world: &World, external_id: &str) -> reqwest::Result<Response> {
    let body = json!({
        "external_id": external_id,
        "email_address": [format!("{external_id}@example.com")],
        "public_metadata": { "filling": "x".repeat(4_000) },
    });
    world.request(Method::POST, "/v1/users").json(&body).send().await
}

/// A world in which the first create meets the fault.
async fn world(fault: Fault) -> World {
    let world = World::new().await;
    let rule = Rule::always(fault).on("POST", "/v1/users").at("target").times(1);
    world.emulator.set_faults(FaultPlan::of([rule]));
    world
}

fn effects(world: &World) -> u64 {
    world.target().counters().creates
}

#[tokio::test]
async fn a_reset_gives_no_answer_and_happens_before_or_after_the_effect() {
    for (when, expected) in [(When::Before, 0), (When::After, 1)] {
        let world = world(Fault::Reset { when }).await;
        let error = create(&world, "a").await.unwrap_err();
        assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");
        let text = format!("{error:?}");
        assert!(text.contains("reset") || text.contains("Incomplete"), "{text}");
        assert_eq!(effects(&world), expected);
        // The next request, on a new connection, is served.
        assert_eq!(create(&world, "b").await.unwrap().status(), 200);
        assert_eq!(effects(&world), expected + 1);
        assert_eq!(world.target().counters().faults["reset"], 1);
    }
}

#[tokio::test]
async fn a_truncated_answer_promises_more_than_it_brings() {
    let world = world(Fault::Truncate).await;
    let mut response = create(&world, "a").await.unwrap();
    assert_eq!(response.status(), 200);
    let promised = response.content_length().unwrap();
    let mut got = 0;
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => got += chunk.len() as u64,
            Ok(None) => panic!("the body ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert!(error.is_body() || error.is_decode() || error.is_request(), "{error:?}");
    assert!(got > 0 && got <= promised / 2 + 1, "{got} of {promised}");
    assert_eq!(effects(&world), 1);
}

#[tokio::test]
async fn an_injected_status_comes_before_or_after_the_effect() {
    for (when, expected) in [(When::Before, 0), (When::After, 1)] {
        let fault = Fault::Status { status: 502, body: BodyKind::Json, retry_after: None, when };
        let world = world(fault).await;
        let (status, body) = read(create(&world, "a").await.unwrap()).await;
        assert_eq!(status, 502);
        assert_eq!(common::errors(&body)[0].0, "internal_clerk_error");
        assert_eq!(effects(&world), expected);
    }
}

#[tokio::test]
async fn bodies_of_injected_statuses_may_be_html_or_nothing() {
    for (body, kind) in [(BodyKind::Html, Some("text/html")), (BodyKind::Empty, None)] {
        let fault = Fault::Status { status: 503, body, retry_after: None, when: When::Before };
        let world = world(fault).await;
        let response = create(&world, "a").await.unwrap();
        assert_eq!(response.status(), 503);
        let found = response.headers().get("content-type").map(|value| value.to_str().unwrap());
        assert_eq!(found, kind);
        assert_eq!(response.bytes().await.unwrap().is_empty(), kind.is_none());
    }
}

#[tokio::test]
async fn retry_after_comes_in_both_forms() {
    for (retry_after, expected) in [
        (RetryAfter::Seconds(3), "3"),
        // The emulator's clock starts at 1,800,000,000,000 ms.
        (RetryAfter::DateIn(3600), "Fri, 15 Jan 2027 09:"),
    ] {
        let fault = Fault::Status {
            status: 429,
            body: BodyKind::Json,
            retry_after: Some(retry_after),
            when: When::Before,
        };
        let world = world(fault).await;
        let response = create(&world, "a").await.unwrap();
        assert_eq!(response.status(), 429);
        let header = response.headers()["retry-after"].to_str().unwrap();
        assert!(header.starts_with(expected), "{header}");
    }
}

#[tokio::test]
async fn a_wrong_shape_is_json_that_is_no_user() {
    let world = world(Fault::WrongShape).await;
    let (status, body) = read(create(&world, "a").await.unwrap()).await;
    assert_eq!((status, body), (200, json!({ "unexpected": [true] })));
    assert_eq!(effects(&world), 1);
}

#[tokio::test]
async fn a_repeated_page_is_the_one_before() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d"] {
        create(&world, name).await.unwrap();
    }
    let rule = Rule::always(Fault::RepeatPage).on("GET", "/v1/users").skip(1).times(1);
    world.emulator.set_faults(FaultPlan::of([rule]));
    let first = world.ids("limit=2&offset=0&order_by=%2Bcreated_at").await;
    let repeated = world.ids("limit=2&offset=2&order_by=%2Bcreated_at").await;
    let second = world.ids("limit=2&offset=2&order_by=%2Bcreated_at").await;
    assert_eq!(first, repeated);
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_hang_lasts_until_the_client_gives_up() {
    for (when, expected) in [(When::Before, 0), (When::After, 1)] {
        let world = world(Fault::Hang { when }).await;
        let body = json!({ "external_id": "a", "email_address": ["a@example.com"] });
        let error = world
            .request(Method::POST, "/v1/users")
            .timeout(Duration::from_millis(300))
            .json(&body)
            .send()
            .await
            .unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(effects(&world), expected);
    }
}

#[tokio::test]
async fn a_delay_holds_the_answer_back() {
    let world = world(Fault::Delay { before_ms: 30, after_ms: 40 }).await;
    let start = std::time::Instant::now();
    assert_eq!(create(&world, "a").await.unwrap().status(), 200);
    assert!(start.elapsed() >= Duration::from_millis(70));
    assert_eq!(effects(&world), 1);
}

#[tokio::test]
async fn a_client_that_gives_up_during_a_delay_before_the_effect_causes_none() {
    let world = world(Fault::Delay { before_ms: 60_000, after_ms: 0 }).await;
    let body = json!({ "email_address": ["a@example.com"] });
    let sent = world.request(Method::POST, "/v1/users").timeout(Duration::from_millis(200));
    assert!(sent.json(&body).send().await.unwrap_err().is_timeout());
    assert_eq!(effects(&world), 0);
}

#[tokio::test]
async fn a_plan_meets_only_its_instance_and_can_be_changed_while_running() {
    let world = World::new().await;
    let control = format!("{}/__emulator/faults", world.emulator.clerk_url());
    let plan = json!({ "seed": 1, "rules": [{
        "instance": "source",
        "fault": { "kind": "status", "status": 500 },
    }]});
    let answer = world.client.put(&control).json(&plan).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(world.get("/v1/users").await.0, 200);
    let source = world.emulator.instance("source").unwrap();
    let url = format!("{}/v1/users", world.emulator.clerk_url());
    let ask = || world.client.get(&url).bearer_auth(source.secret_key()).send();
    assert_eq!(ask().await.unwrap().status(), 500);
    world.client.put(&control).json(&json!({})).send().await.unwrap();
    assert_eq!(ask().await.unwrap().status(), 200);
    let shown: Value = world.client.get(&control).send().await.unwrap().json().await.unwrap();
    assert_eq!(shown["rules"], json!([]));
}
