//! A database as rehome sees it: a schema, exact values, pages by key, atomic batches.
//!
//! Two kinds of database stand behind the same two traits: a SQLite file and a Cloudflare D1
//! database behind its REST API. [`ReadDatabase`] answers questions; [`WriteDatabase`] performs
//! one atomic request, once. Code that must not write (a check, a plan, a verification) is given
//! only the former, so that it cannot: by type, not by a flag.
//!
//! On top of them stand the schema ([`schema`]), the columns that carry the ids of users and
//! organizations ([`ids`]), the rewriting of rows ([`rewrite`]), the spans of rows that move as
//! one unit ([`span`]), and the workers that the engine of `rehome-core` drives: forth
//! ([`import`]) and back ([`undo`]).
//!
//! What the crate promises: no value changes on its way, whatever its type (64-bit integers,
//! doubles, blobs, text with NUL or broken UTF-8); a row of the live application is never
//! overwritten; and everything that was written is known by key, so that a lost answer can be
//! settled and a rollback can tell our rows from theirs.
//!
//! It knows nothing of Clerk, prints nothing, and reads no environment.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test stands outside the walls"))]

pub mod d1;
pub mod database;
pub mod graph;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod hostile;
pub mod id_search;
pub mod ids;
pub mod import;
pub mod in_place;
mod json_edit;
pub mod json_path;
mod json_rows;
pub mod layout;
mod misdirected;
pub mod plan;
pub mod policy;
mod quiet;
pub mod rekey;
mod resolve;
pub mod rewrite;
pub mod schema;
pub mod script;
pub mod span;
pub mod sqlite;
mod survey;
mod target_rows;
pub mod undo;
pub mod value;
pub mod verify;

pub use database::{
    DatabaseIdentity, DatabaseKind, Limits, ReadDatabase, Refusal, Restored, Rows, Select,
    Statement, WriteDatabase, Written,
};
pub use value::Value;
