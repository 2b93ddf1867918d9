//! The tape: each Clerk request and its answer as one JSON line, from which
//! the OpenAPI judge checks both sides against the specification. It never
//! holds the Authorization header, and secrets of a body are masked.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    /// `development` or `production`; null when the key was unknown.
    pub(crate) instance: Option<&'static str>,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) request_body: Option<Value>,
    /// None when a fault broke the connection before there was an answer.
    pub(crate) status: Option<u16>,
    pub(crate) response_body: Option<Value>,
    pub(crate) content_type: Option<&'a str>,
    /// The kind of the injected fault, if one was. For `status` the answer is
    /// the injected one; for every other kind, `status_after` among them, it is
    /// what the emulator itself answered before the fault spoiled it.
    pub(crate) fault: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) struct Tape(Mutex<File>);

impl Tape {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(|file| Self(Mutex::new(file)))
            .map_err(|source| Error::Record { path: path.to_owned(), source })
    }

    pub(crate) fn write(&self, line: &Line<'_>) {
        let Ok(mut text) = serde_json::to_vec(line) else { return };
        text.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(&text) {
            tracing::warn!(%error, "a line of the tape was lost");
        }
    }
}

/// A body as JSON with its secrets masked, or as text when it is none.
pub(crate) fn masked(body: &[u8]) -> Option<Value> {
    if body.is_empty() {
        return None;
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
        return Some(Value::String(String::from_utf8_lossy(body).into_owned()));
    };
    for name in ["password", "password_digest", "totp_secret"] {
        if let Some(secret) = value.get_mut(name).filter(|secret| secret.is_string()) {
            *secret = Value::String("(masked)".to_owned());
        }
    }
    if let Some(Value::Array(codes)) = value.get_mut("backup_codes") {
        codes.fill(Value::String("(masked)".to_owned()));
    }
    Some(value)
}
