//! The application answers each new account with a bare row of its own, while rehome moves the real
//! one: in the end the real one stands.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_tests::webhook::Handler;
use rehome_tests::{Databases, Judge, Options, Stage};

async fn race(databases: Databases, seed: u64) {
    let options = Options { users: 200, rows: 900, seed, databases, ..Options::default() };
    let stage = Stage::set(options).await;
    let handler = Handler::start(&stage.emulator, &stage.databases().unwrap().1);
    let _complete = stage.run().await.expect(0);
    handler.settled().await;
    assert!(handler.rows() > 20, "only {} rows were there before rehome's", handler.rows());
    drop(handler);
    Judge::default().accepts(&stage).await;
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn against_a_file() {
    race(Databases::Sqlite, 41).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn against_d1() {
    race(Databases::D1, 42).await;
}
