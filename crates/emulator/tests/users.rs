//! What `POST`, `PATCH` and `DELETE` of users do and refuse.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the client here is the test itself")]

mod common;

use common::{World, errors};
use rehome_emulator::Attribute;
use rehome_emulator::seed::{SeedIdentifier, SeedUser, Status};
use reqwest::Method;
use serde_json::{Value, json};

fn one(code: &str, param: &str) -> Vec<(String, String)> {
    vec![(code.to_owned(), param.to_owned())]
}

#[tokio::test]
async fn a_create_answers_what_a_read_answers() {
    let world = World::new().await;
    let body = json!({
        "external_id": "x", "first_name": "Ада", "email_address": ["a@example.com", "b@example.com"],
        "email_address_identification_status": ["verified", "reserved"],
        "created_at": "2020-01-01T00:00:00.123Z", "legal_accepted_at": "2020-01-01T01:00:00+01:00",
    });
    let (status, user) = world.post("/v1/users", &body).await;
    assert_eq!(status, 200, "{user}");
    assert_eq!(user["created_at"], 1_577_836_800_123_i64);
    assert_eq!(user["legal_accepted_at"], 1_577_836_800_000_i64);
    assert!(user["updated_at"].as_i64().unwrap() >= 1_800_000_000_000);
    assert_eq!(user["primary_email_address_id"], user["email_addresses"][0]["id"]);
    assert_eq!(user["email_addresses"][1]["reserved"], true);
    assert_eq!(user["email_addresses"][1]["verification"], Value::Null);
    let id = user["id"].as_str().unwrap();
    assert_eq!(world.get(&format!("/v1/users/{id}")).await, (200, user.clone()));
    let counters = world.target().counters();
    assert_eq!((counters.creates, counters.creates_by_external_id["x"]), (1, 1));
    assert_eq!(counters.requests["POST /v1/users"], 1);
    assert_eq!(counters.requests["GET /v1/users/{id}"], 1);
}

#[tokio::test]
async fn bodies_that_break_the_specification_are_refused_by_name() {
    let world = World::new().await;
    let long = "x".repeat(9_000);
    for (body, status, expected) in [
        (
            json!({"email_address": ["a@example.com"], "id": "x"}),
            422,
            one("form_param_unknown", "id"),
        ),
        (json!({"email_address": "a@example.com"}), 422, one("form_param_value_invalid", "")),
        (
            json!({"email_address": ["a@example.com"], "banned": "yes"}),
            422,
            one("form_param_value_invalid", ""),
        ),
        (
            json!({"email_address": ["a@example.com", "A@example.com"]}),
            422,
            one("form_param_duplicate", "email_address"),
        ),
        (
            json!({"email_address": ["nope"]}),
            422,
            one("form_param_format_invalid", "email_address"),
        ),
        (json!({"phone_number": ["+1234"]}), 422, one("form_param_format_invalid", "phone_number")),
        (json!({"web3_wallet": ["0x12"]}), 422, one("form_param_format_invalid", "web3_wallet")),
        (json!({"username": "abc"}), 422, one("form_username_invalid_length", "username")),
        (json!({"username": "12345"}), 422, one("form_username_needs_non_number_char", "username")),
        (json!({"first_name": "Nobody"}), 422, one("form_data_missing", "")),
        (
            json!({"username": "fine", "first_name": "https://x.example"}),
            422,
            one("form_param_format_invalid", "first_name"),
        ),
        (
            json!({"username": "fine", "locale": "no locale"}),
            422,
            one("form_param_format_invalid", "locale"),
        ),
        (
            json!({"username": "fine", "created_at": "2020"}),
            422,
            one("form_param_invalid_time", "created_at"),
        ),
        (
            json!({"username": "fine", "public_metadata": {"x": long}}),
            422,
            one("form_param_exceeds_allowed_size", "public_metadata"),
        ),
        (
            json!({"username": "fine", "public_metadata": []}),
            422,
            one("form_param_value_invalid", ""),
        ),
        (
            json!({"username": "fine", "password": "short"}),
            422,
            one("form_password_length_too_short", "password"),
        ),
        (
            json!({"username": "fine", "password_digest": "x"}),
            422,
            one("form_conditional_param_missing", "password_hasher"),
        ),
        (
            json!({"username": "fine", "password_digest": "x", "password_hasher": "rot13"}),
            422,
            one("form_param_value_invalid", "password_hasher"),
        ),
        (
            json!({"username": "fine", "password_digest": "x", "password_hasher": "bcrypt"}),
            422,
            one("form_password_digest_invalid_code", "password_digest"),
        ),
        (
            json!({"username": "fine", "totp_secret": "not base 32"}),
            422,
            one("invalid_totp_secret_code", ""),
        ),
        (
            json!({"email_address": ["a@example.com"], "email_address_identification_status": []}),
            200,
            Vec::new(),
        ),
    ] {
        let (got, answer) = world.post("/v1/users", &body).await;
        assert_eq!(got, status, "{body} {answer}");
        if status != 200 {
            assert_eq!(errors(&answer), expected, "{body}");
        }
    }
    assert_eq!(world.target().counters().creates, 1);
    let broken =
        world.request(Method::POST, "/v1/users").header("content-type", "application/json");
    let (status, answer) = common::read(broken.body("{").send().await.unwrap()).await;
    assert_eq!((status, errors(&answer)), (400, one("request_body_invalid", "")));
    let text = world.request(Method::POST, "/v1/users").body("a=b").send().await.unwrap();
    assert_eq!(text.status(), 415);
}

