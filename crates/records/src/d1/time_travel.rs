//! Time Travel: the mark of a moment, and the way back to it.
//!
//! D1 keeps the last 7 days (30 on a paid plan) and can be taken back to any moment of them:
//! <https://developers.cloudflare.com/d1/reference/time-travel/>. A restore is the bluntest of
//! tools: it takes back what everybody wrote, not only what rehome did.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rehome_core::Halt;

use super::answer::{self, Trouble};
use super::{Api, Client};
use crate::database::Restored;

impl Client {
    /// The mark of the present moment; `None` where there are none.
    pub(super) async fn bookmark(&self) -> Result<Option<String>, Halt> {
        match self.api {
            Api::Cloudflare { .. } => {}
            Api::LocalExplorer => return Ok(None),
        }
        let path = format!("{}/time_travel/bookmark", self.path);
        let result = self.get(&path).await.map_err(|trouble| self.halt(trouble))?;
        Ok(text(&result, "bookmark"))
    }

    /// Takes the database back to a mark, once.
    pub(super) async fn restore(&self, bookmark: &str) -> Restored {
        match self.api {
            Api::Cloudflare { .. } => {}
            Api::LocalExplorer => {
                return Restored::Refused {
                    message: "`wrangler dev` keeps no history of a database".to_owned(),
                };
            }
        }
        // In the query, not in the body (wrangler, `src/d1/timeTravel/restore.ts`).
        let mark = utf8_percent_encode(bookmark, NON_ALPHANUMERIC);
        let path = format!("{}/time_travel/restore?bookmark={mark}", self.path);
        match answer::document(self.transport.post(&path, &serde_json::json!({})).await) {
            Ok(result) => Restored::Done { previous: text(&result, "previous_bookmark") },
            Err(Trouble::Lost { reason }) => Restored::Unknown { reason },
            Err(
                Trouble::Refused { message, .. }
                | Trouble::Closed { message, .. }
                | Trouble::Gone { message },
            ) => Restored::Refused { message },
            Err(Trouble::Later { reason, .. }) => Restored::Refused { message: reason },
        }
    }
}

fn text(document: &serde_json::Value, name: &str) -> Option<String> {
    document.get(name).and_then(serde_json::Value::as_str).map(str::to_owned)
}
