//! The control path `/__emulator/…`, for those in another process. It is not
//! counted, not recorded and meets no faults.
//!
//! | request | does |
//! | --- | --- |
//! | `GET counters` | `{instances: {LABEL: Counters}, d1: {…Counters, "effects": D1's own}, unauthenticated: {ROUTE: n}}` |
//! | `GET state`, `GET state?instance=` | every (or one) instance's id, environment, settings and users as full User JSON |
//! | `GET requests` | requests per second of each instance and of D1, and the peaks per window |
//! | `GET faults`, `PUT faults` | the fault plan; `PUT` starts the given one, `{}` clears |
//! | `GET settings?instance=`, `PUT settings?instance=` | an instance's settings; `PUT` changes the given keys |
//! | `POST users?instance=` | puts a [`SeedUser`](crate::seed::SeedUser) in; answers `{"id"}` |
//! | `DELETE users/{id}?instance=` | takes a user out; answers `{"deleted"}` |
//! | `PATCH users/{id}?instance=` | changes the given fields as their owner would: `first_name`, `last_name`, `username`, `public_metadata`, `private_metadata`, `unsafe_metadata`, `password_enabled`, `totp_enabled`, `has_image`, `banned`, `locked`, `email_address` (one more, verified); answers `{"changed"}` |
//! | `POST users/{id}/sign_in?instance=`, `POST users/{id}/activity?instance=` | the owner signs in, or goes on using a session; answers `{"changed"}` |
//! | `POST reset` | sets the counters of all instances back |
//!
//! `instance` is a label, an id or a secret key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::{Environment, Settings};
use crate::fault::FaultPlan;
use crate::instance::Instance;
use crate::seed::SeedUser;
use crate::server::App;
use crate::user::{Identifier, Metadata, User, Verification};

type Shared = State<Arc<App>>;
type Parameters = Query<HashMap<String, String>>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/__emulator/counters", get(counters))
        .route("/__emulator/state", get(state))
        .route("/__emulator/requests", get(requests))
        .route("/__emulator/faults", get(faults).put(set_faults))
        .route("/__emulator/settings", get(settings).put(set_settings))
        .route("/__emulator/users", post(insert))
        .route("/__emulator/users/{id}", delete(remove).patch(edit))
        .route("/__emulator/users/{id}/sign_in", post(sign_in))
        .route("/__emulator/users/{id}/activity", post(activity))
        .route("/__emulator/reset", post(reset))
}

/// A wrong request on the control path, in words.
fn wrong(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

fn chosen(app: &App, parameters: &HashMap<String, String>) -> Result<Arc<Instance>, Box<Response>> {
    parameters
        .get("instance")
        .and_then(|name| app.instance(name))
        .cloned()
        .ok_or_else(|| Box::new(wrong(StatusCode::NOT_FOUND, "no such instance")))
}

fn by_label(app: &App, value: impl Fn(&Instance) -> Value) -> Map<String, Value> {
    app.instances.iter().map(|i| (i.label().to_owned(), value(i))).collect()
}

async fn counters(State(app): Shared) -> Response {
    let mut d1 = json!(*app.d1_counters());
    d1["effects"] = app.d1.as_ref().map_or(Value::Null, |d1| d1.counters());
    Json(json!({
        "instances": by_label(&app, |instance| json!(instance.counters())),
        "d1": d1,
        "unauthenticated": app.strangers(),
    }))
    .into_response()
}

/// One instance in `GET state`.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    environment: Environment,
    settings: Settings,
    users: Vec<&'a User>,
}

async fn state(State(app): Shared, Query(parameters): Parameters) -> Response {
    let wanted = parameters.get("instance").map(String::as_str);
    let users: Vec<(&Arc<Instance>, Vec<Arc<User>>)> = app
        .instances
        .iter()
        .filter(|i| wanted.is_none_or(|name| i.label() == name || i.id() == name))
        .map(|instance| (instance, instance.users()))
        .collect();
    // Written from the users as they are: a tree of JSON values of a hundred
    // thousand of them would take a gigabyte.
    let instances: BTreeMap<&str, Shown<'_>> = users
        .iter()
        .map(|(instance, users)| {
            let shown = Shown {
                id: instance.id(),
                environment: instance.environment(),
                settings: instance.settings(),
                users: users.iter().map(AsRef::as_ref).collect(),
            };
            (instance.label(), shown)
        })
        .collect();
    Json(BTreeMap::from([("instances", instances)])).into_response()
}

async fn requests(State(app): Shared) -> Response {
    let instances = by_label(&app, |instance| {
        let counters = instance.counters();
        json!({
            "per_second": counters.per_second,
            "max_in_window": counters.max_in_window,
            "max_accepted_in_window": counters.max_accepted_in_window,
            "window_ms": counters.window_ms,
        })
    });
    let d1 = json!({ "per_second": app.d1_counters().per_second });
    Json(json!({ "instances": instances, "d1": d1 })).into_response()
}

