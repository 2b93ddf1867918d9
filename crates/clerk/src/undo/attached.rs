//! What the target's databases still hold about an account that is to be deleted.
//!
//! The databases are another crate's; this is the door between the two, so small that either
//! side can be tested without the other.

use futures::future::BoxFuture;
use rehome_core::{Done, Halt, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a row is to the account that it mentions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tie {
    /// The account's id is the row's identity, and this migration did not write it: the
    /// application made it when it heard of the account. It goes with the account.
    Echo,
    /// Any other row that this migration did not write: the application's own data about the
    /// account. It keeps the account alive.
    Own,
    /// A row that this migration wrote and that stays for a reason of its own. It keeps the
    /// account, too.
    Ours,
}

/// A row of the target that mentions an account.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    /// The account's id in the target.
    pub account: String,
    /// The table.
    pub table: String,
    /// The row's key, as a person would look for it.
    pub key: String,
    /// What the row is to the account.
    pub tie: Tie,
    /// Everything that is needed to put an [`Tie::Echo`] back by hand; null for other rows.
    /// Journaled with the intent.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub content: Value,
}

/// The target's databases, as far as a deletion of accounts has to know them.
pub trait Attached: Send + Sync {
    /// Every row that mentions one of these accounts (ids of the target, at most a few hundred).
    /// Only reads.
    ///
    /// # Errors
    /// A [`Halt`] when a database cannot be read, past all retries.
    fn look<'a>(&'a self, accounts: &'a [String]) -> BoxFuture<'a, Result<Vec<Attachment>, Halt>>;

    /// Removes these rows, all of one account and all [`Tie::Echo`], as far as they are still
    /// there and still what [`Attached::look`] saw. Sent once; the intent that names them is
    /// durable. `Done` also when they were gone already.
    fn clear<'a>(&'a self, rows: &'a [Attachment]) -> BoxFuture<'a, Outcome>;
}

/// For a migration without databases: nothing mentions anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unattached;

impl Attached for Unattached {
    fn look<'a>(&'a self, _: &'a [String]) -> BoxFuture<'a, Result<Vec<Attachment>, Halt>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn clear<'a>(&'a self, _: &'a [Attachment]) -> BoxFuture<'a, Outcome> {
        Box::pin(std::future::ready(Outcome::Done(Done::default())))
    }
}
