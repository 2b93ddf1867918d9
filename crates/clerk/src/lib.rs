//! Clerk as a migration sees it: a thin typed client of the Backend API, and the workers that
//! move users from one instance to another.
//!
//! The parts, from the wire up:
//!
//! - [`wire`] says what one HTTP exchange can end in; [`http`] is the wire that leaves the
//!   machine; [`transport`] adds the pacer and sorts answers into *answered*, *throttled*, *not
//!   sent* and *lost*. No other code of the workspace speaks to Clerk.
//! - [`Reader`] has only reads and repeats them by itself; [`Writer`] adds the writes, each sent
//!   once. A dry run is given a `Reader` and so cannot write, by type.
//! - [`Profile`] is everything of a user that the target can be given, in one canonical JSON
//!   form; [`CreateUser`] is the single request that makes an account of it.
//! - [`UserSource`], [`CreateUsers`] and [`MapUsers`] are the workers that the engine drives;
//!   [`audit`] compares both sides afresh.
//! - [`amend`] brings accounts up to date whose users have changed in the source since.
//! - [`undo`] is the way back: which accounts are still as they were left, and [`DeleteUsers`].
//!
//! What is claimed here about Clerk comes from its OpenAPI file `bapi/2026-05-12.yml`
//! (github.com/clerk/openapi-specs); operations are named by their `operationId`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test stands outside the walls"))]

pub mod alias;
pub mod amend;
pub mod api;
pub mod audit;
pub mod compare;
pub mod create;
pub mod create_users;
pub mod decide;
pub mod error;
pub mod export;
pub mod http;
mod lookup;
pub mod map_users;
pub mod matcher;
pub mod policy;
pub mod profile;
pub mod query;
pub mod reader;
pub mod recover;
mod refusal;
mod remote_clock;
pub mod retry_after;
pub mod settle;
pub mod transport;
pub mod undo;
mod walk;
pub mod wire;
pub mod writer;

pub use amend::AmendUsers;
pub use audit::Audit;
pub use compare::{Difference, Expected, compare};
pub use create::CreateUser;
pub use create_users::CreateUsers;
pub use decide::Decision;
pub use error::{ApiError, Refusal};
pub use export::{Journaled, UserSource};
pub use http::{Connection, HttpWire, Unusable};
pub use map_users::MapUsers;
pub use matcher::Matcher;
pub use policy::{Attribute, ExternalId, OnExisting, UserPolicy};
pub use profile::{Profile, Status};
pub use query::Filter;
pub use reader::{ReadError, Reader};
pub use recover::Recovery;
pub use transport::Transport;
pub use undo::{DeleteUsers, Judgement, Standing};
pub use writer::{Attempt, Changed, Writer};

use rehome_core::Kind;

/// The kind of a user, in journals and outputs.
pub const USER: Kind = Kind::new("user");
