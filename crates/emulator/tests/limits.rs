//! Rate limits, and the evidence of how fast a client was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the client here is the test itself")]

mod common;

use std::time::Duration;

use common::{World, errors};
use rehome_emulator::{RateLimit, WindowShape};
use reqwest::Method;
use serde_json::json;

fn limit(limit: u32, shape: WindowShape) -> RateLimit {
    RateLimit { limit, window_ms: 60_000, shape, count_refused: false }
}

#[tokio::test]
async fn past_the_limit_comes_429_with_the_seconds_to_wait() {
    for shape in [WindowShape::Fixed, WindowShape::Sliding] {
        let world = World::with(|settings| settings.rate_limit = Some(limit(3, shape))).await;
        for _ in 0..3 {
            assert_eq!(world.get("/v1/users").await.0, 200);
        }
        let refused = world.request(Method::GET, "/v1/users").send().await.unwrap();
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
        let (status, body) = common::read(refused).await;
        assert_eq!((status, errors(&body)[0].0.as_str()), (429, "too_many_requests"));
        // Nothing happens while refused.
        assert_eq!(world.post("/v1/users", &json!({ "username": "someone" })).await.0, 429);
        assert_eq!(world.target().counters().creates, 0);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(wait)).await;
        tokio::time::resume();
        assert_eq!(world.get("/v1/users").await.0, 200);
        let counters = world.target().counters();
        assert_eq!(counters.refused_429, 2);
        assert_eq!(counters.max_accepted_in_window, 3);
        assert_eq!(counters.max_in_window, 5);
        assert_eq!(counters.total(), 6);
    }
}

#[tokio::test]
async fn instances_have_limits_of_their_own() {
    let world = World::with(|s| s.rate_limit = Some(limit(1, WindowShape::Sliding))).await;
    assert_eq!(world.get("/v1/users").await.0, 200);
    assert_eq!(world.get("/v1/users").await.0, 429);
    let source = world.emulator.instance("source").unwrap();
    let url = format!("{}/v1/users", world.emulator.clerk_url());
    let answer = world.client.get(url).bearer_auth(source.secret_key()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn changes_of_one_user_have_a_limit_too() {
    let world = World::with(|s| s.user_rate_limit = Some(limit(1, WindowShape::Sliding))).await;
    let mut paths = Vec::new();
    for name in ["someone", "another"] {
        let (_, user) = world.post("/v1/users", &json!({ "username": name })).await;
        paths.push(format!("/v1/users/{}/metadata", user["id"].as_str().unwrap()));
    }
    let body = json!({ "public_metadata": { "a": 1 } });
    assert_eq!(world.send(Method::PATCH, &paths[0], &body).await.0, 200);
    assert_eq!(world.send(Method::PATCH, &paths[0], &body).await.0, 429);
    assert_eq!(world.send(Method::PATCH, &paths[1], &body).await.0, 200);
}

#[tokio::test]
async fn a_limit_may_hold_for_each_route_by_itself() {
    let world = World::with(|settings| {
        settings.rate_limit = Some(limit(1, WindowShape::Sliding));
        settings.rate_limit_per_route = true;
    })
    .await;
    assert_eq!(world.get("/v1/users").await.0, 200);
    assert_eq!(world.get("/v1/users").await.0, 429);
    assert_eq!(world.get("/v1/users/count").await.0, 200);
    assert_eq!(world.post("/v1/users", &json!({ "username": "someone" })).await.0, 200);
    assert_eq!(world.get("/v1/users/user_a").await.0, 404);
    assert_eq!(world.get("/v1/users/user_b").await.0, 429);
}
