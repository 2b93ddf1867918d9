//! Networks and servers that misbehave: lost answers, errors, throttling, truncated bodies.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_emulator::FaultPlan;
use rehome_emulator::fault::{BodyKind, Fault, RetryAfter, Rule, When};
use rehome_tests::{Databases, Judge, Options, Stage};

async fn bear(databases: Databases, seed: u64, rules: Vec<Rule>) {
    let options = Options { users: 200, rows: 900, seed, databases, ..Options::default() };
    let stage = Stage::set(options).await;
    stage.emulator.set_faults(FaultPlan { seed, rules });
    let _complete = stage.run().await.expect(0);
    let met: u64 =
        [stage.source().counters(), stage.target().counters(), stage.emulator.d1_counters()]
            .iter()
            .flat_map(|counters| counters.faults.values())
            .sum();
    assert!(met > 0, "the plan met no request");
    stage.emulator.clear_faults();
    Judge::default().accepts(&stage).await;
    stage.replay();
}

fn status(status: u16, when: When, body: BodyKind) -> Fault {
    Fault::Status { status, body, retry_after: None, when }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers() {
    let reset = |when| Rule::always(Fault::Reset { when }).with_probability(0.02);
    bear(Databases::Sqlite, 21, vec![reset(When::After), reset(When::Before)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_errors_before_and_after_the_effect() {
    let error = |when, body| Rule::always(status(500, when, body)).with_probability(0.02);
    let gateway = Rule::always(status(502, When::After, BodyKind::Html)).with_probability(0.01);
    let rules =
        vec![error(When::After, BodyKind::Json), error(When::Before, BodyKind::Empty), gateway];
    bear(Databases::Sqlite, 22, rules).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttling() {
    let busy = |retry_after| {
        let body = BodyKind::Json;
        let fault = Fault::Status { status: 429, body, retry_after, when: When::Before };
        Rule::always(fault).with_probability(0.02)
    };
    let rules = vec![busy(None), busy(Some(RetryAfter::Seconds(1))).times(3)];
    bear(Databases::Sqlite, 23, rules).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_answers() {
    let rules = vec![Rule::always(Fault::Truncate).with_probability(0.01)];
    bear(Databases::Sqlite, 24, rules).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_over_d1() {
    let rules = vec![
        Rule::always(Fault::Reset { when: When::After }).with_probability(0.02),
        Rule::always(status(500, When::After, BodyKind::Json)).with_probability(0.02),
        Rule::always(status(503, When::Before, BodyKind::Html)).with_probability(0.01),
        Rule::always(Fault::Truncate).with_probability(0.01),
    ];
    bear(Databases::D1, 25, rules).await;
}
