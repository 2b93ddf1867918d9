//! `/import`: a file of statements, all or nothing, in a handful of requests.
//!
//! As wrangler 4.164.0 and <https://developers.cloudflare.com/d1/tutorials/import-to-d1-with-rest-api/>
//! do it: the import is announced by the MD5 of the file (*init*), the file goes to an address of
//! its own (without the token: that address is no part of the API), the database is told to take it
//! (*ingest*), and is asked until it has (*poll*). A file that was uploaded before is taken at once
//! by the first of these; so already that one may change something.
//!
//! It is not one SQL transaction. Cloudflare restores the database when a statement fails. While it
//! goes on nobody else is answered, so this client asks nothing else meanwhile either.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::answer::{self, Trouble};
use super::transport::Upload;
use super::{Api, Client};
use crate::database::{Refusal, Written};
use crate::script::Script;

/// How long to wait before asking how far it is: at first, and at most.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// After so long nobody waits any more. The largest file is 5 GiB.
const PATIENCE: Duration = Duration::from_hours(2);

/// Any answer of `/import`.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    filename: Option<String>,
    #[serde(default)]
    upload_url: Option<String>,
    #[serde(default)]
    success: Option<bool>,
    #[serde(default)]
    at_bookmark: Option<String>,
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    result: Option<Finished>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Active,
    Complete,
    Error,
}

#[derive(Deserialize)]
struct Finished {
    #[serde(default)]
    num_queries: Option<u64>,
}

/// What an answer says of an import that was begun.
enum Stand {
    Active { bookmark: Option<String> },
    Over(Written),
}

impl Client {
    /// Whether this API has `/import`.
    pub(super) const fn takes_files(&self) -> bool {
        match self.api {
            Api::Cloudflare { .. } => true,
            Api::LocalExplorer => false,
        }
    }

    /// Imports a file, once.
    pub(super) async fn import(&self, script: Script) -> Written {
        let _alone = self.quiet.write().await;
        let statements = script.statements();
        let begun = match self.begin(script).await {
            Ok(begun) => begun,
            Err(written) => return written,
        };
        let mut stand = standing(&begun, statements);
        let (mut wait, mut waited) = (FIRST, Duration::ZERO);
        loop {
            let bookmark = match stand {
                Stand::Active { bookmark } => bookmark,
                Stand::Over(written) => return written,
            };
            if waited > PATIENCE {
                let reason = "the import did not end".to_owned();
                return Written::Unknown { reason };
            }
            tokio::time::sleep(wait).await;
            waited += wait;
            wait = (wait * 2).min(LONGEST);
            let body = json!({ "action": "poll", "current_bookmark": bookmark });
            // Asking changes nothing, so it may be repeated.
            let asked = self.retried(|| async { self.ask(&body).await }).await;
            stand = match asked {
                Ok(answer) => standing(&answer, statements),
                Err(trouble) => {
                    let reason = format!("nobody says how the import ended: {trouble:?}");
                    return Written::Unknown { reason };
                }
            };
        }
    }

    /// Announces the file, brings it, and has it taken.
    async fn begin(&self, script: Script) -> Result<Answer, Written> {
        let (sum, length) = (script.md5().to_owned(), script.length());
        let init = json!({ "action": "init", "etag": sum });
        let answer = self.ask(&init).await.map_err(|trouble| self.written(trouble))?;
        let Some(url) = &answer.upload_url else {
            return Ok(answer);
        };
        // Nothing was told to begin, so nothing has.
        let unsent = |reason| Written::NotSent { reason, retry_after: None, halt: None };
        let Some(filename) = &answer.filename else {
            return Err(unsent("an import without a name for its file".to_owned()));
        };
        match self.transport.put(url, script.into_file(), length).await {
            Upload::Done { etag } if etag.as_deref().is_none_or(|etag| etag == sum) => {}
            Upload::Done { etag } => {
                let there = etag.unwrap_or_default();
                return Err(unsent(format!("the file arrived changed: {there} instead of {sum}")));
            }
            Upload::Failed { reason } => {
                return Err(unsent(format!("the file could not be brought: {reason}")));
            }
        }
        let ingest = json!({ "action": "ingest", "filename": filename, "etag": sum });
        self.ask(&ingest).await.map_err(|trouble| self.written(trouble))
    }

    async fn ask(&self, body: &serde_json::Value) -> Result<Answer, Trouble> {
        let path = format!("{}/import", self.path);
        let document = answer::document(self.transport.post(&path, body).await)?;
        Answer::deserialize(&document).map_err(|error| Trouble::Lost {
            reason: format!("an answer about an import that cannot be read: {error}"),
        })
    }
}

fn standing(answer: &Answer, statements: u64) -> Stand {
    let error = || answer.error.clone().unwrap_or_else(|| "without a reason".to_owned());
    Stand::Over(match answer.status {
        // "Not currently importing anything.": over, and nobody knows how.
        _ if answer.success == Some(false) => Written::Unknown { reason: error() },
        Some(Status::Active) => {
            return Stand::Active { bookmark: answer.at_bookmark.clone() };
        }
        Some(Status::Complete) => {
            match answer.result.as_ref().and_then(|result| result.num_queries) {
                Some(done) if done != statements => Written::Unknown {
                    reason: format!("{done} statements were imported, of {statements}"),
                },
                Some(_) | None => Written::Done { changes: 0 },
            }
        }
        Some(Status::Error) => {
            let message = error();
            Written::Refused { refusal: Refusal::from_message(&message), message }
        }
        None => Written::Unknown { reason: "an import without a status".to_owned() },
    })
}
