//! What JSON does to values, in both directions.

use super::*;

#[tokio::test]
async fn results_are_as_lossy_as_d1s() {
    let served = serve(two_databases()).await;
    let sql = "select 4959520537444830692, 9223372036854775807, 1.0, 9e999, -9e999, -0.0, \
               x'00ff', cast(x'61c328' as text), null, 'a' || char(0) || 'b', 1e21, 1e-7";
    let (_, text) = served.post("/raw", &json!({ "sql": sql })).await;
    let expected = "\"rows\":[[4959520537444830000,9223372036854776000,1,null,null,0,[0,255],\
                    \"a\u{fffd}(\",null,\"a\\u0000b\",1e+21,1e-7]]";
    assert!(text.contains(expected), "{text}");
}

#[tokio::test]
async fn exact_values_come_out_through_sql() {
    let served = serve(two_databases()).await;
    let sql = "select quote(4959520537444830692), typeof(1.0), quote(1.0), hex(x'00ff'), \
               hex(cast(x'61c328' as text))";
    let expected = json!([["4959520537444830692", "real", "1.0", "00FF", "61C328"]]);
    assert_eq!(served.rows(sql).await, expected);
}

#[tokio::test]
async fn duplicate_columns_collapse_in_objects_and_stay_in_raw() {
    let served = serve(two_databases()).await;
    let sql = json!({ "sql": "select 1 as a, 2 as b, 3 as a" });
    assert_eq!(
        served.raw(sql.clone()).await[0]["results"],
        json!({ "columns": ["a", "b", "a"], "rows": [[1, 2, 3]] })
    );
    let (_, text) = served.post("/query", &sql).await;
    assert!(text.starts_with("{\"result\":[{\"results\":[{\"a\":3,\"b\":2}],"), "{text}");
}

#[tokio::test]
async fn columns_are_named_even_without_rows() {
    let served = with_schema("CREATE TABLE t (a, b)").await;
    assert_eq!(
        served.raw(json!({ "sql": "select * from t" })).await[0]["results"],
        json!({ "columns": ["a", "b"], "rows": [] })
    );
    let (_, text) = served.post("/query", &json!({ "sql": "insert into t values (1, 2)" })).await;
    assert!(text.contains("\"results\":[]"), "{text}");
}

#[tokio::test]
async fn numbers_are_bound_as_doubles() {
    let served = with_schema("CREATE TABLE t (i INTEGER, s TEXT, any)").await;
    let insert = "insert into t values (?1, ?1, ?1)";
    for value in [json!(5), json!(true), json!("5"), json!(null), json!([1, 255])] {
        served.raw(json!({ "sql": insert, "params": [value] })).await;
    }
    assert_eq!(
        served.rows("select quote(i), quote(s), quote(any) from t").await,
        json!([
            ["5", "'5.0'", "5.0"],
            ["1", "'1.0'", "1.0"],
            ["5", "'5'", "'5'"],
            ["NULL", "NULL", "NULL"],
            ["X'01FF'", "X'01FF'", "X'01FF'"],
        ])
    );
}

#[tokio::test]
async fn one_string_parameter_carries_many_exact_rows() {
    let served = with_schema("CREATE TABLE t (i INTEGER, r REAL, s TEXT, b BLOB)").await;
    let rows = "[[9223372036854775807,0.1,\"a\\u0000b\",\"00FF\"],[null,1.0,\"\",null]]";
    let sql = "insert into t select value->>0, value->>1, value->>2, unhex(value->>3) \
               from json_each(?1)";
    let result = served.raw(json!({ "sql": sql, "params": [rows] })).await;
    assert_eq!(result[0]["meta"]["changes"], 2);
    assert_eq!(
        served.rows("select quote(i), quote(r), hex(s), quote(b) from t").await,
        json!([["9223372036854775807", "0.1", "610062", "X'00FF'"], ["NULL", "1.0", "", "NULL"]])
    );
}
