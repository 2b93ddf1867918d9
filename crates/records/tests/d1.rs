//! The D1 client against the emulated D1: exact values both ways, every way an answer can fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as AxumState};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use rehome_core::backoff::Backoff;
use rehome_core::pacer::{Pacer, Rate};
use rehome_core::{
    Condition, Halt, Knowledge, Origin, Outcome, Pass, Prepared, Probed, RemoteTrouble,
    Source as _, Stage, State, Transition as _, Unit, UnitId,
};
use rehome_emulator::d1::{D1, DatabaseSpec, router, verifieddit};
use rehome_records::d1::{D1Config, D1Reader, D1Writer};
use rehome_records::id_search::{Prefix, Sighting, known_to, search};
use rehome_records::ids::IdColumns;
use rehome_records::import::ImportSpans;
use rehome_records::layout::Layout;
use rehome_records::policy::Unmapped;
use rehome_records::schema::{self, Selection};
use rehome_records::span::SpanSource;
use rehome_records::verify::RowAudit;
use rehome_records::{
    DatabaseKind, ReadDatabase, Refusal, Select, Statement, Value, WriteDatabase, Written,
};
use support::Memory;

const SOURCE: &str = "11111111-1111-4111-8111-111111111111";
const TARGET: &str = "22222222-2222-4222-8222-222222222222";

/// What happens to the next requests, in order.
#[derive(Clone, Debug)]
enum Fault {
    None,
    /// Answered without being looked at.
    Instead(StatusCode, &'static str),
    /// Done, and the answer is lost.
    Lost,
    /// Done, and the answer is cut off.
    Truncated,
}

#[derive(Clone, Default)]
struct Faults {
    plan: Arc<Mutex<Vec<Fault>>>,
    seen: Arc<AtomicU32>,
}

async fn meddle(AxumState(faults): AxumState<Faults>, request: Request, next: Next) -> Response {
    faults.seen.fetch_add(1, Ordering::SeqCst);
    let fault = {
        let mut plan = faults.plan.lock().unwrap();
        if plan.is_empty() { Fault::None } else { plan.remove(0) }
    };
    match fault {
        Fault::None => next.run(request).await,
        Fault::Instead(status, body) => (status, [("retry-after", "0")], body).into_response(),
        Fault::Lost => {
            drop(next.run(request).await);
            (StatusCode::BAD_GATEWAY, "<html>").into_response()
        }
        Fault::Truncated => {
            let response = next.run(request).await;
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            Response::new(Body::from(body.slice(..body.len() / 2)))
        }
    }
}

struct Cloud {
    d1: Arc<D1>,
    faults: Faults,
    url: String,
}

impl Cloud {
    async fn new() -> Self {
        let spec = |uuid: &str, name: &str| DatabaseSpec {
            uuid: uuid.to_owned(),
            name: name.to_owned(),
            path: None,
        };
        let databases = vec![spec(SOURCE, "badges-testing"), spec(TARGET, "badges")];
        let d1 = Arc::new(D1::new("acc", "token", databases).unwrap());
        let faults = Faults::default();
        let app: Router = router(Arc::clone(&d1)).layer(from_fn_with_state(faults.clone(), meddle));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/client/v4", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { d1, faults, url }
    }

    fn config(&self, database: &str) -> D1Config {
        let fast = Rate { requests: 1_000_000, window: Duration::from_secs(1) };
        let mut config =
            D1Config::new("acc", database, "token".to_owned().into(), "the D1 database");
        config.api_url.clone_from(&self.url);
        config.pacer = Arc::new(Pacer::new(fast, 1.0));
        config.backoff =
            Backoff { first: Duration::from_millis(1), cap: Duration::from_millis(2), attempts: 3 };
        config
    }

    fn next(&self, plan: &[Fault]) {
        plan.clone_into(&mut self.faults.plan.lock().unwrap());
    }

    async fn reader(&self, name: &str) -> Arc<D1Reader> {
        Arc::new(D1Reader::connect(self.config(name)).await.unwrap())
    }

