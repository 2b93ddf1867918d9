//! `/import` and `/export`: files that go in and come out beside the API.
//!
//! As wrangler 4.164.0 uses them (its `d1/execute.ts` and `d1/export.ts`). An import begins with the
//! MD5 of the file; when such a file was uploaded before, it is taken at once, else there is an
//! address to `PUT` it to and a second call that begins. Either is asked about (*polled*) until it
//! is over. All or nothing, like Cloudflare's, which restores the database by Time Travel when a
//! statement fails; here it is one transaction, cut as `sqlite3_complete` would (see `complete`).
//!
//! Here the work is done when it is asked for, and the first answer still says `active`, so that a
//! client that does not poll is found out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{CONTENT_TYPE, ETAG, HOST, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use md5::{Digest as _, Md5};
use serde::Deserialize;
use serde_json::{Value, json};

use super::database::Database;
use super::dump::DumpOptions;
use super::errors::SqlError;
use super::limits::BODY_BYTES;
use super::routes::{Refusal, by_id, off_the_runtime, success};
use super::service::{D1, Endpoint};

/// Where files are put and fetched, as behind a signed address: without a token.
const FILES: &str = "/__d1_files";

/// Files on their way, and work that was begun.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    files: HashMap<String, Bytes>,
    /// MD5s of files that were uploaded.
    uploaded: HashSet<String>,
    /// What a poll of an import will be told, by database.
    imports: HashMap<String, Value>,
    /// The same of an export.
    exports: HashMap<String, Value>,
}

/// The routes of the files.
pub(crate) fn files(state: Arc<D1>) -> Router {
    Router::new()
        .route(&format!("{FILES}/{{name}}"), get(fetch).put(upload))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(state)
}

async fn upload(State(d1): State<Arc<D1>>, Path(name): Path<String>, body: Bytes) -> Response {
    let sum = md5(&body);
    let mut transfers = d1.transfers();
    transfers.uploaded.insert(sum.clone());
    transfers.files.insert(name, body);
    let mut response = StatusCode::OK.into_response();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{sum}\"")) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

async fn fetch(State(d1): State<Arc<D1>>, Path(name): Path<String>) -> Response {
    match d1.transfers().files.get(&name) {
        Some(body) => ([(CONTENT_TYPE, "application/sql")], body.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn md5(body: &[u8]) -> String {
    Md5::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Import {
    Init { etag: String },
    Ingest { filename: String, etag: String },
    Poll,
}

pub(crate) async fn import(
    State(d1): State<Arc<D1>>,
    Path((_, uuid)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    d1.count(Endpoint::Import);
    let database = by_id(&d1, &uuid)?;
    let asked: Import = read(&body)?;
    let answer = match asked {
        Import::Init { etag } => {
            let filename = format!("{uuid}.{etag}.sql");
            if d1.transfers().uploaded.contains(&etag) {
                begin(&d1, database, filename).await?
            } else {
                json!({ "filename": filename, "upload_url": address(&headers, &filename) })
            }
        }
        Import::Ingest { filename, etag } => {
            let there = d1.transfers().files.get(&filename).map(|body| md5(body));
            if there.as_deref() != Some(etag.as_str()) {
                return Err(Refusal::malformed("the file was not uploaded"));
            }
            begin(&d1, database, filename).await?
        }
        Import::Poll => d1.transfers().imports.remove(&uuid).unwrap_or_else(
            || json!({ "success": false, "error": "Not currently importing anything." }),
        ),
    };
    Ok(success(&answer.to_string(), ""))
}

/// Imports a file, keeps what came of it for the poll, and says that it is under way.
async fn begin(d1: &D1, database: Arc<Database>, filename: String) -> Result<Value, Refusal> {
    let Some(body) = d1.transfers().files.get(&filename).cloned() else {
        return Err(Refusal::malformed("no such file"));
    };
    let uuid = database.uuid.clone();
    let (bookmark, end) = off_the_runtime(move || {
        let sql = String::from_utf8_lossy(&body);
        let done = database.import(&sql);
        let bookmark = database.bookmark()?;
        let mut end = polled("import", &bookmark);
        match done {
            Ok(done) => {
                end["status"] = json!("complete");
                end["result"] = json!({
                    "final_bookmark": bookmark,
                    "num_queries": done.queries,
                    "meta": done.meta,
                });
            }
            Err(error) => {
                end["status"] = json!("error");
                end["error"] = json!(error.0);
                end["errors"] = json!([error.0]);
            }
        }
        Ok::<_, SqlError>((bookmark, end))
    })
    .await?
    .map_err(|error| Refusal::sql(error.0))?;
    d1.transfers().imports.insert(uuid, end);
    Ok(polled("import", &bookmark))
}

#[derive(Deserialize)]
struct Export {
    output_format: String,
    #[serde(default)]
    dump_options: DumpOptions,
    #[serde(default)]
    current_bookmark: Option<String>,
}

pub(crate) async fn export(
    State(d1): State<Arc<D1>>,
    Path((_, uuid)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    d1.count(Endpoint::Export);
    let database = by_id(&d1, &uuid)?;
    let Export { output_format, dump_options, current_bookmark } = read(&body)?;
    if output_format != "polling" {
        return Err(Refusal::malformed("output_format must be polling"));
    }
    let begun = d1.transfers().exports.remove(&uuid);
    if let (Some(end), Some(_)) = (begun, current_bookmark) {
        return Ok(success(&end.to_string(), ""));
    }
    let (bookmark, dumped) = off_the_runtime(move || {
        let bookmark = database.bookmark()?;
        Ok::<_, SqlError>((bookmark, database.dump(&dump_options)))
    })
    .await?
    .map_err(|error| Refusal::sql(error.0))?;
    let mut end = polled("export", &bookmark);
    match dumped {
        Ok(sql) => {
            let filename = format!("{uuid}.{bookmark}.sql");
            let signed_url = address(&headers, &filename);
            end["status"] = json!("complete");
            end["result"] = json!({ "filename": filename, "signed_url": signed_url });
            d1.transfers().files.insert(filename, sql.into());
        }
        Err(error) => {
            end["status"] = json!("error");
            end["error"] = json!(error.0);
        }
    }
    d1.transfers().exports.insert(uuid, end);
    Ok(success(&polled("export", &bookmark).to_string(), ""))
}

/// What is said while it goes on.
fn polled(kind: &str, bookmark: &str) -> Value {
    json!({
        "success": true,
        "type": kind,
        "at_bookmark": bookmark,
        "status": "active",
        "messages": [],
    })
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::malformed(format!("The request is malformed: {error}")))
}

/// The address of a file, at the host by which the client came here.
fn address(headers: &HeaderMap, filename: &str) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
    format!("http://{host}{FILES}/{filename}")
}
