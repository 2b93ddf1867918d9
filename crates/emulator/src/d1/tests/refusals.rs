//! What the authorizer lets through and what it stops.

use super::*;

#[tokio::test]
async fn transactions_belong_to_the_request() {
    let served = with_schema("CREATE TABLE t (a)").await;
    for sql in ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "RELEASE s"] {
        let message = served.error(sql).await;
        assert!(message.starts_with("To execute a transaction, please use"), "{sql}: {message}");
    }
    let vacuum = served.error("VACUUM").await;
    assert!(vacuum.starts_with("cannot VACUUM from within a transaction"), "{vacuum}");
    // The refusal of one statement does not colour the next error.
    assert!(served.error("select nope").await.starts_with("no such column: nope"));
}

#[tokio::test]
async fn foreign_files_temporary_things_and_most_pragmas_are_closed() {
    let served = with_schema("CREATE TABLE t (a)").await;
    for sql in [
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "CREATE TEMP TABLE x (a)",
        "CREATE TABLE temp.x (a)",
        "CREATE TEMP VIEW x AS SELECT 1",
        "CREATE VIEW temp.x AS SELECT 1",
        "CREATE VIRTUAL TABLE temp.x USING fts5(a)",
        "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
        "PRAGMA integrity_check",
        "PRAGMA page_count",
        "PRAGMA user_version",
        "PRAGMA user_version = 5",
        "PRAGMA journal_mode",
        "PRAGMA encoding",
        "PRAGMA schema_version",
        "PRAGMA compile_options",
        "PRAGMA writable_schema = on",
        "PRAGMA database_list",
        "PRAGMA page_size = 8192",
        "PRAGMA table_info(_cf_KV)",
    ] {
        assert_eq!(served.error(sql).await, "not authorized: SQLITE_AUTH", "{sql}");
    }
    for sql in [
        "PRAGMA table_list",
        "PRAGMA table_info(t)",
        "PRAGMA table_xinfo(t)",
        "PRAGMA index_list(t)",
        "PRAGMA foreign_key_list(t)",
        "PRAGMA foreign_key_check",
        "PRAGMA quick_check",
        "PRAGMA data_version",
        "PRAGMA page_size",
        "PRAGMA optimize",
        "PRAGMA recursive_triggers = on",
        "select * from pragma_table_info('t')",
    ] {
        served.rows(sql).await;
    }
}

#[tokio::test]
async fn some_functions_are_missing() {
    let served = serve(two_databases()).await;
    for call in [
        "sqlite_version()",
        "sqlite_source_id()",
        "load_extension('x')",
        "unistr('x')",
        "unistr_quote('x')",
        "if(1, 2)",
        "subtype('x')",
    ] {
        let message = served.error(&format!("select {call}")).await;
        assert!(message.contains("not authorized to use function"), "{call}: {message}");
    }
    assert!(served.error("select md5('x')").await.starts_with("no such function: md5"));
    let fine = served.rows("select iif(1, 2, 3), json_extract('[4]', '$[0]'), upper('é')").await;
    assert_eq!(fine, json!([[2, 4, "é"]]));
}

#[tokio::test]
async fn cloudflares_own_names_are_closed() {
    let served = serve(two_databases()).await;
    for sql in [
        "select * from _cf_KV",
        "select count(*) from _cf_KV",
        "delete from _cf_KV",
        "insert into _cf_KV values ('a', 'b')",
        "update _cf_KV set value = null",
        "drop table _cf_KV",
        "create table _cf_mine (a)",
        "create view _CF_mine as select 1",
    ] {
        assert!(served.error(sql).await.ends_with(": SQLITE_AUTH"), "{sql}");
    }
    let names = served.rows("select name from sqlite_schema").await;
    assert_eq!(names, json!([["_cf_KV"]]));
}

#[tokio::test]
async fn the_rest_of_sql_works() {
    let served = serve(two_databases()).await;
    for sql in [
        "create virtual table f using fts5(body)",
        "insert into f values ('hello world')",
        "select * from f where f match 'hello'",
        "create virtual table r using rtree(id, a, b)",
        "create table s (a INTEGER PRIMARY KEY, b TEXT) STRICT",
        "create table w (a TEXT PRIMARY KEY) WITHOUT ROWID",
        "create table g (a, b GENERATED ALWAYS AS (a + 1))",
        "create table n (id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "insert into n (v) values (1) returning id, v",
        "update sqlite_sequence set seq = 41 where name = 'n'",
        "create index s_b on s(b)",
        "CREATE TRIGGER s_i AFTER INSERT ON s BEGIN\n INSERT INTO n (v) VALUES (new.a);\nEND;",
        "insert into s values (1, 'x')",
        "create view v as select * from s",
        "select row_number() over (order by a) from v",
        "analyze",
        "reindex s_b",
        "alter table s rename to z",
        "alter table z rename column b to c",
        "alter table z add column d TEXT",
        "alter table z drop column d",
        "drop trigger s_i",
        "drop view v",
        "drop index s_b",
        "drop table z",
        "drop table f",
        "drop table r",
        "explain query plan select * from n",
        "with recursive c(x) as (select 1 union all select x + 1 from c where x < 3) select * from c",
    ] {
        served.raw(json!({ "sql": sql })).await;
    }
    assert_eq!(served.rows("select id from n").await, json!([[1], [42]]));
    let left = "select count(*) from sqlite_schema where name in ('z', 's', 'f', 'r', 'v', 's_b')";
    assert_eq!(served.rows(left).await, json!([[0]]));
}

#[tokio::test]
async fn triggers_in_other_spellings_are_cut_apart() {
    let served = with_schema("CREATE TABLE t (a)").await;
    for sql in [
        "CREATE TRIGGER x AFTER INSERT ON t begin delete from t; end",
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN\r\nDELETE FROM t;\r\nEND;",
    ] {
        assert!(served.error(sql).await.starts_with("incomplete input"), "{sql}");
    }
}
