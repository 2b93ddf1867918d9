//! The D1 client against the emulated D1: exact values both ways, every way an answer can fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use axum::http::StatusCode;
use rehome_core::Transition as _;
use rehome_core::{Halt, Outcome, Pass, Prepared, RemoteTrouble};
use rehome_records::d1::{Api, D1Config, D1Reader, D1Writer};
use rehome_records::id_search::{Prefix, Sighting, known_to, search};
use rehome_records::schema;
use rehome_records::schema::Selection;
use rehome_records::{
    ReadDatabase as _, Refusal, Select, Statement, Value, WriteDatabase as _, Written,
};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use support::cloud::{Cloud, Fault, Move, SOURCE, TARGET};

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
        Value::Text(b"bad \xc3\x28".to_vec().into()),
        Value::Blob(vec![].into()),
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
    assert_eq!(rows[1][0], [Value::Integer(500), Value::Blob(large.into())]);
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
    let token = "wrong".to_owned().into();
    config.api = Api::Cloudflare { account_id: "acc".to_owned(), token };
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
async fn the_local_explorer_is_talked_to_like_d1_and_creates_nothing() {
    let cloud = Cloud::new().await;
    cloud.d1.execute_sql(TARGET, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)").unwrap();
    let explorer = cloud.url.replace("/client/v4", "/cdn-cgi/local/explorer/api");
    let config = |database: &str| {
        let mut config = D1Config::local_explorer(database, "the D1 database");
        config.api_url.clone_from(&explorer);
        config
    };
    for name in ["badges", TARGET] {
        let database = D1Writer::connect(config(name)).await.unwrap();
        assert_eq!(database.identity().id, format!("local-explorer/{TARGET}"));
        assert_eq!(database.identity().name, "badges");
        assert_eq!(database.bookmark().await.unwrap(), None);
    }
    let before = cloud.faults.seen.load(Ordering::SeqCst);
    for name in ["badg", "33333333-3333-4333-8333-333333333333"] {
        let halt = D1Reader::connect(config(name)).await.err().unwrap();
        assert!(matches!(halt, Halt::Refused { .. }), "{halt:?}");
    }
    let asked = cloud.faults.seen.load(Ordering::SeqCst) - before;
    assert_eq!(asked, 2, "a uuid that is asked for would be created: only the list was read");

    let database = D1Writer::connect(config("badges")).await.unwrap();
    let insert = |json: &str| {
        let sql = "INSERT INTO t SELECT j.value->>0, j.value->>1 FROM json_each(?1) AS j";
        database.write(vec![Statement::with(sql, json)])
    };
    let written = insert("[[1,9007199254740993],[2,1.0]]").await;
    assert!(matches!(written, Written::Done { changes: 2 }), "{written:?}");
    let refused = insert("[[1,0]]").await;
    assert!(matches!(refused, Written::Refused { refusal: Refusal::Unique, .. }), "{refused:?}");
    let rows = database.select(vec![Select::new(["v"], "FROM t ORDER BY id")]).await.unwrap();
    assert_eq!(rows[0], [[Value::Integer(9_007_199_254_740_993)], [Value::Real(1.0)]]);

    let mut elsewhere = config("badges");
    elsewhere.api_url = "https://example.com/cdn-cgi/local/explorer/api".to_owned();
    assert!(matches!(D1Reader::connect(elsewhere).await, Err(Halt::Refused { .. })));
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
    let journal = plan.journal.as_ref();
    search(target.as_ref(), &schema, &prefixes, journal, &known, &mut see).await.unwrap();
    assert_eq!(left, [("a_rather_long_name_99".to_owned(), "user_1".to_owned())]);
}
