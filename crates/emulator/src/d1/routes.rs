//! The paths of the API, its envelope and its refusals.
//!
//! Served: the list, one database, `/query`, `/raw`, `/import`, `/export`, the bookmark and the
//! restore. Everything else under the
//! API's base answers 404 in Cloudflare's envelope. Codes: 7400 malformed, 7404 no such database,
//! 7500 SQL error, 10000 authentication, 7003 no route, 971 too many requests.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::database::{Database, Entry};
use super::explorer;
use super::limits::BODY_BYTES;
use super::results::Shape;
use super::service::{D1, Endpoint, describe};
use super::transfer;
use super::values;

/// The API's base path, as in `https://api.cloudflare.com/client/v4`.
const BASE: &str = "/client/v4";

/// The routes of `state`, ready to be served alone or merged with others: it claims nothing outside
/// `/client/v4`, the path of the local explorer and that of the files of imports and exports.
pub fn router(state: Arc<D1>) -> Router {
    let databases = "/accounts/{account}/d1/database";
    let api = Router::new()
        .route(databases, get(list))
        .route(&format!("{databases}/{{database}}"), get(one))
        .route(&format!("{databases}/{{database}}/query"), post(query))
        .route(&format!("{databases}/{{database}}/raw"), post(raw))
        .route(&format!("{databases}/{{database}}/import"), post(transfer::import))
        .route(&format!("{databases}/{{database}}/export"), post(transfer::export))
        .route(&format!("{databases}/{{database}}/time_travel/bookmark"), get(bookmark))
        .route(&format!("{databases}/{{database}}/time_travel/restore"), post(restore))
        .fallback(unrouted)
        .method_not_allowed_fallback(unrouted)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&state), admit))
        .with_state(Arc::clone(&state));
    Router::new()
        .nest(BASE, api)
        .merge(explorer::router(Arc::clone(&state)))
        .merge(transfer::files(state))
}

