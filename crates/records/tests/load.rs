//! Many spans in one file, by D1's `/import`: exact, and settled whatever becomes of a request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use rehome_core::progress::Unwatched;
use rehome_core::{Effect, Outcome, Pass, Prepared, Probed, Transition as _, Unit};
use rehome_emulator::d1::verifieddit;
use rehome_records::import::LoadSpans;
use rehome_records::span::SpanData;
use support::cloud::{Cloud, Fault, Move, SOURCE, TARGET};

const UNAVAILABLE: &str = r#"{"success":false,"errors":[{"code":7009,"message":"timeout"}]}"#;
const BUSY: &str = r#"{"success":false,"errors":[{"code":7500,"message":"D1 DB is overloaded."}]}"#;

async fn application(cloud: &Cloud, rows: usize) -> (Move, u64) {
    let users: Vec<_> =
        (0..60).map(|n| (format!("user_{n:027}"), Some(format!("u{n}@example.com")))).collect();
    let fill = |connection: &rusqlite::Connection| verifieddit::fill(connection, &users, rows, 7);
    let made = cloud.d1.setup(SOURCE, fill).unwrap();
    cloud.d1.execute_sql(TARGET, verifieddit::schema()).unwrap();
    (Move::new(cloud, &users).await, made.total() as u64)
}

fn worker(plan: &Move) -> LoadSpans {
    LoadSpans::new(plan.worker(), 1, Arc::new(Unwatched))
}

/// How each span of a batch that was brought there ended, by its key: `done`, or a failure's code.
type Ends = BTreeMap<String, String>;