#[tokio::test]
async fn every_collision_is_named_in_one_answer() {
    let world = World::new().await;
    let body = json!({
        "external_id": "x", "email_address": ["a@example.com"], "phone_number": ["+12125550123"],
        "username": "someone", "web3_wallet": ["0x00000000000000000000000000000000000000Ab"],
    });
    assert_eq!(world.post("/v1/users", &body).await.0, 200);
    let again = json!({
        "external_id": "x", "email_address": ["A@EXAMPLE.com"], "phone_number": ["+12125550123"],
        "username": "SomeOne", "web3_wallet": ["0x00000000000000000000000000000000000000aB"],
    });
    let (status, answer) = world.post("/v1/users", &again).await;
    assert_eq!(status, 422);
    let names: Vec<String> = errors(&answer).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["email_address", "phone_number", "web3_wallet", "username", "external_id"]);
    assert!(errors(&answer).iter().all(|(code, _)| code == "form_identifier_exists"));
    let said = &answer["errors"][0]["long_message"];
    assert_eq!(said, "That email address is taken. Please try another.");
}

#[tokio::test]
async fn an_address_that_nobody_verified_may_be_claimed() {
    let world = World::new().await;
    let seed = |status| SeedUser {
        email_addresses: vec![SeedIdentifier::with("shared@example.com", status)],
        ..SeedUser::default()
    };
    world.target().insert_seed(seed(Status::Unverified)).unwrap();
    world.target().insert_seed(seed(Status::Unverified)).unwrap();
    let body = json!({ "email_address": ["shared@example.com"] });
    assert_eq!(world.post("/v1/users", &body).await.0, 200);
    assert_eq!(world.post("/v1/users", &body).await.0, 422);
    assert!(world.target().insert_seed(seed(Status::Reserved)).is_err());
    // All three are found by it.
    assert_eq!(world.ids("email_address=Shared@example.com").await.len(), 3);
}