/// A failure in Cloudflare's envelope.
pub(crate) struct Refusal {
    status: StatusCode,
    code: u32,
    message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 7400, message)
    }

    fn unknown(database: &str) -> Self {
        let message = format!("The database {database} could not be found");
        Self::new(StatusCode::NOT_FOUND, 7404, message)
    }

    pub(crate) fn sql(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 7500, message)
    }

    /// The work for a request did not come back; only a bug here can cause it.
    fn lost(error: &tokio::task::JoinError) -> Self {
        tracing::error!(%error, "a request to the emulated D1 was lost");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 7501, "internal error")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // A production capture of a SQL error has an empty array here; other failures have null.
        let result = if self.code == 7500 { json!([]) } else { Value::Null };
        let body = json!({
            "messages": [],
            "result": result,
            "success": false,
            "errors": [{ "code": self.code, "message": self.message }],
        });
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if (7400..=7501).contains(&self.code)
            && let Ok(value) = HeaderValue::try_from(format!("err={}", self.code))
        {
            headers.insert("cf-d1", value);
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Success: `result` is JSON already, `more` further members of the envelope.
pub(crate) fn success(result: &str, more: &str) -> Response {
    let body =
        format!("{{\"result\":{result}{more},\"success\":true,\"errors\":[],\"messages\":[]}}");
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Checks the token and the rate limit before any path is looked at, as Cloudflare's front does.
async fn admit(State(d1): State<Arc<D1>>, request: Request, next: Next) -> Response {
    if let Err(refusal) = authenticate(&d1, request.headers(), request.uri()) {
        d1.count(Endpoint::Unauthorized);
        return refusal.into_response();
    }
    if let Err(wait) = d1.admit() {
        d1.count(Endpoint::RateLimited);
        let mut refusal = Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            971,
            "Please wait and consider throttling your request speed",
        );
        refusal.retry_after = Some(wait);
        return refusal.into_response();
    }
    next.run(request).await
}

/// No token: 401. A wrong one, or a path into another account: 403.
fn authenticate(d1: &D1, headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
    let refuse = |status| Err(Refusal::new(status, 10000, "Authentication error"));
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = token else {
        return refuse(StatusCode::UNAUTHORIZED);
    };
    // The middleware runs inside the nest, where the base is already cut off.
    let account = uri.path().strip_prefix("/accounts/").and_then(|rest| rest.split('/').next());
    if token != d1.api_token || account.is_some_and(|account| account != d1.account_id) {
        return refuse(StatusCode::FORBIDDEN);
    }
    Ok(())
}

async fn unrouted(State(d1): State<Arc<D1>>, uri: Uri) -> Refusal {
    d1.count(Endpoint::Unrouted);
    let message = format!(
        "Could not route to {BASE}{}, perhaps your object identifier is invalid?",
        uri.path()
    );
    Refusal::new(StatusCode::NOT_FOUND, 7003, message)
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    name: Option<String>,
    page: Option<usize>,
    per_page: Option<usize>,
}

async fn list(
    State(d1): State<Arc<D1>>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refusal> {
    d1.count(Endpoint::List);
    let page = query.page.unwrap_or(1);
    let per_page = query.per_page.unwrap_or(100);
    if page == 0 || !(10..=10_000).contains(&per_page) {
        return Err(Refusal::malformed("page starts at 1, per_page is 10 to 10000"));
    }
    let found = d1.named_like(query.name.as_deref().unwrap_or(""));
    let total = found.len();
    let items: Vec<Value> = found
        .iter()
        .skip((page - 1).saturating_mul(per_page))
        .take(per_page)
        .map(|database| {
            json!({
                "uuid": database.uuid,
                "name": database.name,
                "version": "production",
                "created_at": database.created_at.to_string(),
                "jurisdiction": null,
            })
        })
        .collect();
    let info = json!({
        "page": page,
        "per_page": per_page,
        "count": items.len(),
        "total_count": total,
    });
    Ok(success(&Value::from(items).to_string(), &format!(",\"result_info\":{info}")))
}

#[derive(Debug, Deserialize)]
struct OneQuery {
    fields: Option<String>,
}

async fn one(
    State(d1): State<Arc<D1>>,
    Path((_, key)): Path<(String, String)>,
    Query(query): Query<OneQuery>,
) -> Result<Response, Refusal> {
    d1.count(Endpoint::Get);
    let database = d1.find_by_any_name(&key).ok_or_else(|| Refusal::unknown(&key))?;
    let mut fields = off_the_runtime(move || describe(&database))
        .await?
        .map_err(|error| Refusal::sql(error.0))?;
    if let Some(wanted) = query.fields {
        fields.retain(|name, _| wanted.split(',').any(|field| field.trim() == name));
    }
    Ok(success(&Value::from(fields).to_string(), ""))
}

async fn bookmark(
    State(d1): State<Arc<D1>>,
    Path((_, uuid)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    d1.count(Endpoint::Bookmark);
    let database = by_id(&d1, &uuid)?;
    let bookmark = off_the_runtime(move || database.bookmark())
        .await?
        .map_err(|error| Refusal::sql(error.0))?;
    Ok(success(&json!({ "bookmark": bookmark }).to_string(), ""))
}

#[derive(Debug, Deserialize)]
struct RestoreQuery {
    bookmark: Option<String>,
}

/// Cloudflare also takes a `timestamp`; the copies that are kept here have none.
async fn restore(
    State(d1): State<Arc<D1>>,
    Path((_, uuid)): Path<(String, String)>,
    Query(query): Query<RestoreQuery>,
) -> Result<Response, Refusal> {
    d1.count(Endpoint::Restore);
    let database = by_id(&d1, &uuid)?;
    let wanted = query.bookmark.ok_or_else(|| Refusal::malformed("a bookmark is required"))?;
    let bookmark = wanted.clone();
    let restored = off_the_runtime(move || database.restore(&wanted))
        .await?
        .map_err(|error| Refusal::sql(error.0))?
        .ok_or_else(|| Refusal::malformed(format!("unknown bookmark {bookmark}")))?;
    let result = json!({
        "bookmark": bookmark,
        "previous_bookmark": restored.previous,
        "message": format!("The database has been restored to bookmark {bookmark}"),
    });
    Ok(success(&result.to_string(), ""))
}

async fn query(
    State(d1): State<Arc<D1>>,
    Path((_, uuid)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    d1.count(Endpoint::Query);
    run(&d1, &uuid, body, Shape::Objects).await
}

async fn raw(
    State(d1): State<Arc<D1>>,
    Path((_, uuid)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    d1.count(Endpoint::Raw);
    run(&d1, &uuid, body, Shape::Raw).await
}

async fn run(d1: &D1, uuid: &str, body: Bytes, shape: Shape) -> Result<Response, Refusal> {
    let database = by_id(d1, uuid)?;
    off_the_runtime(move || {
        let entries = parse(&body)?;
        drop(body);
        let results = database.run(entries, shape).map_err(|error| Refusal::sql(error.0))?;
        Ok(success(&results, ""))
    })
    .await?
}

/// SQLite blocks; the runtime's workers must not.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    spawn_blocking(work).await.map_err(|error| Refusal::lost(&error))
}

/// Only `GET` of one database takes a name; here something that is no id is malformed.
pub(crate) fn by_id(d1: &D1, uuid: &str) -> Result<Arc<Database>, Refusal> {
    match d1.find(uuid) {
        Some(database) => Ok(database),
        None if is_uuid(uuid) => Err(Refusal::unknown(uuid)),
        None => Err(Refusal::malformed("failed to decode id")),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// One statement with its parameters, as the API's schema has it.
#[derive(Debug, Deserialize)]
struct WireEntry {
    sql: String,
    #[serde(default)]
    params: Option<Vec<Value>>,
}

/// The entries of a body: one statement, or a batch of them.
pub(crate) fn parse(body: &[u8]) -> Result<Vec<Entry>, Refusal> {
    let malformed =
        |error: serde_json::Error| Refusal::malformed(format!("The request is malformed: {error}"));
    let mut document: Value = serde_json::from_slice(body).map_err(malformed)?;
    let wire: Vec<WireEntry> = match document.get_mut("batch").map(Value::take) {
        Some(batch) => serde_json::from_value(batch).map_err(malformed)?,
        None => vec![serde_json::from_value(document).map_err(malformed)?],
    };
    wire.into_iter()
        .map(|entry| {
            let params = entry.params.unwrap_or_default();
            let params = params.into_iter().map(values::parameter).collect::<Result<_, _>>();
            let params = params.map_err(|reason| {
                Refusal::malformed(format!("The request is malformed: {reason}"))
            })?;
            Ok(Entry { sql: entry.sql, params, whole: false })
        })
        .collect()
}