/// Brings a batch into the target as the engine would, with these faults at the first attempt;
/// how often there was something to write, and how it ended.
async fn bring(
    cloud: &Cloud,
    worker: &LoadSpans,
    mut units: Vec<Unit>,
    faults: &[Fault],
) -> (u32, Ends) {
    let mut ends = Ends::new();
    for attempt in 0..20 {
        let prepared = worker.prepare(&units, Pass::Final).await.unwrap();
        let (mut due, mut payloads) = (Vec::new(), Vec::new());
        for (mut unit, prepared) in units.into_iter().zip(prepared) {
            match prepared {
                Prepared::Effect { intent, payload } => {
                    unit.intent = Some(intent);
                    due.push(unit);
                    payloads.push(payload);
                }
                Prepared::Advance(done) => {
                    assert!(done.rest.is_none(), "{:?}", done.rest);
                    ends.insert(unit.source_key, "done".to_owned());
                }
                Prepared::Fail { failure, .. } => {
                    ends.insert(unit.source_key, failure.code);
                }
                _ => panic!("{} has nothing to write", unit.source_key),
            }
        }
        if due.is_empty() {
            return (attempt, ends);
        }
        cloud.next(if attempt == 0 { faults } else { &[] });
        let outcomes = worker.apply_joint(&due, payloads).await;
        cloud.next(&[]);
        assert_eq!(outcomes.len(), due.len());
        units = Vec::new();
        for (mut unit, outcome) in due.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Done(done) => {
                    let end = match done.rest {
                        None => "done".to_owned(),
                        Some(rehome_core::Rest::Failed { failure, .. }) => failure.code,
                        Some(rest) => panic!("{rest:?}"),
                    };
                    ends.insert(unit.source_key, end);
                }
                Outcome::NotSent { halt: None, .. } => {
                    unit.intent_void = true;
                    units.push(unit);
                }
                Outcome::Unknown { .. } => {
                    let probed = worker.probe(std::slice::from_ref(&unit)).await.unwrap().remove(0);
                    match probed {
                        Probed::Done(done) => {
                            assert!(done.rest.is_none(), "{:?}", done.rest);
                            ends.insert(unit.source_key, "done".to_owned());
                        }
                        Probed::Absent => {
                            unit.intent_void = true;
                            units.push(unit);
                        }
                        Probed::Part(part) => {
                            let intent = unit.intent.clone();
                            unit.effect = Some(Effect { intent, data: part.data });
                            unit.intent_void = false;
                            units.push(unit);
                        }
                        Probed::Conflict(failure) => panic!("{failure:?}"),
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("it does not arrive")
}

/// The spans of each table, in copy order.
async fn batches(plan: &Move) -> Vec<Vec<Unit>> {
    let mut tables: Vec<Vec<Unit>> = Vec::new();
    for unit in plan.units().await {
        match tables.last_mut() {
            Some(batch) if batch.first().is_some_and(|first| first.scope == unit.scope) => {
                batch.push(unit);
            }
            Some(_) | None => tables.push(vec![unit]),
        }
    }
    tables
}

fn target(cloud: &Cloud) -> serde_json::Value {
    cloud.d1.counters()["databases"][TARGET].take()
}

/// Requests to a part of the API, so far.
fn imports(cloud: &Cloud) -> u64 {
    cloud.d1.counters()["requests"]["import"].as_u64().unwrap()
}

#[tokio::test]
async fn a_whole_application_goes_in_files_whatever_request_of_them_goes_wrong() {
    let instead = |status, body| Fault::Instead(status, body);
    let gone = || instead(StatusCode::GATEWAY_TIMEOUT, UNAVAILABLE);
    let busy = || instead(StatusCode::TOO_MANY_REQUESTS, BUSY);
    // In the order of requests: init, the file, ingest, poll.
    let storms: Vec<Vec<Fault>> = vec![
        vec![],
        vec![Fault::Lost],
        vec![busy()],
        vec![gone()],
        vec![Fault::None, Fault::Lost],
        vec![Fault::None, gone()],
        vec![Fault::None, Fault::None, Fault::Lost],
        vec![Fault::None, Fault::None, Fault::Truncated],
        vec![Fault::None, Fault::None, busy()],
        vec![Fault::None, Fault::None, gone()],
        vec![Fault::None, Fault::None, Fault::None, Fault::Lost],
        vec![Fault::None, Fault::None, Fault::None, Fault::Truncated],
        vec![Fault::None, Fault::None, Fault::None, busy(), gone(), busy()],
    ];
    for storm in storms {
        let cloud = Cloud::new().await;
        let (plan, counts) = application(&cloud, 600).await;
        let worker = worker(&plan);
        for batch in batches(&plan).await {
            let (attempts, ends) = bring(&cloud, &worker, batch, &storm).await;
            assert!(ends.values().all(|end| end == "done"), "{storm:?}: {ends:?}");
            assert!(attempts <= 2, "{storm:?}: {attempts}");
        }
        plan.assert_equal(counts).await;
        assert!(imports(&cloud) >= 2 * 5, "{storm:?}: by files");
    }
}

#[tokio::test]
async fn each_batch_of_plain_rows_is_one_import() {
    let cloud = Cloud::new().await;
    let (plan, counts) = application(&cloud, 600).await;
    let worker = worker(&plan);
    let tables = batches(&plan).await;
    let many = tables.len() as u64;
    for batch in tables {
        bring(&cloud, &worker, batch, &[]).await;
    }
    plan.assert_equal(counts).await;
    // Announced, taken, asked about once.
    assert_eq!(imports(&cloud), 3 * many);
    assert_eq!(target(&cloud)["write_requests"], many);
}

#[tokio::test]
async fn few_rows_are_not_worth_a_file() {
    let cloud = Cloud::new().await;
    let (plan, counts) = application(&cloud, 300).await;
    let worker = LoadSpans::new(plan.worker(), 100_000, Arc::new(Unwatched));
    for batch in batches(&plan).await {
        bring(&cloud, &worker, batch, &[]).await;
    }
    plan.assert_equal(counts).await;
    assert_eq!(imports(&cloud), 0);
}

/// Somebody writes between the look and the import: nothing of the file is there, nothing of theirs
/// is overwritten, and all other rows go by requests.
#[tokio::test]
async fn a_refused_file_leaves_nothing_and_its_rows_go_by_requests() {
    let cloud = Cloud::new().await;
    let table = "CREATE TABLE users (clerk_id TEXT PRIMARY KEY); CREATE TABLE events (payload);
        CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT);";
    for uuid in [SOURCE, TARGET] {
        cloud.d1.execute_sql(uuid, table).unwrap();
    }
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
        INSERT INTO notes SELECT i, 'note ' || i FROM n";
    cloud.d1.execute_sql(SOURCE, rows).unwrap();
    let plan = Move::new(&cloud, &[]).await;
    let worker = worker(&plan);
    let units = plan.units().await;
    assert_eq!(units.len(), 3);

    let prepared = worker.prepare(&units, Pass::Final).await.unwrap();
    cloud.d1.execute_sql(TARGET, "INSERT INTO notes VALUES (40000, 'theirs')").unwrap();
    let (mut due, mut payloads) = (Vec::new(), Vec::new());
    for (mut unit, prepared) in units.into_iter().zip(prepared) {
        let Prepared::Effect { intent, payload } = prepared else { panic!("nothing to write") };
        unit.intent = Some(intent);
        due.push(unit);
        payloads.push(payload);
    }
    let outcomes = worker.apply_joint(&due, payloads).await;
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Unknown { reason } if reason.contains("UNIQUE constraint"));
    assert!(outcomes.iter().all(refused), "{outcomes:?}");
    assert_eq!(imports(&cloud), 3);
    let found = worker.probe(&due).await.unwrap();
    for (unit, probed) in due.iter_mut().zip(found) {
        assert!(matches!(probed, Probed::Absent), "{probed:?}");
        unit.intent_void = true;
    }

    let hit = |unit: &Unit| {
        let span = SpanData::of(unit).unwrap();
        span.hi.first().and_then(serde_json::Value::as_i64).is_some_and(|hi| hi >= 40_000)
            && span.lo.is_none_or(|lo| lo.first().unwrap().as_i64().unwrap() < 40_000)
    };
    let conflicts: Vec<_> =
        due.iter().filter(|unit| hit(unit)).map(|unit| unit.source_key.clone()).collect();
    let (_, ends) = bring(&cloud, &worker, due, &[]).await;
    let failed: Vec<_> = ends.iter().filter(|(_, end)| *end != "done").collect();
    assert_eq!(failed, [(&conflicts[0], &"row_conflict".to_owned())]);
    assert_eq!(imports(&cloud), 3, "no second file");
    assert_eq!(target(&cloud)["tables"]["notes"]["inserted"], 59_999);
}
