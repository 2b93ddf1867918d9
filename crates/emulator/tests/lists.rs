//! Pages, cursors, filters and the count.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the client here is the test itself")]

mod common;

use std::time::Duration;

use common::{World, errors};
use rehome_emulator::{Cursor, seed};
use reqwest::Method;

async fn populated(n: usize) -> World {
    let world = World::new().await;
    for user in seed::users(n, 9) {
        world.target().insert_seed(user).unwrap();
    }
    world
}

fn all(world: &World) -> Vec<String> {
    world.target().users().iter().map(|user| user.id.clone()).collect()
}

async fn walk(world: &World, limit: usize) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    loop {
        let after = seen.last().map(|id| format!("&starting_after={id}")).unwrap_or_default();
        let page = world.ids(&format!("order_by=%2Bcreated_at&limit={limit}{after}")).await;
        let end = page.len() < limit;
        seen.extend(page);
        if end {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_cursor_walks_everyone_once_though_many_share_a_moment() {
    let world = populated(500).await;
    assert_eq!(walk(&world, 33).await, all(&world));
    let mut newest = world.ids("limit=500").await;
    newest.reverse();
    assert_eq!(newest, all(&world));
}

#[tokio::test]
async fn the_place_of_a_deleted_user_stays_a_cursor() {
    let world = populated(50).await;
    let everyone = all(&world);
    let path = format!("/v1/users/{}", everyone[19]);
    let gone = world.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(gone.status(), 200);
    let query = format!("order_by=created_at&limit=500&starting_after={}", everyone[19]);
    assert_eq!(world.ids(&query).await, everyone[20..]);
    let down = format!("limit=500&starting_after={}", everyone[19]);
    let mut before = world.ids(&down).await;
    before.reverse();
    assert_eq!(before, everyone[..19]);
    world.target().configure(|settings| settings.cursor = Cursor::DeletedRefused);
    assert_eq!(world.get(&format!("/v1/users?{query}")).await.0, 422);
    world.target().configure(|settings| settings.cursor = Cursor::Refused);
    let (status, body) = world.get(&format!("/v1/users?starting_after={}", everyone[1])).await;
    assert_eq!(status, 422);
    assert_eq!(errors(&body), [("form_param_unknown".to_owned(), "starting_after".to_owned())]);
}

#[tokio::test]
async fn wrong_parameters_are_refused() {
    let world = populated(3).await;
    let id = &all(&world)[0];
    for query in [
        "limit=0",
        "limit=501",
        "limit=ten",
        "offset=-1",
        "order_by=shoe_size",
        "order_by=+created_at",
        "nonsense=1",
        "banned=maybe",
        "created_at_after=yesterday",
        "limit=1&limit=2",
        "provider=google",
        "starting_after=user_nobody",
        &format!("starting_after={id}&offset=1"),
        &format!("starting_after={id}&order_by=username"),
        &"email_address=a&".repeat(101),
    ] {
        assert_eq!(world.get(&format!("/v1/users?{query}")).await.0, 422, "{query}");
    }
    for query in ["limit=500&offset=0", "order_by=-username", &"email_address=a&".repeat(100)] {
        assert_eq!(world.get(&format!("/v1/users?{query}")).await.0, 200, "{query}");
    }
}

#[tokio::test]
async fn signs_and_spaces_of_external_ids() {
    let world = World::new().await;
    for external_id in ["-abc", "abc", "+x", " y"] {
        let body = serde_json::json!({
            "username": format!("name{}", external_id.len() + external_id.as_bytes()[0] as usize * 10),
            "external_id": external_id,
        });
        assert_eq!(world.post("/v1/users", &body).await.0, 200);
    }
    let found = |query: &'static str| {
        let world = &world;
        async move {
            let mut found: Vec<String> = Vec::new();
            for id in world.ids(query).await {
                found.push(world.target().user(&id).unwrap().external_id.clone().unwrap());
            }
            found.sort();
            found
        }
    };
    assert_eq!(found("external_id=%2Babc").await, ["abc"]);
    assert_eq!(found("external_id=%2B-abc").await, ["-abc"]);
    assert_eq!(found("external_id=-abc").await, [" y", "+x", "-abc"]);
    assert_eq!(found("external_id=%2B%2Bx").await, ["+x"]);
    // A raw plus sign arrives as a space.
    assert_eq!(found("external_id=+y").await, [" y"]);
}

#[tokio::test]
async fn the_count_takes_the_filters_and_no_page() {
    let world = populated(100).await;
    let banned = world.target().users().iter().filter(|user| user.banned).count();
    let (status, body) = world.get("/v1/users/count?banned=true").await;
    assert_eq!((status, &body["total_count"]), (200, &serde_json::json!(banned)));
    assert_eq!(body["object"], "total_count");
    assert_eq!(world.get("/v1/users/count?limit=1").await.0, 422);
}

#[tokio::test]
async fn a_new_user_may_stay_unfound_for_a_while() {
    let world = World::with(|settings| settings.visibility_delay_ms = 60_000).await;
    let body = serde_json::json!({ "external_id": "x", "email_address": ["a@example.com"] });
    let (_, user) = world.post("/v1/users", &body).await;
    assert_eq!(world.ids("external_id=%2Bx").await.len(), 0);
    assert_eq!(world.get("/v1/users/count").await.1["total_count"], 0);
    // It exists all the same.
    assert_eq!(world.post("/v1/users", &body).await.0, 422);
    let path = format!("/v1/users/{}", user["id"].as_str().unwrap());
    assert_eq!(world.get(&path).await.0, 404, "nor by its id");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert_eq!(world.ids("external_id=%2Bx").await.len(), 1);
    assert_eq!(world.get(&path).await.0, 200);
}

#[tokio::test]
async fn a_hundred_thousand_are_no_burden() {
    let world = World::new().await;
    for user in seed::users(100_000, 2) {
        world.target().insert_seed(user).unwrap();
    }
    let everyone = all(&world);
    assert_eq!(everyone.len(), 100_000);
    let last = &everyone[99_998];
    let query = format!("order_by=created_at&limit=500&starting_after={last}");
    assert_eq!(world.ids(&query).await, everyone[99_999..]);
    let page = world.ids("order_by=created_at&limit=500&offset=99000").await;
    assert_eq!(page, everyone[99_000..99_500]);
}
