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

use super::transport::Reply;
use crate::database::Refusal;

/// The answer to one statement.
#[derive(Debug, Default)]
pub(super) struct QueryResult {
    /// Rows of JSON values.
    pub(super) rows: Vec<Vec<serde_json::Value>>,
    /// `meta.changes`.
    pub(super) changes: u64,
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

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    success: bool,
    #[serde(default)]
    result: serde_json::Value,
    #[serde(default)]
    errors: Option<Vec<ApiError>>,
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
    rows: Vec<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    changes: Option<f64>,
}

/// The `result` of a plain call.
pub(super) fn document(reply: Reply) -> Result<serde_json::Value, Trouble> {
    envelope(reply).map(|envelope| envelope.result)
}

/// The results of a batch, one per statement.
pub(super) fn results(reply: Reply) -> Result<Vec<QueryResult>, Trouble> {
    let envelope = envelope(reply)?;
    let raw: Vec<RawResult> = serde_json::from_value(envelope.result).map_err(|error| {
        Trouble::Lost { reason: format!("an answer that is not D1's: {error}") }
    })?;
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
            let changes = result.meta.and_then(|meta| meta.changes).unwrap_or(0.0) as u64;
            Ok(QueryResult {
                rows: result.results.map(|rows| rows.rows).unwrap_or_default(),
                changes,
            })
        })
        .collect()
}

fn envelope(reply: Reply) -> Result<Envelope, Trouble> {
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
            Ok(envelope) if envelope.success => Ok(envelope),
            Ok(envelope) => Err(failed(status, &envelope, retry_after)),
            Err(error) => Err(Trouble::Lost {
                reason: format!("an answer that cannot be read (status {status}): {error}"),
            }),
        };
    }
    let envelope = parsed.unwrap_or(Envelope {
        success: false,
        result: serde_json::Value::Null,
        errors: None,
    });
    Err(failed(status, &envelope, retry_after))
}

/// Words of the store's machinery, which say that the statement may have run.
const LOST: &[&str] = &[
    "network connection lost",
    "caused object to be reset",
    "reset because its code was updated",
    "internal error",
    "timed out",
    "timeout",
    "exceeded its cpu",
    "out of memory",
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply::Answered { status, body: body.as_bytes().to_vec(), retry_after: None }
    }

    fn error(status: u16, code: i64, message: &str) -> Trouble {
        let body = serde_json::json!({"messages": [], "result": [], "success": false,
            "errors": [{"code": code, "message": message}]});
        results(reply(status, &body.to_string())).unwrap_err()
    }

    #[test]
    fn a_production_sql_error_is_a_refusal() {
        let trouble = error(400, 7500, "too many SQL variables at offset 434: SQLITE_ERROR");
        assert!(matches!(trouble, Trouble::Refused { refusal: Refusal::Other, .. }));
        let trouble = error(400, 7500, "UNIQUE constraint failed: users.id: SQLITE_CONSTRAINT");
        assert!(matches!(trouble, Trouble::Refused { refusal: Refusal::Unique, .. }));
        let trouble = error(400, 7500, "FOREIGN KEY constraint failed");
        assert!(matches!(trouble, Trouble::Refused { refusal: Refusal::ForeignKey, .. }));
        let trouble = error(500, 10001, "integer overflow: SQLITE_ERROR");
        assert!(matches!(trouble, Trouble::Refused { refusal: Refusal::Guard, .. }));
    }

    #[test]
    fn what_may_have_happened_is_never_called_a_refusal() {
        for message in [
            "Network connection lost.",
            "D1 DB storage operation exceeded timeout which caused object to be reset.",
            "D1 DB reset because its code was updated.",
            "internal error; reference = abc",
        ] {
            for status in [400, 500, 502] {
                let trouble = error(status, 7500, message);
                assert!(matches!(trouble, Trouble::Lost { .. }), "{message}: {trouble:?}");
            }
        }
        for body in ["", "{", "<html>", "{\"success\":true,\"result\":[{\"results\":3}]}"] {
            let trouble = results(reply(200, body)).unwrap_err();
            assert!(matches!(trouble, Trouble::Lost { .. }), "{body}: {trouble:?}");
        }
    }

    #[test]
    fn busy_closed_and_missing_are_told_apart() {
        let busy = error(429, 7500, "D1 DB is overloaded. Requests queued for too long.");
        assert!(matches!(busy, Trouble::Later { .. }));
        let export = error(400, 7500, "Currently processing a long-running export.");
        assert!(matches!(export, Trouble::Later { .. }));
        let key = error(403, 10000, "Authentication error");
        assert!(matches!(key, Trouble::Closed { trouble: RemoteTrouble::Authentication, .. }));
        let gone = error(404, 7404, "The database x could not be found");
        assert!(matches!(gone, Trouble::Gone { .. }));
    }

    /// A text with some of its bytes changed, taken out or doubled.
    fn damaged(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let cut = (any::<prop::sample::Index>(), 0_usize..12, ".{0,8}", any::<bool>());
        prop::collection::vec(cut, 1..6).prop_map(move |cuts| {
            let mut bytes = text.as_bytes().to_vec();
            for (at, length, put, twice) in cuts {
                let at = at.index(bytes.len() + 1);
                let end = (at + length).min(bytes.len());
                let mut new = put.into_bytes();
                if twice {
                    let old = bytes[at..end].to_vec();
                    new.extend(old.iter().chain(&old));
                }
                bytes.splice(at..end, new);
            }
            bytes
        })
    }

    const ROWS: &str = r#"{"success":true,"errors":[],"result":[{"results":{"columns":["a"],
        "rows":[["i:1"],[null]]},"success":true,"meta":{"changes":2}}]}"#;
    const REFUSED: &str = r#"{"success":false,"result":[],"errors":[{"code":7500,
        "message":"UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT"}]}"#;

    proptest! {
        #[test]
        fn any_answer_is_survived_and_only_a_success_is_one(
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                damaged(ROWS),
                damaged(REFUSED),
            ],
            status in prop_oneof![Just(200), 100_u16..600],
        ) {
            let reply = || Reply::Answered { status, body: body.clone(), retry_after: None };
            let understood = document(reply()).is_ok() | results(reply()).is_ok();
            prop_assert!(!understood || (200..300).contains(&status));
        }
    }
}
