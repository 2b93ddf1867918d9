//! Cloudflare's D1 REST API over real SQLite files.
//!
//! A migration tool is judged by how it treats the awkward parts of D1: a JSON that rounds 64-bit
//! integers, numbers bound as doubles, foreign keys that cannot be turned off, a hundred bound
//! parameters, statements split on the server. So this emulator does not imitate SQL; it hands
//! every statement to the same SQLite release line that D1 runs and adds what Cloudflare puts
//! around it: the authorizer (`authorizer`), the limits (`limits`), the transaction per request
//! (`database`), the lossy conversions (`values`), the error texts (`errors`), the bookmark
//! (`bookmark`) and the envelope of the API (`routes`). Beside that API it serves the smaller one of
//! `wrangler dev` (`explorer`).
//!
//! What it promises: a request that succeeds here would succeed against D1 as far as the documented
//! and measured behaviour goes, and a value that D1 would damage is damaged here in the same way.
//! Files go in and come out by `/import` and `/export` (`transfer`), the latter with all that D1's own
//! dump loses (`dump`). What it does not do: creating or deleting databases; those answer like a path
//! that does not exist. A restore leads only to bookmarks that somebody was told (`history`).
//!
//! Chosen without a published source, so no client should lean on it: the wording beside codes 7400,
//! 7404 and 7003, the refusal of a bookmark that is not known, code 971 beside status 429, that entries of a batch are cut at `;` like a single
//! text, that the bookmark moves with every write and only then, and the count in `rows_read` (rows
//! delivered or steps of full scans, whichever is more).
//!
//! Beside the API a test can set databases up ([`D1::execute_sql`], [`D1::setup`]), make them slow
//! without waiting ([`D1::set_write_cost`]), open the files
//! with a connection of its own ([`D1::open_path`]) and ask for the effects that reached them
//! ([`D1::counters`]).
//!
//! Sources: developers.cloudflare.com/api/resources/d1, developers.cloudflare.com/d1/platform/limits,
//! and the authorizer and limits of `workerd` (`src/workerd/util/sqlite.c++`).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod authorizer;
mod bookmark;
mod complete;
mod counters;
mod database;
mod dump;
mod errors;
mod explorer;
mod history;
mod limits;
mod rate;
mod results;
mod routes;
mod service;
mod statements;
mod storage;
mod transfer;
mod values;
pub mod verifieddit;

#[cfg(test)]
mod tests;

pub use routes::router;
pub use service::{D1, DatabaseSpec, DatabaseView, Error};
