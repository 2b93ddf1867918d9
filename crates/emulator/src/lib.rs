//! Clerk's Backend API and Cloudflare's D1 API on 127.0.0.1, with a memory.
//!
//! A migration is only as good as what it was tried against, and no real
//! instance lets itself be filled with a hundred thousand people, throttled at
//! will, cut off in the middle of an answer, and asked afterwards how often it
//! really created each of them. This crate does:
//!
//! - **Clerk** ([`Instance`]): users with every documented field, strict about
//!   what a create may carry, unique where Clerk is unique, errors with Clerk's
//!   codes and statuses (`bapi/2026-05-12` of clerk/openapi-specs and the error
//!   table of clerk-docs). Several instances live side by side and are told
//!   apart by their secret keys.
//! - **D1** ([`d1`]): Cloudflare's REST API over real SQLite files.
//! - **Faults** ([`fault`]): a seeded plan of resets, truncated answers, wrong
//!   shapes, delays, statuses, people who come and go; before or after the
//!   effect; for both APIs alike.
//! - **Evidence** ([`Counters`], [`Effect`], the tape): what was asked, what
//!   was done, how often, and how fast.
//! - **People** ([`seed`]): populations that are varied, and the same for the
//!   same seed.
//!
//! Where Clerk's documentation is silent (shape of the rate window, a deleted
//! cursor, delay until a new user is found), the behaviour is a setting
//! ([`Settings`]), so that a client can be shown to bear either.
//!
//! ```no_run
//! # async fn example() -> Result<(), rehome_emulator::Error> {
//! use rehome_emulator::{Emulator, EmulatorConfig, InstanceConfig, seed};
//!
//! let emulator = Emulator::start(EmulatorConfig {
//!     instances: vec![InstanceConfig::development("source"), InstanceConfig::production("target")],
//!     ..EmulatorConfig::default()
//! })
//! .await?;
//! if let Some(source) = emulator.instance("source") {
//!     for user in seed::users(1000, 7) {
//!         source.insert_seed(user)?;
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! Another process steers it through the control path:
//!
//! | request under `/__emulator/` | does |
//! | --- | --- |
//! | `GET counters`, `GET requests`, `GET state` | evidence, as JSON |
//! | `GET faults`, `PUT faults` | the fault plan; `PUT {}` clears it |
//! | `GET settings?instance=`, `PUT settings?instance=` | an instance's settings; `PUT` changes the given keys |
//! | `POST users?instance=`, `DELETE users/{id}?instance=` | puts a [`seed::SeedUser`] in, takes a user out |
//! | `POST users/{id}/sign_in?instance=`, `POST users/{id}/activity?instance=` | somebody signs in to a user's account, or goes on using it |
//! | `PATCH users/{id}?instance=` | changes names, metadata, identifiers or a password as their owner would |
//! | `POST reset` | sets the counters back |
//!
//! Without a socket, in virtual time, it is asked through [`Emulator::embedded`]
//! and [`Emulator::call`].
//!
//! It lives in memory, on loopback only, and is no part of a release path
//! other than demonstration and rehearsal.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test stands outside the walls"))]

mod body;
mod clerk;
mod clock;
mod config;
mod control;
mod counters;
mod crowd;
pub mod d1;
mod edge;
mod error;
pub mod fault;
mod ids;
mod instance;
mod limiter;
mod record;
mod refusal;
pub mod seed;
mod server;
mod store;
mod user;
mod webhook;

pub use config::{
    Attribute, Cursor, EmulatorConfig, Environment, InstanceConfig, RateLimit, Settings,
    WindowShape,
};
pub use counters::Counters;
pub use error::Error;
pub use fault::FaultPlan;
pub use instance::{Effect, Instance};
pub use server::{Cut, Emulator};
pub use store::Credentials;
pub use user::{ExternalAccount, Identifier, Link, Metadata, User, Verification};