#[tokio::test]
async fn settings_turn_features_off() {
    let world = World::with(|settings| {
        settings.attributes = vec![Attribute::EmailAddress];
        settings.ban_plan = false;
        settings.lockout = false;
        settings.second_factors = false;
        settings.refused_addresses = vec!["*@blocked.example".into(), ".ru.example".into()];
        settings.user_cap = Some(1);
    })
    .await;
    let mail = |extra: Value| {
        let mut body = json!({ "email_address": ["a@example.com"] });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    for (body, status, expected) in [
        (
            mail(json!({"phone_number": ["+12125550123"]})),
            422,
            one("form_param_unknown", "phone_number"),
        ),
        (
            mail(json!({"skip_restriction_checks": true})),
            422,
            one("form_param_unknown", "skip_restriction_checks"),
        ),
        (mail(json!({"banned": true})), 402, one("unsupported_subscription_plan_features", "")),
        (mail(json!({"locked": true})), 403, one("feature_not_enabled", "locked")),
        (mail(json!({"totp_secret": "JBSWY3DP"})), 403, one("feature_not_enabled", "totp_secret")),
        (json!({"email_address": ["x@blocked.example"]}), 403, one("not_allowed_access", "")),
        (json!({"email_address": ["x@a.ru.example"]}), 403, one("not_allowed_access", "")),
    ] {
        let (got, answer) = world.post("/v1/users", &body).await;
        assert_eq!((got, errors(&answer)), (status, expected), "{body}");
    }
    assert_eq!(world.post("/v1/users", &mail(json!({}))).await.0, 200);
    let (status, answer) =
        world.post("/v1/users", &json!({"email_address": ["b@example.com"]})).await;
    assert_eq!((status, errors(&answer)), (403, one("user_quota_exceeded", "")));
    world.target().configure(|settings| {
        settings.user_cap = None;
        settings.skip_restriction_checks = true;
    });
    let body = json!({"email_address": ["x@blocked.example"], "skip_restriction_checks": true});
    assert_eq!(world.post("/v1/users", &body).await.0, 200);
}

#[tokio::test]
async fn requirements_hold_unless_they_are_waived() {
    let world = World::with(|settings| {
        settings.required = vec![Attribute::EmailAddress];
        settings.password_required = true;
        settings.legal_consent_required = true;
    })
    .await;
    let (status, answer) = world.post("/v1/users", &json!({ "username": "someone" })).await;
    assert_eq!((status, errors(&answer)), (422, one("form_data_missing", "")));
    let missing = json!(["email_address", "password", "legal_accepted_at"]);
    assert_eq!(answer["errors"][0]["meta"]["param_names"], missing);
    let body = json!({
        "username": "someone", "skip_user_requirement": true, "skip_password_requirement": true,
        "skip_legal_checks": true,
    });
    assert_eq!(world.post("/v1/users", &body).await.0, 200);
    let nobody = json!({ "skip_user_requirement": true, "skip_password_requirement": true, "skip_legal_checks": true });
    assert_eq!(world.post("/v1/users", &nobody).await.0, 422);
}

#[tokio::test]
async fn an_update_takes_neither_metadata_nor_bans() {
    let world = World::new().await;
    let (_, user) =
        world.post("/v1/users", &json!({ "username": "someone", "external_id": "a" })).await;
    let path = format!("/v1/users/{}", user["id"].as_str().unwrap());
    for field in ["public_metadata", "private_metadata", "unsafe_metadata", "banned", "locked"] {
        let (status, answer) = world.send(Method::PATCH, &path, &json!({ field: null })).await;
        assert_eq!((status, errors(&answer)), (422, one("form_param_unknown", field)));
    }
    let change =
        json!({ "first_name": "New", "external_id": "b", "create_organizations_limit": 2 });
    let (status, changed) = world.send(Method::PATCH, &path, &change).await;
    assert_eq!((status, &changed["external_id"]), (200, &json!("b")));
    assert_eq!(world.ids("external_id=%2Ba").await.len(), 0);
    assert_eq!(world.ids("external_id=%2Bb").await.len(), 1);
    let (status, _) = world.send(Method::PATCH, &path, &json!({ "username": null })).await;
    assert_eq!(status, 400);
    let (status, answer) = world.send(Method::PATCH, "/v1/users/user_none", &json!({})).await;
    assert_eq!((status, errors(&answer)), (404, one("resource_not_found", "")));
}

#[tokio::test]
async fn credentials_arrive_and_are_never_shown() {
    let world = World::new().await;
    let digest = format!("$2a$10${}", "a".repeat(53));
    let body = json!({ "username": "someone", "password_digest": digest, "password_hasher": "bcrypt", "totp_secret": "JBSWY3DP" });
    let (_, user) = world.post("/v1/users", &body).await;
    assert_eq!((&user["password_enabled"], &user["totp_enabled"]), (&json!(true), &json!(true)));
    assert!(!user.to_string().contains(&digest));
    let kept = world.target().credentials(user["id"].as_str().unwrap()).unwrap();
    assert_eq!(kept.password_digest, Some(digest));
}

#[tokio::test]
async fn keys_versions_and_routes() {
    let world = World::new().await;
    let url = format!("{}/v1/users", world.emulator.clerk_url());
    let bare = world.client.get(&url).send().await.unwrap();
    let (status, answer) = common::read(bare).await;
    assert_eq!((status, errors(&answer)), (401, one("authorization_header_format_invalid", "")));
    let wrong = world.client.get(&url).bearer_auth("sk_live_wrong").send().await.unwrap();
    let (status, answer) = common::read(wrong).await;
    assert_eq!((status, errors(&answer)), (401, one("clerk_key_invalid", "")));
    let version = |value: &str| {
        world.request(Method::GET, "/v1/users").header("Clerk-API-Version", value).send()
    };
    assert_eq!(version("2026-05-12").await.unwrap().status(), 200);
    assert_eq!(version("2019-01-01").await.unwrap().status(), 400);
    assert_eq!(world.get("/v1/users?__clerk_api_version=2025-11-10").await.0, 200);
    assert_eq!(world.get("/v1/nothing").await.0, 404);
    assert_eq!(world.get("/elsewhere").await.0, 404);
    let (_, instance) = world.get("/v1/instance").await;
    assert_eq!(instance["id"], world.target().id());
    assert_eq!(instance["environment_type"], "production");
}
