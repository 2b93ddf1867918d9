//! What an answer of D1's API means.
//!
//! The envelope is `{"success", "result", "errors": [{"code", "message"}], …}`; for a batch,
//! `result` has one object per statement with `results.columns` and `results.rows`. Codes as
//! observed in production: 7500 with status 400 for every SQL error, 7404 for an unknown
//! database, 10000 for a token that is not accepted, 7400 for a malformed request, 429 for an
//! overloaded database and for the API's own rate limit. Some refusals of the store's machinery
//! come as 7500 too and are told apart by their words
//! (<https://developers.cloudflare.com/d1/best-practices/retry-queries/>). Whatever cannot be
//! told for certain counts as lost.

use std::time::Duration;

use rehome_core::RemoteTrouble;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::exact::Cell;
use super::transport::Reply;
use crate::database::Refusal;

/// The answer to one statement.
#[derive(Debug, Default)]
pub(super) struct QueryResult {
    /// Its rows, each cell read where it stands: an answer of some megabytes is never a tree of
    /// JSON values as well.
    pub(super) rows: Vec<Vec<Cell>>,
    /// `meta.changes`.
    pub(super) changes: u64,
    /// `meta.duration`: how long the SQL took. Nothing where it is not told.
    pub(super) took: Duration,
}

/// Anything but an answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQLite said no; nothing happened.
    Refused { refusal: Refusal, message: String },
    /// Not now; nothing happened.
    Later { reason: String, retry_after: Option<Duration> },
    /// Not in this run; nothing happened.
    Closed { trouble: RemoteTrouble, message: String },
    /// There is no such database.
    Gone { message: String },
    /// It may have happened.
    Lost { reason: String },
}

/// What is around every result, whatever that is.
#[derive(Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    success: bool,
    #[serde(default)]
    errors: Option<Vec<ApiError>>,
}

/// The result of a call that went well.
#[derive(Deserialize)]
struct Content<T> {
    #[serde(default)]
    result: T,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct RawResult {
    #[serde(default)]
    results: Option<RawRows>,
    #[serde(default)]
    success: Option<bool>,
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct RawRows {
    #[serde(default)]
    rows: Vec<Vec<Cell>>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    changes: Option<f64>,
    /// In milliseconds.
    #[serde(default)]
    duration: Option<f64>,
}

/// The `result` of a plain call.
pub(super) fn document(reply: Reply) -> Result<serde_json::Value, Trouble> {
    content(&successful(reply)?)
}

/// The results of a batch, one per statement.
pub(super) fn results(reply: Reply) -> Result<Vec<QueryResult>, Trouble> {
    let raw: Vec<RawResult> = content(&successful(reply)?)?;
    raw.into_iter()
        .map(|result| {
            if result.success == Some(false) {
                return Err(Trouble::Lost {
                    reason: "a statement without success in a successful answer".to_owned(),
                });
            }
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count that the API writes as a JSON number; `as` saturates"
            )]
            let changes = result.meta.as_ref().and_then(|meta| meta.changes).unwrap_or(0.0) as u64;
            let took = result.meta.and_then(|meta| meta.duration).unwrap_or(0.0) / 1000.0;
            Ok(QueryResult {
                rows: result.results.map(|rows| rows.rows).unwrap_or_default(),
                changes,
                // A number that no duration can be made of says nothing.
                took: Duration::try_from_secs_f64(took).unwrap_or_default(),
            })
        })
        .collect()
}

fn content<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Trouble> {
    match serde_json::from_slice::<Content<T>>(body) {
        Ok(content) => Ok(content.result),
        Err(error) => Err(Trouble::Lost { reason: format!("an answer that is not D1's: {error}") }),
    }
}

