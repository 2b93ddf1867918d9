//! The Backend API itself: which operation a request is, and its answer.
//!
//! Everything below [`answer`] is synchronous and takes the store's lock once
//! per effect, so that an operation happens wholly or not at all, whatever
//! becomes of the connection.

pub(crate) mod claims;
mod create;
mod form;
mod identifications;
mod list;
mod listing;
mod metadata;
mod query;
mod update;
mod users;
mod validate;

use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::counters::route;
use crate::instance::Instance;
use crate::refusal::Refusal;

/// The versions whose specification files exist (clerk/openapi-specs, `bapi/`).
const VERSIONS: [&str; 6] =
    ["2021-02-05", "2024-10-01", "2025-03-12", "2025-04-10", "2025-11-10", "2026-05-12"];

/// The most bytes of a request body.
pub(crate) const BODY_LIMIT: usize = 1 << 20;

/// A request that has been read to its end.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    /// Below `/v1/`.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
}

/// A successful answer: status 200 and its JSON.
pub(crate) type Answer = Result<Vec<u8>, Refusal>;

/// JSON bytes of an answer.
pub(crate) fn json_of(value: &impl Serialize) -> Answer {
    serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer could not be serialised");
        Refusal { status: StatusCode::INTERNAL_SERVER_ERROR, errors: Vec::new(), retry_after: None }
    })
}

/// Answers one request of an instance, rate limit and version first.
pub(crate) fn answer(instance: &Instance, call: &Call<'_>) -> Answer {
    instance.admit(route(call.method.as_str(), &format!("/{}", call.path)))?;
    check_version(call)?;
    let segments: Vec<&str> = call.path.trim_end_matches('/').split('/').collect();
    let pairs = || query::pairs(call.query);
    let body = || form::Form::read(call.headers, call.body);
    match (call.method.as_str(), segments.as_slice()) {
        ("GET", ["users"]) => list::page(instance, pairs()?),
        ("POST", ["users"]) => create::user(instance, &body()?),
        ("GET", ["users", "count"]) => list::count(instance, pairs()?),
        ("GET", ["users", id]) => users::get(instance, id),
        ("PATCH", ["users", id]) => update::user(instance, id, &body()?),
        ("DELETE", ["users", id]) => users::delete(instance, id),
        ("PATCH", ["users", id, "metadata"]) => {
            metadata::change(instance, id, &body()?, metadata::Way::Merge)
        }
        ("PUT", ["users", id, "metadata"]) => {
            metadata::change(instance, id, &body()?, metadata::Way::Replace)
        }
        ("POST", ["users", id, "ban"]) => users::ban(instance, id, true),
        ("POST", ["users", id, "unban"]) => users::ban(instance, id, false),
        ("POST", ["users", id, "lock"]) => users::lock(instance, id, true),
        ("POST", ["users", id, "unlock"]) => users::lock(instance, id, false),
        ("GET", ["instance"]) => json_of(&json!({
            "object": "instance",
            "id": instance.id(),
            "environment_type": instance.environment().as_str(),
            "allowed_origins": null,
            "workspace_id": null,
        })),
        (method, [list @ ("email_addresses" | "phone_numbers"), rest @ ..]) => {
            identifications::answer(instance, method, list, rest, body)
        }
        (_, _) => Err(Refusal::no_route()),
    }
}

/// `Clerk-API-Version` or `__clerk_api_version`, not both, one of the known.
fn check_version(call: &Call<'_>) -> Result<(), Refusal> {
    let header = call.headers.get("clerk-api-version");
    let parameter = query::pairs(call.query)?
        .into_iter()
        .find_map(|(name, value)| (name == "__clerk_api_version").then_some(value));
    let version = match (header, &parameter) {
        (None, None) => return Ok(()),
        (Some(_), Some(_)) => {
            return Err(Refusal::api_version("given both as a header and as a parameter"));
        }
        (Some(header), None) => header.to_str().unwrap_or_default(),
        (None, Some(parameter)) => parameter.as_str(),
    };
    if VERSIONS.contains(&version) {
        Ok(())
    } else {
        Err(Refusal::api_version(&format!("{version} is not a known version")))
    }
}
