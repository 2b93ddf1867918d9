//! Spans that do not fit what D1 is comfortable with at the moment: written in parts, settled
//! exactly whatever becomes of a part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::time::Duration;

use rehome_core::{Effect, Outcome, Pass, Prepared, Probed, Transition as _, Unit};
use rehome_emulator::d1::verifieddit;
use rehome_records::import::ImportSpans;
use support::cloud::{Cloud, Fault, Move, SOURCE, TARGET};

#[tokio::test]
async fn a_whole_application_moves_from_d1_to_d1_though_answers_are_lost() {
    let cloud = Cloud::new().await;
    let users: Vec<_> =
        (0..120).map(|n| (format!("user_{n:027}"), Some(format!("u{n}@example.com")))).collect();
    let counts = cloud
        .d1
        .setup(SOURCE, |connection| verifieddit::fill(connection, &users, 4000, 7))
        .unwrap();
    cloud.d1.execute_sql(TARGET, verifieddit::schema()).unwrap();
    let plan = Move::new(&cloud, &users).await;
    let worker = plan.worker();
    for unit in plan.units().await {
        // Every answer is lost, on its way there or on its way back.
        let lost = if unit.id.0 % 2 == 0 { Fault::Lost } else { Fault::Truncated };
        let attempts = bring(&cloud, &worker, unit, &[lost]).await;
        assert!(attempts < 40, "{attempts}");
    }
    plan.assert_equal(counts.total() as u64).await;
}

/// Brings one span into the target as the engine would, with these faults at each attempt; how
/// often it was tried.
async fn bring(cloud: &Cloud, worker: &ImportSpans, mut unit: Unit, faults: &[Fault]) -> u32 {
    for attempt in 1..100 {
        let prepared = worker.prepare(std::slice::from_ref(&unit), Pass::Patient).await.unwrap();
        let (intent, payload) = match prepared.into_iter().next().unwrap() {
            Prepared::Effect { intent, payload } => (intent, payload),
            Prepared::Advance(done) => {
                assert!(done.rest.is_none(), "{:?}", done.rest);
                return attempt;
            }
            _ => panic!("{} has nothing to write", unit.source_key),
        };
        unit.intent = Some(intent);
        cloud.next(faults);
        match worker.apply(&unit, payload).await {
            Outcome::Done(done) => {
                assert!(done.rest.is_none(), "{:?}", done.rest);
                return attempt;
            }
            Outcome::Unknown { .. } => {}
            other => panic!("{other:?}"),
        }
        match worker.probe(std::slice::from_ref(&unit)).await.unwrap().remove(0) {
            Probed::Done(done) => {
                assert!(done.rest.is_none(), "{:?}", done.rest);
                return attempt;
            }
            Probed::Part(part) => {
                unit.effect = Some(Effect { intent: unit.intent.clone(), data: part.data });
                unit.intent_void = false;
            }
            Probed::Absent => unit.intent_void = true,
            Probed::Conflict(failure) => panic!("{failure:?}"),
        }
    }
    panic!("{} does not arrive", unit.source_key)
}

#[tokio::test]
async fn a_slow_database_is_written_to_in_parts_that_it_can_end_in_time() {
    let cloud = Cloud::new().await;
    let users: Vec<_> =
        (0..120).map(|n| (format!("user_{n:027}"), Some(format!("u{n}@example.com")))).collect();
    let fill = |connection: &rusqlite::Connection| verifieddit::fill(connection, &users, 6000, 9);
    let counts = cloud.d1.setup(SOURCE, fill).unwrap();
    cloud.d1.execute_sql(TARGET, verifieddit::schema()).unwrap();
    let plan = Move::new(&cloud, &users).await;
    // A thousand rows, or the entries of as many indexes, take 30 s.
    cloud.d1.set_write_cost(TARGET, Duration::from_millis(30)).unwrap();
    let worker = plan.worker();
    let mut most = 0;
    for unit in plan.units().await {
        most = most.max(bring(&cloud, &worker, unit, &[]).await);
    }
    assert!((2..8).contains(&most), "{most}");
    plan.assert_equal(counts.total() as u64).await;
    let effects = cloud.d1.counters()["databases"][TARGET].take();
    let (written, failed) = (&effects["write_requests"], &effects["failed_requests"]);
    assert!(failed.as_u64().unwrap() < 8 && written.as_u64().unwrap() > 20, "{written} {failed}");
}

#[tokio::test]
async fn rows_that_need_each_other_go_together_however_large_they_are() {
    let cloud = Cloud::new().await;
    let schema = "CREATE TABLE users (clerk_id TEXT PRIMARY KEY); CREATE TABLE events (payload);
        CREATE TABLE tree (id INTEGER PRIMARY KEY, above INTEGER NOT NULL REFERENCES tree, pad);";
    for uuid in [SOURCE, TARGET] {
        cloud.d1.execute_sql(uuid, schema).unwrap();
    }
    // Every row stands below the next one, and the last below itself.
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
        INSERT INTO tree SELECT i, min(i + 1, 1200), hex(zeroblob(500)) FROM n";
    cloud.d1.execute_sql(SOURCE, &format!("PRAGMA foreign_keys = off; {rows}")).unwrap();
    let plan = Move::new(&cloud, &[]).await;
    let worker = plan.worker();
    let units = plan.units().await;
    assert_eq!(units.len(), 1);
    for unit in units {
        assert_eq!(bring(&cloud, &worker, unit, &[]).await, 1);
    }
    plan.assert_equal(1200).await;
    let effects = cloud.d1.counters()["databases"][TARGET].take();
    assert_eq!(effects["failed_requests"], 1, "a part was refused for want of the rest");
    assert_eq!(effects["write_requests"], 1);
}