    async fn writer(&self, name: &str) -> Arc<D1Writer> {
        Arc::new(D1Writer::connect(self.config(name)).await.unwrap())
    }
}

#[tokio::test]
async fn every_value_is_read_and_written_exactly() {
    let cloud = Cloud::new().await;
    cloud.d1.execute_sql(SOURCE, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)").unwrap();
    let database = cloud.writer("badges-testing").await;
    let values = [
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Integer(i64::MAX),
        Value::Integer(9_007_199_254_740_993),
        Value::Real(1.0),
        Value::Real(0.1 + 0.2),
        Value::Real(f64::INFINITY),
        Value::Real(f64::NEG_INFINITY),
        Value::Real(5e-324),
        Value::text("a\0b; '\"\\n\n\u{1F600}"),
        Value::Text(b"bad \xc3\x28".to_vec()),
        Value::Blob(vec![]),
        Value::Blob((0..=255).collect()),
    ];
    for (id, value) in values.iter().enumerate() {
        let mut json = format!("[[{id},");
        value.push_json(&mut json);
        json.push_str("]]");
        let cell = if value.is_odd() {
            "coalesce(unhex(j.value->>'$[1].x'), cast(unhex(j.value->>'$[1].t') as text))"
        } else {
            "j.value->>1"
        };
        let sql = format!("INSERT INTO t SELECT j.value->>0, {cell} FROM json_each(?1) AS j");
        let written = database.write(vec![Statement::with(sql, json)]).await;
        assert!(matches!(written, Written::Done { changes: 1 }), "{written:?}");
    }
    let large: Vec<u8> = (0..1_900_000u32).map(|n| (n % 253) as u8).collect();
    cloud
        .d1
        .setup(SOURCE, |connection| {
            let mut insert = connection.prepare("INSERT INTO t VALUES (?1, ?2)")?;
            insert.query((500, large.as_slice()))?.next()?;
            Ok::<_, rusqlite::Error>(())
        })
        .unwrap();
    let rows = database
        .select(vec![
            Select::new(["v"], "FROM t WHERE id < 500 ORDER BY id"),
            Select::new(["id", "v"], "FROM t ORDER BY id DESC LIMIT 2"),
            Select::new(["count(*)"], "FROM t WHERE id IN (SELECT value FROM json_each(?1))")
                .with("[1,2,900]"),
        ])
        .await
        .unwrap();
    assert_eq!(rows[0], values.map(|value| vec![value]));
    assert_eq!(rows[1][0], [Value::Integer(500), Value::Blob(large)]);
    assert_eq!(rows[2], [[Value::Integer(2)]]);
}

#[tokio::test]
async fn a_database_is_found_by_name_or_uuid_and_a_wrong_one_is_told() {
    let cloud = Cloud::new().await;
    for name in ["badges", TARGET] {
        let database = cloud.reader(name).await;
        assert_eq!(database.identity().id, format!("acc/{TARGET}"));
        assert_eq!(database.identity().name, "badges");
        assert!(database.bookmark().await.unwrap().is_some());
    }
    for name in ["badg", "33333333-3333-4333-8333-333333333333"] {
        let halt = D1Reader::connect(cloud.config(name)).await.err().unwrap();
        assert!(matches!(halt, Halt::Refused { .. }), "{halt:?}");
    }
    let mut config = cloud.config("badges");
    config.api_token = "wrong".to_owned().into();
    let halt = D1Reader::connect(config).await.err().unwrap();
    assert!(
        matches!(halt, Halt::Remote { trouble: RemoteTrouble::Authentication, .. }),
        "{halt:?}"
    );
    assert!(!format!("{halt:?}").contains("wrong"));
    let mut config = cloud.config("badges");
    config.api_url = "http://example.com/client/v4".to_owned();
    assert!(matches!(D1Reader::connect(config).await, Err(Halt::Refused { .. })));
}

#[tokio::test]
async fn reads_are_repeated_and_writes_never() {
    let cloud = Cloud::new().await;
    cloud.d1.execute_sql(TARGET, "CREATE TABLE t (id INTEGER PRIMARY KEY)").unwrap();
    let database = cloud.writer("badges").await;
    let read = || database.select(vec![Select::new(["count(*)"], "FROM t")]);
    let busy = Fault::Instead(StatusCode::TOO_MANY_REQUESTS, "{}");
    cloud.next(&[busy.clone(), Fault::Lost, Fault::Truncated]);
    assert_eq!(read().await.unwrap()[0], [[Value::Integer(0)]]);
    cloud.next(&[Fault::Lost, Fault::Lost, Fault::Lost, Fault::Lost]);
    let halt = read().await.unwrap_err();
    assert!(matches!(halt, Halt::Remote { trouble: RemoteTrouble::Unreachable, .. }), "{halt:?}");
    let halt = database.select(vec![Select::new(["1"], "FROM gone")]).await.unwrap_err();
    assert!(matches!(halt, Halt::Refused { .. }), "{halt:?}");

    let write =
        |id: u32| database.write(vec![Statement::new(format!("INSERT INTO t VALUES ({id})"))]);
    let seen = || cloud.faults.seen.load(Ordering::SeqCst);
    let before = seen();
    cloud.next(&[busy]);
    assert!(matches!(write(1).await, Written::NotSent { halt: None, retry_after: Some(_), .. }));
    cloud.next(&[Fault::Lost]);
    assert!(matches!(write(1).await, Written::Unknown { .. }));
    assert!(
        matches!(write(1).await, Written::Refused { refusal: Refusal::Unique, .. }),
        "it was done"
    );
    cloud.next(&[Fault::Truncated]);
    assert!(matches!(write(2).await, Written::Unknown { .. }));
    cloud.next(&[Fault::Instead(StatusCode::FORBIDDEN, "{}")]);
    assert!(matches!(write(3).await, Written::NotSent { halt: Some(_), .. }));
    cloud.next(&[Fault::Instead(StatusCode::FOUND, "")]);
    assert!(
        matches!(write(3).await, Written::NotSent { halt: Some(_), .. }),
        "no redirect is followed"
    );
    assert_eq!(seen() - before, 6, "each was sent once");
    assert_eq!(read().await.unwrap()[0], [[Value::Integer(2)]]);
}

struct Move {
    source: Arc<dyn ReadDatabase>,
    target: Arc<dyn WriteDatabase>,
    layout: Arc<Layout>,
    journal: Arc<Memory>,
}

impl Move {
    async fn new(cloud: &Cloud, users: &[(String, Option<String>)]) -> Self {
        let source = cloud.reader("badges-testing").await as Arc<dyn ReadDatabase>;
        let target = cloud.writer("badges").await as Arc<dyn WriteDatabase>;
        let from = schema::read(source.as_ref(), &Selection::default()).await.unwrap();
        let all = Selection { tables: None, exclude: Vec::new() };
        let to = schema::read(target.as_ref(), &all).await.unwrap();
        assert!(schema::compare(&from, &to, DatabaseKind::D1).is_empty());
        let declared = ["users.clerk_id", "events.payload:$.actor.id"]
            .map(|place| (place.to_owned(), "user".to_owned()));
        let ids = IdColumns::resolve(&BTreeMap::from(declared), &from).unwrap();
        let journal = Arc::new(Memory::default());
        for (user, _) in users {
            journal.mapped(user, &user.replace("user_", "user_new"), Origin::Created);
        }
        Self { source, target, layout: Arc::new(Layout::new(&from, &to, &ids)), journal }
    }

