//! A user who has changed in the source after the export: the difference is applied to the account.
//!
//! The journal keeps how the user was when the account was last brought up to date (the *base*),
//! and how the source shows the user now. Three states are compared, field by field: what only the
//! source has changed is carried over, what only the target has changed stays the target's, and
//! what both have changed to different things is a conflict for a person; nothing that somebody has
//! set in the target is overwritten silently.
//!
//! The API has no request that does all of it, so one step is taken at a time ([`next`]), each with
//! an intent of its own, until none is left. The next step follows from what the account is then,
//! so a step that was lost or repeated does no harm.

mod form;
mod step;
mod users;

pub use form::Amendment;
pub use step::{Next, next};
pub use users::AmendUsers;
