//! One request that changes an account.

use serde_json::{Map, Value, json};

use crate::query;
use crate::wire::Method;

/// Which of the two lists an identifier is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum List {
    /// E-mail addresses.
    Emails,
    /// Phone numbers.
    Phones,
}

impl List {
    const fn path(self) -> &'static str {
        match self {
            Self::Emails => "/email_addresses",
            Self::Phones => "/phone_numbers",
        }
    }

    const fn param(self) -> &'static str {
        match self {
            Self::Emails => "email_address",
            Self::Phones => "phone_number",
        }
    }
}

/// A change of one account, as one request.
#[derive(Clone, PartialEq, Debug)]
pub enum Amendment {
    /// Fields of the profile (`UpdateUser`).
    Fields(Map<String, Value>),
    /// Whole fields of metadata (`ReplaceUserMetadata`): a merge could not take a key away.
    Metadata(Map<String, Value>),
    /// One more address or number (`CreateEmailAddress`, `CreatePhoneNumber`). Nobody is told.
    Add {
        /// Where.
        list: List,
        /// The address or number.
        value: String,
        /// Whether it is proven to be the user's.
        verified: bool,
    },
    /// Whether an address or number is proven (`UpdateEmailAddress`, `UpdatePhoneNumber`).
    Verify {
        /// Where.
        list: List,
        /// Its id.
        id: String,
        /// Whether it is.
        verified: bool,
    },
    /// Which address or number comes first.
    Primary {
        /// Where.
        list: List,
        /// Its id.
        id: String,
    },
    /// An address or number goes (`DeleteEmailAddress`, `DeletePhoneNumber`).
    Remove {
        /// Where.
        list: List,
        /// Its id.
        id: String,
    },
    /// `BanUser` or `UnbanUser`.
    Banned(bool),
    /// `LockUser` or `UnlockUser`.
    Locked(bool),
}

impl Amendment {
    /// What it does, in a word for the journal and for a person; without any value.
    pub fn what(&self) -> String {
        match self {
            Self::Fields(fields) | Self::Metadata(fields) => {
                fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
            }
            Self::Add { list, .. } => format!("one more {}", list.param()),
            Self::Verify { list, .. } => format!("the status of an {}", list.param()),
            Self::Primary { list, .. } => format!("the primary {}", list.param()),
            Self::Remove { list, .. } => format!("one {} less", list.param()),
            Self::Banned(_) => "banned".to_owned(),
            Self::Locked(_) => "locked".to_owned(),
        }
    }

    /// The request for the account `user`: method, path below `/v1`, and body.
    pub(crate) fn request(&self, user: &str) -> (Method, String, Option<Value>) {
        let user_path = |rest: &str| format!("/users/{}{rest}", query::encode(user));
        let one = |list: &List, id: &str| format!("{}/{}", list.path(), query::encode(id));
        match self {
            Self::Fields(fields) => {
                (Method::Patch, user_path(""), Some(Value::Object(fields.clone())))
            }
            Self::Metadata(fields) => {
                (Method::Put, user_path("/metadata"), Some(Value::Object(fields.clone())))
            }
            Self::Add { list, value, verified } => {
                let body = json!({"user_id": user, list.param(): value, "verified": verified});
                (Method::Post, list.path().to_owned(), Some(body))
            }
            Self::Verify { list, id, verified } => {
                (Method::Patch, one(list, id), Some(json!({ "verified": verified })))
            }
            Self::Primary { list, id } => {
                (Method::Patch, one(list, id), Some(json!({ "primary": true })))
            }
            Self::Remove { list, id } => (Method::Delete, one(list, id), None),
            Self::Banned(true) => (Method::Post, user_path("/ban"), None),
            Self::Banned(false) => (Method::Post, user_path("/unban"), None),
            Self::Locked(true) => (Method::Post, user_path("/lock"), None),
            Self::Locked(false) => (Method::Post, user_path("/unlock"), None),
        }
    }
}