async fn faults(State(app): Shared) -> Response {
    Json(app.faults.plan()).into_response()
}

async fn set_faults(State(app): Shared, Json(plan): Json<FaultPlan>) -> Response {
    app.faults.set(plan);
    Json(app.faults.plan()).into_response()
}

async fn settings(State(app): Shared, Query(parameters): Parameters) -> Response {
    match chosen(&app, &parameters) {
        Ok(instance) => Json(instance.settings()).into_response(),
        Err(refused) => *refused,
    }
}

async fn set_settings(
    State(app): Shared,
    Query(parameters): Parameters,
    Json(changes): Json<Map<String, Value>>,
) -> Response {
    let instance = match chosen(&app, &parameters) {
        Ok(instance) => instance,
        Err(refused) => return *refused,
    };
    let mut all = json!(instance.settings());
    for (key, value) in changes {
        all[key] = value;
    }
    match serde_json::from_value(all) {
        Ok(new) => {
            instance.configure(|settings| *settings = new);
            Json(instance.settings()).into_response()
        }
        Err(error) => wrong(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}

async fn insert(
    State(app): Shared,
    Query(parameters): Parameters,
    Json(seed): Json<SeedUser>,
) -> Response {
    let inserted = match chosen(&app, &parameters) {
        Ok(instance) => instance.insert_seed(seed),
        Err(refused) => return *refused,
    };
    match inserted {
        Ok(id) => Json(json!({ "id": id })).into_response(),
        Err(error) => wrong(StatusCode::CONFLICT, &error.to_string()),
    }
}

async fn remove(
    State(app): Shared,
    Path(id): Path<String>,
    Query(parameters): Parameters,
) -> Response {
    match chosen(&app, &parameters) {
        Ok(instance) => Json(json!({ "deleted": instance.remove_user(&id) })).into_response(),
        Err(refused) => *refused,
    }
}

/// What an owner or an administrator changes of a user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    first_name: Option<String>,
    last_name: Option<String>,
    username: Option<String>,
    public_metadata: Option<Metadata>,
    private_metadata: Option<Metadata>,
    unsafe_metadata: Option<Metadata>,
    password_enabled: Option<bool>,
    totp_enabled: Option<bool>,
    has_image: Option<bool>,
    banned: Option<bool>,
    locked: Option<bool>,
    email_address: Option<String>,
}

async fn edit(
    State(app): Shared,
    Path(id): Path<String>,
    Query(parameters): Parameters,
    Json(edit): Json<Edit>,
) -> Response {
    let instance = match chosen(&app, &parameters) {
        Ok(instance) => instance,
        Err(refused) => return *refused,
    };
    let now = instance.now_ms();
    let address = edit.email_address.as_ref().map(|value| Identifier {
        id: instance.ids.next("idn_"),
        value: value.clone(),
        reserved: false,
        verification: Some(Verification::otp("email_code", true, now)),
        linked_to: Vec::new(),
        reserved_for_second_factor: false,
        created_at: now,
        updated_at: now,
    });
    let changed = instance.change_user(&id, |user| {
        fn set<T>(slot: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *slot = value;
            }
        }
        set(&mut user.first_name, edit.first_name.map(Some));
        set(&mut user.last_name, edit.last_name.map(Some));
        set(&mut user.username, edit.username.map(Some));
        set(&mut user.public_metadata, edit.public_metadata);
        set(&mut user.private_metadata, edit.private_metadata);
        set(&mut user.unsafe_metadata, edit.unsafe_metadata);
        set(&mut user.password_enabled, edit.password_enabled);
        set(&mut user.totp_enabled, edit.totp_enabled);
        set(&mut user.has_image, edit.has_image);
        set(&mut user.banned, edit.banned);
        set(&mut user.locked, edit.locked);
        user.email_addresses.extend(address);
        user.updated_at = now;
    });
    Json(json!({ "changed": changed })).into_response()
}

async fn sign_in(app: Shared, id: Path<String>, parameters: Parameters) -> Response {
    used(&app, &id, &parameters, Instance::sign_in)
}

async fn activity(app: Shared, id: Path<String>, parameters: Parameters) -> Response {
    used(&app, &id, &parameters, Instance::be_active)
}

fn used(
    app: &App,
    id: &str,
    parameters: &HashMap<String, String>,
    act: impl FnOnce(&Instance, &str) -> bool,
) -> Response {
    match chosen(app, parameters) {
        Ok(instance) => Json(json!({ "changed": act(&instance, id) })).into_response(),
        Err(refused) => *refused,
    }
}

async fn reset(State(app): Shared) -> Response {
    for instance in &app.instances {
        instance.reset_counters();
    }
    Json(json!({ "reset": true })).into_response()
}
