//! Counters and the figures of `meta`.

use super::*;

#[tokio::test]
async fn meta_tells_what_a_statement_did() {
    let served =
        with_schema("CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE INDEX t_a ON t(a)").await;
    let result =
        served.raw(json!({ "sql": "insert into t (a) values (1), (2); select * from t" })).await;
    let meta = &result[0]["meta"];
    assert_eq!(meta["changes"], 2);
    assert_eq!(meta["last_row_id"], 2);
    assert_eq!(meta["changed_db"], true);
    assert_eq!(meta["rows_written"], 4);
    assert!(meta["duration"].is_number());
    assert!(meta["size_after"].as_u64().unwrap() >= 4096);
    let meta = &result[1]["meta"];
    assert_eq!((&meta["changes"], &meta["changed_db"]), (&json!(0), &json!(false)));
    assert_eq!((&meta["rows_read"], &meta["rows_written"]), (&json!(2), &json!(0)));
    assert_eq!(result[1]["success"], true);
}

#[tokio::test]
async fn counts_committed_writes_per_row_key() {
    let served = with_schema(
        "CREATE TABLE u (id TEXT PRIMARY KEY, n); INSERT INTO u VALUES ('seeded', 0);
         CREATE TABLE i (id INTEGER PRIMARY KEY); INSERT INTO i VALUES (3); CREATE TABLE w (k PRIMARY KEY) WITHOUT ROWID;",
    )
    .await;
    served
        .raw(json!({ "batch": [
            { "sql": "insert into u values ('user_a', 1), ('user_b', 1)" },
            { "sql": "insert into i values (7), (9)" },
            { "sql": "insert into w values (1)" },
        ]}))
        .await;
    served.raw(json!({ "sql": "update u set n = 2 where id = 'user_a'" })).await;
    served.error("insert into u values ('user_c', 1), ('user_c', 1)").await;
    served.raw(json!({ "sql": "delete from i" })).await;
    served.rows("select * from u").await;

    let counters = served.d1.counters();
    let main = &counters["databases"][MAIN];
    assert_eq!(main["name"], "app-testing");
    assert_eq!(
        main["tables"]["u"],
        json!({
            "inserted": 2, "updated": 1, "deleted": 0, "rows": { "user_a": 2, "user_b": 1 }
        })
    );
    assert_eq!(
        main["tables"]["i"],
        json!({
            "inserted": 2, "updated": 0, "deleted": 3, "rows": { "3": 1, "7": 2, "9": 2 }
        })
    );
    assert_eq!(main["unnamed_changes"], 1);
    assert_eq!((&main["write_requests"], &main["failed_requests"]), (&json!(3), &json!(1)));
    assert_eq!(counters["requests"]["raw"], 5);
    assert_eq!(counters["databases"][OTHER]["tables"], json!({}));
}

#[tokio::test]
async fn other_connections_read_and_write_beside_it() {
    let served = with_schema("CREATE TABLE t (a)").await;
    served.raw(json!({ "sql": "insert into t values (1)" })).await;
    let path = served.d1.open_path(MAIN).unwrap();
    let own = rusqlite::Connection::open(&path).unwrap();
    let seen: i64 = own.query_row("select a from t", [], |row| row.get(0)).unwrap();
    assert_eq!(seen, 1);
    own.execute("insert into t values (2)", []).unwrap();
    assert_eq!(served.rows("select a from t").await, json!([[1], [2]]));
    assert!(served.d1.open_path("nowhere").is_err());
    assert_eq!(served.d1.databases()[0].path, path);
}

#[test]
fn private_files_go_with_the_account() {
    let d1 = two_databases();
    let path = d1.open_path(MAIN).unwrap();
    assert!(path.exists());
    drop(d1);
    assert!(!path.exists());
    assert!(!path.parent().unwrap().exists());
}

#[tokio::test]
async fn a_given_file_stays_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let spec = DatabaseSpec {
        uuid: MAIN.to_owned(),
        name: "kept".to_owned(),
        path: Some(folder.path().join("kept.sqlite")),
    };
    let first = serve(D1::new(ACCOUNT, TOKEN, vec![spec.clone()]).unwrap()).await;
    first.raw(json!({ "sql": "create table t (a); insert into t values (1)" })).await;
    let bookmark = first.bookmark().await;
    drop(first);
    let second = serve(D1::new(ACCOUNT, TOKEN, vec![spec]).unwrap()).await;
    assert_eq!(second.rows("select a from t").await, json!([[1]]));
    assert_eq!(second.bookmark().await, bookmark);
}

#[tokio::test]
async fn requests_at_once_wait_for_each_other() {
    let served = with_schema("CREATE TABLE t (a)").await;
    let body = json!({ "sql": "insert into t values ('x'); insert into t values ('y')" });
    let requests = (0..20).map(|_| served.raw(body.clone()));
    futures::future::join_all(requests).await;
    assert_eq!(served.rows("select count(*) from t").await, json!([[40]]));
}
