//! The way back for accounts: what this migration created in the target is deleted again, and
//! nothing else.
//!
//! An account is only deleted while it is still what the migration made of it. Once somebody has
//! signed in to it, or anybody has changed it, it is a person's account, and deleting it would
//! take from them what no journal can give back: [`judge`] finds that out, read-only, and
//! [`DeleteUsers`] judges each account once more right before it acts. Adopted accounts were
//! there before; they live on, untouched.
//!
//! What mentions an account in the target's databases is asked through [`Attached`], because
//! rows are none of Clerk's business: a row that the application's webhook made for an account
//! goes before the account does, and any other row keeps it alive.

mod attached;
mod delete_users;
mod judge;

pub use attached::{Attached, Attachment, Tie, Unattached};
pub use delete_users::{DeleteUsers, NAMED_ROWS, rows_remain};
pub use judge::{Judgement, Standing, judge};
pub(crate) use judge::{creation, present};
