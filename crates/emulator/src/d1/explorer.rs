//! The local explorer: the part of D1's API that `wrangler dev` serves on a developer's machine.
//!
//! As measured with wrangler 4.164.0: a list and `/raw`, nothing else; no accounts, no tokens; a
//! database is called by its binding (here: by its name); a refusal has status 500 and code 10001;
//! parameters are strings or refused; and a uuid that nobody knows is answered as an empty
//! database, which comes into being with the question. Here that one is gone after the answer.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::database::Database;
use super::limits::BODY_BYTES;
use super::results::Shape;
use super::routes::{Refusal, off_the_runtime, parse, success};
use super::service::{D1, Endpoint};
use super::storage::PrivateFolder;

/// Where `wrangler dev` serves it.
const BASE: &str = "/cdn-cgi/local/explorer/api";

/// The explorer's routes.
pub(crate) fn router(state: Arc<D1>) -> Router {
    let api = Router::new()
        .route("/d1/database", get(list))
        .route("/d1/database/{database}/raw", post(raw))
        .fallback(unrouted)
        .method_not_allowed_fallback(unrouted)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(state);
    Router::new().nest(BASE, api)
}

/// Everything that goes wrong there has this code.
fn refuse(status: StatusCode, message: impl Into<String>) -> Refusal {
    Refusal::new(status, 10001, message)
}

async fn unrouted(State(d1): State<Arc<D1>>, uri: Uri) -> Refusal {
    d1.count(Endpoint::Unrouted);
    refuse(StatusCode::NOT_FOUND, format!("Not found: {}", uri.path()))
}

async fn list(State(d1): State<Arc<D1>>) -> Response {
    d1.count(Endpoint::Explorer);
    let found = d1.named_like("");
    let items: Vec<Value> = found
        .iter()
        .map(|one| json!({ "name": one.name, "uuid": one.uuid, "version": "production" }))
        .collect();
    let info = format!(",\"result_info\":{}", json!({ "count": items.len() }));
    success(&Value::from(items).to_string(), &info)
}

async fn raw(
    State(d1): State<Arc<D1>>,
    Path(uuid): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    d1.count(Endpoint::Explorer);
    if !only_strings(&body) {
        return Err(refuse(StatusCode::BAD_REQUEST, "Invalid input"));
    }
    let known = d1.find(&uuid);
    off_the_runtime(move || {
        let entries = parse(&body)?;
        let lost = |error: &dyn std::fmt::Display| {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        };
        let run = |database: &Database| {
            let results = database.run(entries, Shape::Raw).map_err(|error| lost(&error.0))?;
            Ok(success(&results, ""))
        };
        if let Some(database) = known {
            return run(&database);
        }
        let folder = PrivateFolder::create().map_err(|error| lost(&error))?;
        let path = folder.path().join("new.sqlite");
        let database = Database::open(uuid.clone(), uuid, path).map_err(|error| lost(&error))?;
        run(&database)
    })
    .await?
}

/// Whether every parameter is a string. What cannot be read at all is refused elsewhere.
fn only_strings(body: &[u8]) -> bool {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return true };
    let entries = match document.get("batch").and_then(Value::as_array) {
        Some(batch) => batch.iter().collect(),
        None => vec![&document],
    };
    let params = entries.into_iter().filter_map(|entry| entry.get("params")?.as_array());
    params.flatten().all(Value::is_string)
}