/// The body of an answer that tells of success.
fn successful(reply: Reply) -> Result<Vec<u8>, Trouble> {
    let (status, body, retry_after) = match reply {
        Reply::Answered { status, body, retry_after } => (status, body, retry_after),
        Reply::NotSent { reason } => {
            return Err(Trouble::Later { reason, retry_after: None });
        }
        Reply::Lost { reason } => return Err(Trouble::Lost { reason }),
    };
    let parsed = serde_json::from_slice::<Envelope>(&body);
    if (200..300).contains(&status) {
        return match parsed {
            Ok(envelope) if envelope.success => Ok(body),
            Ok(envelope) => Err(failed(status, &envelope, retry_after)),
            Err(error) => Err(Trouble::Lost {
                reason: format!("an answer that cannot be read (status {status}): {error}"),
            }),
        };
    }
    Err(failed(status, &parsed.unwrap_or_default(), retry_after))
}

/// Words of the store's machinery, which say that the statement may have run. Some of them read as
/// if it had not; but a write that is taken for lost costs one look, and the reverse a row.
const LOST: &[&str] = &[
    "network connection lost",
    "caused object to be reset",
    "reset because its code was updated",
    "internal error",
    "timed out",
    "timeout",
    "exceeded its cpu",
    "exceeded its memory limit",
    "out of memory",
    "transient issue on remote node",
    "client disconnected",
];
/// Words that say that it was turned away before it ran.
const LATER: &[&str] = &[
    "overloaded",
    "queued for too long",
    "too many requests queued",
    "long-running export",
    "long-running import",
    "currently processing",
];
/// Words of a used-up plan.
const QUOTA: &[&str] = &["daily", "quota", "maximum db size", "storage limit", "exceeded maximum"];

fn failed(status: u16, envelope: &Envelope, retry_after: Option<Duration>) -> Trouble {
    let errors = envelope.errors.as_deref().unwrap_or_default();
    let code = errors.first().map_or(0, |error| error.code);
    let message = if errors.is_empty() {
        format!("status {status}")
    } else {
        let all: Vec<_> =
            errors.iter().map(|error| format!("{} [{}]", error.message, error.code)).collect();
        all.join(", ")
    };
    let words = message.to_lowercase();
    let says = |list: &[&str]| list.iter().any(|phrase| words.contains(phrase));
    // SQLite's own result codes stand at the end of its messages, whatever the HTTP status.
    let from_sqlite = message.contains("SQLITE_") || words.contains("constraint failed");
    if from_sqlite && !words.contains("sqlite_busy") && !words.contains("sqlite_full") {
        return Trouble::Refused { refusal: Refusal::from_message(&message), message };
    }
    if status == 429 || says(LATER) {
        return Trouble::Later { reason: message, retry_after };
    }
    if says(QUOTA) || words.contains("sqlite_full") {
        return Trouble::Closed { trouble: RemoteTrouble::Quota, message };
    }
    if says(LOST) || status >= 500 || (200..300).contains(&status) {
        return Trouble::Lost { reason: message };
    }
    match (status, code) {
        (401 | 403, _) | (_, 10000 | 9109) => {
            Trouble::Closed { trouble: RemoteTrouble::Authentication, message }
        }
        (404, _) | (_, 7404) => Trouble::Gone { message },
        (413, _) => Trouble::Refused { refusal: Refusal::TooBig, message },
        (400, 7500) => Trouble::Refused { refusal: Refusal::from_message(&message), message },
        (_, _) => Trouble::Closed { trouble: RemoteTrouble::Protocol, message },
    }
}

/// What to do about each sort of trouble.
pub(super) const fn hint(trouble: RemoteTrouble) -> &'static str {
    match trouble {
        RemoteTrouble::Authentication => {
            "the API token needs `D1 Read` for a source and `D1 Edit` for a target, in this account"
        }
        RemoteTrouble::Quota => {
            "the plan's limit is used up; the free plan's counters start anew at 00:00 UTC"
        }
        RemoteTrouble::Unreachable => "run again when the API can be reached; nothing is lost",
        RemoteTrouble::Protocol => "see api_url: this does not answer as Cloudflare's API does",
    }
}

#[cfg(test)]
mod tests;
