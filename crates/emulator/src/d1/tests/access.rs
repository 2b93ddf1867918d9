//! Paths, token, envelope, rate limit.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn lists_and_describes_databases() {
    let served = with_schema("CREATE TABLE t (a)").await;
    let (status, answer) = served.get("").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["result"][0]["uuid"], MAIN);
    assert_eq!(answer["result"][1]["name"], "app-live");
    assert_eq!(
        answer["result_info"],
        json!({ "page": 1, "per_page": 100, "count": 2, "total_count": 2 })
    );
    let (_, filtered) = served.get("?name=live&page=1&per_page=10").await;
    assert_eq!(filtered["result_info"]["total_count"], 1);
    assert_eq!(filtered["result"][0]["uuid"], OTHER);
    let (_, beyond) = served.get("?page=2&per_page=10").await;
    assert_eq!(beyond["result"], json!([]));

    for key in [MAIN, "app-testing"] {
        let (status, answer) = served.get(&format!("/{key}")).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(answer["result"]["uuid"], MAIN);
        assert_eq!(answer["result"]["num_tables"], 1);
        assert!(answer["result"]["file_size"].as_u64().unwrap() >= 4096);
    }
    let (_, narrowed) = served.get(&format!("/{MAIN}?fields=uuid,name")).await;
    assert_eq!(narrowed["result"], json!({ "uuid": MAIN, "name": "app-testing" }));
}

#[tokio::test]
async fn refuses_in_cloudflares_envelope() {
    let served = serve(two_databases()).await;
    let url = format!("{}/accounts/{ACCOUNT}/d1/database", served.base);
    let code = async |request: RequestBuilder| {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["success"], false);
        assert_eq!(answer["messages"], json!([]));
        (status, answer["errors"][0]["code"].as_u64().unwrap())
    };
    assert_eq!(code(served.client.get(&url)).await, (401, 10000));
    assert_eq!(code(served.client.get(&url).bearer_auth("wrong")).await, (403, 10000));
    let foreign = format!("{}/accounts/another/d1/database", served.base);
    assert_eq!(code(served.client.get(foreign).bearer_auth(TOKEN)).await, (403, 10000));

    let unknown = "33333333-3333-4333-8333-333333333333";
    let select = json!({ "sql": "select 1" });
    let post = |path: String| served.request(Method::POST, &path);
    assert_eq!(code(served.request(Method::GET, "/nowhere")).await, (404, 7404));
    assert_eq!(code(post(format!("/{unknown}/raw")).json(&select)).await, (404, 7404));
    assert_eq!(code(post("/app-testing/raw".to_owned()).json(&select)).await, (400, 7400));
    for body in ["", "{", "[]", "{}", "{\"sql\":1}", "{\"sql\":\"select ?\",\"params\":[{}]}"] {
        assert_eq!(code(post(format!("/{MAIN}/query")).body(body)).await, (400, 7400), "{body}");
    }
    for path in ["/export", "/import"] {
        assert_eq!(code(post(format!("/{MAIN}{path}"))).await, (400, 7400));
        assert_eq!(code(post(format!("/{unknown}{path}"))).await, (404, 7404));
    }
    for query in ["", "?bookmark=00000001-00000000-00000000-00"] {
        let path = format!("/{MAIN}/time_travel/restore{query}");
        assert_eq!(code(post(path)).await, (400, 7400));
    }
    assert_eq!(code(served.request(Method::DELETE, &format!("/{MAIN}"))).await, (404, 7003));
    assert_eq!(code(served.request(Method::POST, "")).await, (404, 7003));
    assert_eq!(served.d1.counters()["requests"]["unauthorized"], 3);
}

#[tokio::test]
async fn names_the_code_in_a_header() {
    let served = serve(two_databases()).await;
    let request = served.request(Method::POST, &format!("/{MAIN}/query"));
    let response = request.json(&json!({ "sql": "select nope" })).send().await.unwrap();
    assert_eq!(response.headers()["cf-d1"], "err=7500");
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["errors"][0]["message"], "no such column: nope at offset 7: SQLITE_ERROR");
}

#[tokio::test]
async fn limits_the_rate_when_asked_to() {
    let served = serve(two_databases().with_rate_limit(2, Duration::from_secs(300))).await;
    served.get("").await;
    served.get("").await;
    let response = served.request(Method::GET, "").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=300).contains(&wait));
    assert_eq!(served.d1.counters()["requests"]["list"], 2);
    assert_eq!(served.d1.counters()["requests"]["rate_limited"], 1);
}

#[tokio::test]
async fn two_databases_of_one_name_are_refused() {
    let spec = DatabaseSpec { uuid: MAIN.to_owned(), name: "a".to_owned(), path: None };
    let again = DatabaseSpec { uuid: OTHER.to_owned(), ..spec.clone() };
    assert!(D1::new(ACCOUNT, TOKEN, vec![spec, again]).is_err());
}

#[tokio::test]
async fn the_local_explorer_lists_and_runs_and_knows_no_token() {
    let served = serve(two_databases()).await;
    let base = served.base.replace("/client/v4", "/cdn-cgi/local/explorer/api/d1/database");
    let listed: Value = served.client.get(&base).send().await.unwrap().json().await.unwrap();
    assert_eq!(listed["result"][1]["name"], "app-live");
    assert_eq!(listed["result_info"]["count"], 2);
    let raw = async |uuid: &str, body: Value| {
        let request = served.client.post(format!("{base}/{uuid}/raw")).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, made) = raw(MAIN, json!({ "sql": "create table t (a)" })).await;
    assert_eq!((status, &made["success"]), (200, &json!(true)));
    let (status, wrong) = raw(MAIN, json!({ "sql": "select nope" })).await;
    assert_eq!((status, &wrong["errors"][0]["code"]), (500, &json!(10001)));
    let number = json!({ "batch": [{ "sql": "insert into t values (?)", "params": [1] }] });
    assert_eq!(raw(MAIN, number).await.0, 400, "parameters are strings");
    let unknown = "33333333-3333-4333-8333-333333333333";
    let tables = json!({ "sql": "select count(*) from sqlite_schema where name = 't'" });
    let (status, empty) = raw(unknown, tables).await;
    assert_eq!((status, &empty["result"][0]["results"]["rows"]), (200, &json!([[0]])));
    let one = served.client.get(format!("{base}/{MAIN}")).send().await.unwrap();
    assert_eq!(one.status(), StatusCode::NOT_FOUND);
}
