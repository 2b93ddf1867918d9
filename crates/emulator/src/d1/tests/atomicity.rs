//! One transaction per request, foreign keys, bookmarks.

use super::*;

const FAMILY: &str = "CREATE TABLE parent (id TEXT PRIMARY KEY);
    CREATE TABLE child (id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent(id));";

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    let served = with_schema("CREATE TABLE t (c UNIQUE)").await;
    let message = served
        .failure(json!({ "batch": [
            { "sql": "insert into t values (1)" },
            { "sql": "insert into t values (?)", "params": ["x"] },
            { "sql": "insert into t values (1)" },
        ]}))
        .await;
    assert_eq!(message, "UNIQUE constraint failed: t.c: SQLITE_CONSTRAINT");
    assert_eq!(served.rows("select count(*) from t").await, json!([[0]]));
    let kept = served
        .raw(json!({ "batch": [
            { "sql": "insert into t values (1)" },
            { "sql": "select c from t" },
        ]}))
        .await;
    assert_eq!(kept[1]["results"], json!({ "columns": ["c"], "rows": [[1]] }));
}

#[tokio::test]
async fn several_statements_in_one_text_share_the_transaction() {
    let served = with_schema("CREATE TABLE t (c)").await;
    let results = served
        .raw(json!({
            "sql": "insert into t values ('a;b'); insert into t values (?); ",
            "params": ["c"],
        }))
        .await;
    assert_eq!(results.as_array().unwrap().len(), 2);
    assert_eq!(served.rows("select c from t").await, json!([["a;b"], ["c"]]));
    let message = served
        .failure(json!({ "sql": "insert into t values (?); select 1", "params": ["x"] }))
        .await;
    assert!(message.contains("only the last statement can have parameters"), "{message}");
    assert!(served.error(" -- nothing").await.starts_with("No SQL statements detected."));
    assert!(
        served
            .failure(json!({ "sql": "select ?, ?", "params": ["x"] }))
            .await
            .starts_with("Wrong number of parameter bindings")
    );
}

#[tokio::test]
async fn foreign_keys_cannot_be_turned_off() {
    let served = with_schema(FAMILY).await;
    let failed = "FOREIGN KEY constraint failed: SQLITE_CONSTRAINT";
    let orphan = "insert into child values (1, 'nobody')";
    assert_eq!(served.error(orphan).await, failed);
    assert_eq!(served.error(&format!("PRAGMA foreign_keys=off; {orphan}")).await, failed);
    served.rows("PRAGMA foreign_keys=off").await;
    assert_eq!(served.error(orphan).await, failed);
    assert_eq!(served.rows("PRAGMA foreign_keys").await, json!([[1]]));
}

#[tokio::test]
async fn foreign_keys_can_wait_until_the_end_of_one_request() {
    let served = with_schema(FAMILY).await;
    let failed = "FOREIGN KEY constraint failed: SQLITE_CONSTRAINT";
    let orphan = "insert into child values (1, 'p')";
    let deferred = format!("PRAGMA defer_foreign_keys=on; {orphan}");
    assert_eq!(served.error(&deferred).await, failed);
    assert_eq!(served.rows("select count(*) from child").await, json!([[0]]));
    served.raw(json!({ "sql": format!("{deferred}; insert into parent values ('p')") })).await;
    assert_eq!(served.error("insert into child values (2, 'q')").await, failed);
    assert_eq!(served.rows("PRAGMA defer_foreign_keys").await, json!([[0]]));
}

#[tokio::test]
async fn turning_deferral_off_hides_an_orphan_as_it_does_in_d1() {
    let served = with_schema(FAMILY).await;
    let sql = "PRAGMA defer_foreign_keys=on; insert into child values (1, 'nobody'); \
               PRAGMA defer_foreign_keys=off";
    served.raw(json!({ "sql": sql })).await;
    let orphans = served.rows("PRAGMA foreign_key_check").await;
    assert_eq!(orphans.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_guard_rolls_the_batch_back() {
    let served = with_schema(FAMILY).await;
    let message = served
        .failure(json!({ "batch": [
            { "sql": "insert into parent values ('p')" },
            { "sql": "select case when exists(select 1 from parent) \
                      then abs(-9223372036854775807-1) end" },
        ]}))
        .await;
    assert_eq!(message, "integer overflow: SQLITE_ERROR");
    assert_eq!(served.rows("select count(*) from parent").await, json!([[0]]));
}

#[tokio::test]
async fn switches_last_one_request() {
    let served = with_schema("CREATE TABLE t (c CHECK (c > 0))").await;
    served
        .raw(json!({ "sql": "PRAGMA ignore_check_constraints=1; insert into t values (-1)" }))
        .await;
    assert!(served.error("insert into t values (-2)").await.starts_with("CHECK constraint failed"));
}

#[tokio::test]
async fn schema_changes_roll_back_too() {
    let served = serve(two_databases()).await;
    served.failure(json!({ "sql": "create table a (x); create table a (x)" })).await;
    let names = "select name from sqlite_schema where name not like '\\_cf\\_%' escape '\\'";
    assert_eq!(served.rows(names).await, json!([]));
}

#[tokio::test]
async fn the_bookmark_moves_with_writes_only() {
    let served = with_schema("CREATE TABLE t (c UNIQUE)").await;
    let first = served.bookmark().await;
    served.rows("select 1").await;
    served.raw(json!({ "sql": "delete from t" })).await;
    assert_eq!(served.bookmark().await, first);
    served.raw(json!({ "sql": "insert into t values (1)" })).await;
    let second = served.bookmark().await;
    assert!(second > first);
    served.error("insert into t values (2), (1)").await;
    assert_eq!(served.bookmark().await, second);
    served.raw(json!({ "sql": "create table u (c)" })).await;
    let third = served.bookmark().await;
    assert!(third > second);
    served.d1.execute_sql(MAIN, "insert into t values (3)").unwrap();
    let fourth = served.bookmark().await;
    assert!(fourth > third);
    assert_eq!(served.bookmark().await, fourth);
}

#[tokio::test]
async fn a_restore_takes_everything_back_and_can_be_undone() {
    let served = with_schema("CREATE TABLE t (c UNIQUE); INSERT INTO t VALUES (1)").await;
    let before = served.bookmark().await;
    served.raw(json!({ "sql": "insert into t values (2); create table later (c)" })).await;
    served.d1.execute_sql(MAIN, "INSERT INTO t VALUES (3)").unwrap();
    let restore = async |bookmark: &str| {
        let path = format!("/{MAIN}/time_travel/restore?bookmark={bookmark}");
        let response = served.request(Method::POST, &path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.json::<Value>().await.unwrap()["result"].take()
    };
    let restored = restore(&before).await;
    assert_eq!(restored["bookmark"], json!(before));
    assert_eq!(served.rows("select c from t").await, json!([[1]]));
    served.error("select * from later").await;
    let after = served.bookmark().await;
    let previous = restored["previous_bookmark"].as_str().unwrap();
    assert!(before.as_str() < previous && previous < after.as_str(), "{before} {previous} {after}");
    served.error("insert into t values (1)").await;

    restore(previous).await;
    assert_eq!(served.rows("select c from t order by c").await, json!([[1], [2], [3]]));
    assert_eq!(served.rows("select count(*) from later").await, json!([[0]]));
    let effects = &served.d1.counters()["databases"][MAIN];
    assert_eq!(effects["restores"], 2);
}
