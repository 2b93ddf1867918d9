//! The published limits, each from both sides.

use super::*;

#[tokio::test]
async fn a_hundred_parameters() {
    let served = serve(two_databases()).await;
    let select = |count: usize| {
        let marks = vec!["?"; count].join(",");
        json!({ "sql": format!("select 1 in ({marks})"), "params": vec!["1"; count] })
    };
    served.raw(select(100)).await;
    let message = served.failure(select(101)).await;
    assert!(message.starts_with("too many SQL variables at offset "), "{message}");
    let numbered = served.error("select ?101").await;
    assert!(numbered.starts_with("variable number must be between ?1 and ?100"), "{numbered}");
}

#[tokio::test]
async fn a_hundred_thousand_bytes_of_sql_in_each_statement() {
    let served = serve(two_databases()).await;
    let select = |bytes: usize| format!("select '{}'", "x".repeat(bytes - 9));
    let both = format!("{};{}", select(100_000), select(100_000));
    assert_eq!(served.raw(json!({ "sql": both })).await.as_array().unwrap().len(), 2);
    let long = served.error(&select(100_001)).await;
    assert_eq!(long, "statement too long: SQLITE_TOOBIG");
}

#[tokio::test]
async fn two_million_bytes_in_a_value_or_row() {
    let served = with_schema("CREATE TABLE t (a, b)").await;
    let length = |bytes: usize| json!({ "sql": "select length(?)", "params": ["x".repeat(bytes)] });
    let fits = served.raw(length(2_000_000)).await;
    assert_eq!(fits[0]["results"]["rows"], json!([[2_000_000]]));
    let too_big = "string or blob too big: SQLITE_TOOBIG";
    assert_eq!(served.failure(length(2_000_001)).await, too_big);
    assert_eq!(served.error("select zeroblob(2000001)").await, too_big);
    let half = "x".repeat(1_100_000);
    let row = json!({ "sql": "insert into t values (?, ?)", "params": [half, half] });
    assert_eq!(served.failure(row).await, too_big);
}

#[tokio::test]
async fn a_hundred_columns() {
    let served = serve(two_databases()).await;
    let columns = |count: usize| (0..count).map(|n| format!("c{n}")).collect::<Vec<_>>().join(",");
    served.rows(&format!("create table a ({})", columns(100))).await;
    let table = served.error(&format!("create table b ({})", columns(101))).await;
    assert!(table.starts_with("too many columns on b"), "{table}");
    let result = served.error(&format!("select {}", vec!["1"; 101].join(","))).await;
    assert!(result.starts_with("too many columns in result set"), "{result}");
}

#[tokio::test]
async fn shapes_of_expressions() {
    let served = serve(two_databases()).await;
    let union = |terms: usize| vec!["select 1"; terms].join(" union all ");
    served.rows(&union(5)).await;
    let message = served.error(&union(6)).await;
    assert!(message.starts_with("too many terms in compound SELECT"), "{message}");

    let coalesce =
        |arguments: usize| format!("select coalesce({})", vec!["1"; arguments].join(","));
    served.rows(&coalesce(32)).await;
    let message = served.error(&coalesce(33)).await;
    assert!(message.starts_with("too many arguments on function coalesce"), "{message}");

    served.rows(&format!("select 1 where 'a' like '{}'", "x".repeat(50))).await;
    let message = served.error(&format!("select 1 where 'a' like '{}'", "x".repeat(51))).await;
    assert!(message.starts_with("LIKE or GLOB pattern too complex"), "{message}");

    let chain = served.error(&format!("select {}", vec!["1"; 121].join(" or "))).await;
    assert!(chain.contains("Expression tree is too large (maximum depth 100)"), "{chain}");
    let list: Vec<String> = (0..15_000).map(|n| n.to_string()).collect();
    served.rows(&format!("select 1 where 1 in ({})", list.join(","))).await;
    let values = vec!["(1)"; 20_000].join(",");
    let count = served.rows(&format!("select count(*) from (values {values})")).await;
    assert_eq!(count, json!([[20_000]]));
}