    fn knowledge(&self) -> Arc<dyn Knowledge> {
        Arc::clone(&self.journal) as Arc<dyn Knowledge>
    }

    fn worker(&self) -> ImportSpans {
        ImportSpans::new(
            Arc::clone(&self.source),
            Arc::clone(&self.target),
            self.knowledge(),
            Arc::clone(&self.layout),
            Unmapped::Keep,
            2,
        )
    }

    async fn units(&self) -> Vec<Unit> {
        let spans = SpanSource::new(Arc::clone(&self.source), Arc::clone(&self.layout));
        let (mut units, mut cursor) = (Vec::new(), None);
        loop {
            let page = spans.next_page(cursor).await.unwrap();
            for found in page.units {
                units.push(Unit {
                    id: UnitId(units.len() as i64 + 1),
                    kind: spans.kind(),
                    scope: found.scope,
                    source_key: found.source_key,
                    target_key: None,
                    origin: None,
                    label: found.label,
                    state: State::new(Stage::Exported, Condition::Ready),
                    attempts: 0,
                    failure: None,
                    data: found.data,
                    intent: None,
                    intent_void: false,
                    effect: None,
                });
            }
            if page.done {
                return units;
            }
            cursor = Some(page.cursor);
        }
    }
}

#[tokio::test]
async fn a_table_of_a_hundred_columns_fits_every_limit() {
    let cloud = Cloud::new().await;
    let columns: Vec<_> = (1..100).map(|n| format!("a_rather_long_name_{n} BLOB")).collect();
    let schema = format!("CREATE TABLE users (clerk_id TEXT PRIMARY KEY, {})", columns.join(", "));
    for uuid in [SOURCE, TARGET] {
        cloud.d1.execute_sql(uuid, &schema).unwrap();
        cloud.d1.execute_sql(uuid, "CREATE TABLE events (payload)").unwrap();
    }
    let cells = vec!["x'00ff'"; 98].join(", ");
    cloud
        .d1
        .execute_sql(SOURCE, &format!("INSERT INTO users VALUES ('user_1', {cells}, 'by user_1')"))
        .unwrap();
    // A webhook was here first.
    cloud.d1.execute_sql(TARGET, "INSERT INTO users (clerk_id) VALUES ('user_new1')").unwrap();
    let plan = Move::new(&cloud, &[("user_1".to_owned(), None)]).await;
    let worker = plan.worker();
    let mut unit = plan.units().await.remove(0);
    let prepared = worker.prepare(std::slice::from_ref(&unit), Pass::Patient).await.unwrap();
    let Prepared::Effect { intent, payload } = prepared.into_iter().next().unwrap() else {
        panic!("nothing to write")
    };
    unit.intent = Some(intent);
    let outcome = worker.apply(&unit, payload).await;
    assert!(matches!(&outcome, Outcome::Done(done) if done.rest.is_none()), "{outcome:?}");

    let target = cloud.reader("badges").await;
    let all = Selection { tables: None, exclude: Vec::new() };
    let schema = schema::read(target.as_ref(), &all).await.unwrap();
    let prefixes =
        ["user_", "org_"].map(|prefix| Prefix { kind: support::USER, prefix: prefix.to_owned() });
    let known = known_to(plan.journal.as_ref());
    let mut left = Vec::new();
    let mut see = |sighting: Sighting| {
        left.push((sighting.column, sighting.id));
        ControlFlow::Continue(())
    };
    search(target.as_ref(), &schema, &prefixes, &known, None, &mut see).await.unwrap();
    assert_eq!(left, [("a_rather_long_name_99".to_owned(), "user_1".to_owned())]);
}

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
    let mut bookmarks = 0;
    for mut unit in plan.units().await {
        let prepared = worker.prepare(std::slice::from_ref(&unit), Pass::Patient).await.unwrap();
        let Prepared::Effect { intent, payload } = prepared.into_iter().next().unwrap() else {
            panic!("{} has nothing to write", unit.source_key)
        };
        bookmarks += usize::from(intent.get("bookmark").is_some());
        unit.intent = Some(intent);
        // Every answer is lost, on its way there or on its way back.
        cloud.next(&[if unit.id.0 % 2 == 0 { Fault::Lost } else { Fault::Truncated }]);
        let outcome = worker.apply(&unit, payload).await;
        assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
        let probed = worker.probe(std::slice::from_ref(&unit)).await.unwrap().remove(0);
        assert!(matches!(&probed, Probed::Done(done) if done.rest.is_none()), "{probed:?}");
    }
    assert_eq!(bookmarks, 1, "one bookmark, before the first write");

    let target = Arc::clone(&plan.target) as Arc<dyn ReadDatabase>;
    let audit = RowAudit::new(
        Arc::clone(&plan.source),
        target,
        plan.knowledge(),
        Arc::clone(&plan.layout),
        Unmapped::Keep,
    );
    let reports = audit
        .tables(&mut |table, key, finding| panic!("{table} {key}: {finding:?}"))
        .await
        .unwrap();
    let equal: u64 = reports.iter().map(|report| report.equal).sum();
    assert_eq!(equal, counts.total() as u64);
    assert!(reports.iter().all(|report| report.extra == 0));
    assert!(audit.broken_references().await.unwrap().is_empty());
}
