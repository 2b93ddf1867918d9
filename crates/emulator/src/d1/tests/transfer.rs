//! Files in and out: the protocols of import and export, and what an export loses.

use super::*;

const IMPORT: &str = "CREATE TABLE t (a INTEGER PRIMARY KEY, b);
CREATE TRIGGER quiet AFTER INSERT ON t begin select ';' ; end;
INSERT INTO t VALUES (1, 'one;'), (2, NULL);";
/// `md5sum` of that.
const SUM: &str = "49a3070048c10c5bbfa57ec2844a894e";

impl Served {
    async fn ask(&self, path: &str, body: Value) -> Value {
        let (status, text) = self.post(path, &body).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["result"].take()
    }

    async fn put(&self, address: &str, body: &str) -> String {
        let response = self.client.put(address).body(body.to_owned()).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.headers()["etag"].to_str().unwrap().trim_matches('"').to_owned()
    }

    async fn dumped(&self, options: Value) -> Value {
        let begin = json!({ "output_format": "polling", "dump_options": options });
        let first = self.ask("/export", begin.clone()).await;
        assert_eq!(first["status"], "active");
        let mut poll = begin;
        poll["current_bookmark"] = first["at_bookmark"].clone();
        self.ask("/export", poll).await
    }

    async fn dump(&self, options: Value) -> String {
        let address = self.dumped(options).await["result"]["signed_url"].take();
        let file = self.client.get(address.as_str().unwrap()).send().await.unwrap();
        file.text().await.unwrap()
    }
}

#[tokio::test]
async fn a_file_is_imported_as_wrangler_does_it() {
    let served = serve(two_databases()).await;
    let begun = served.ask("/import", json!({ "action": "init", "etag": SUM })).await;
    let address = begun["upload_url"].as_str().unwrap();
    assert_eq!(served.put(address, IMPORT).await, SUM);
    let ingest = json!({ "action": "ingest", "filename": begun["filename"], "etag": SUM });
    let first = served.ask("/import", ingest).await;
    assert_eq!((&first["success"], &first["status"]), (&json!(true), &json!("active")));
    let poll = json!({ "action": "poll", "current_bookmark": first["at_bookmark"] });
    let end = served.ask("/import", poll.clone()).await;
    assert_eq!((&end["status"], &end["result"]["num_queries"]), (&json!("complete"), &json!(3)));
    assert_eq!(end["result"]["meta"]["rows_written"], json!(2.0));
    assert_eq!(served.rows("select b from t order by a").await, json!([["one;"], [null]]));
    let over = served.ask("/import", poll.clone()).await;
    assert_eq!(over["success"], json!(false));

    // The same file needs no second upload; now its table is there already, and nothing happens.
    let again = served.ask("/import", json!({ "action": "init", "etag": SUM })).await;
    assert_eq!((&again["upload_url"], &again["status"]), (&json!(null), &json!("active")));
    let failed = served.ask("/import", poll).await;
    assert_eq!(failed["status"], "error");
    assert!(failed["errors"][0].as_str().unwrap().contains("already exists"), "{failed}");
    assert_eq!(served.rows("select count(*) from t").await, json!([[2]]));
}

#[tokio::test]
async fn an_export_loses_what_d1s_own_loses() {
    let served = with_schema(
        "CREATE TABLE t (a, b); CREATE TABLE \"u v\" (c INTEGER PRIMARY KEY AUTOINCREMENT);
         CREATE INDEX i ON t (a); INSERT INTO \"u v\" VALUES (7);
         INSERT INTO t VALUES (9007199254740993, 1.0), (9e999, x'00ff'), (NULL, 'it''s'),
             ('a' || char(10) || 'b\\n', cast(x'c328' as text));",
    )
    .await;
    let lines = |dump: &str| dump.lines().map(str::to_owned).collect::<Vec<_>>();
    let expected = [
        "PRAGMA defer_foreign_keys=TRUE;",
        "CREATE TABLE t (a, b);",
        "INSERT INTO \"t\" (\"a\",\"b\") VALUES(9007199254740992,1);",
        "INSERT INTO \"t\" (\"a\",\"b\") VALUES(9e999,X'00ff');",
        "INSERT INTO \"t\" (\"a\",\"b\") VALUES(NULL,'it''s');",
        "INSERT INTO \"t\" (\"a\",\"b\") VALUES(replace('a\\nb\\n','\\n',char(10)),'\u{fffd}(');",
        "CREATE TABLE IF NOT EXISTS \"u v\" (c INTEGER PRIMARY KEY AUTOINCREMENT);",
        "INSERT INTO \"u v\" (\"c\") VALUES(7);",
        "DELETE FROM sqlite_sequence;",
        "INSERT INTO \"sqlite_sequence\" (\"name\",\"seq\") VALUES('u v',7);",
        "CREATE INDEX i ON t (a);",
    ];
    assert_eq!(lines(&served.dump(json!({})).await), expected);
    let some = json!({ "tables": ["t"], "no_data": true });
    assert_eq!(lines(&served.dump(some).await), expected[..2]);
    served.d1.execute_sql(MAIN, "CREATE VIRTUAL TABLE f USING fts5(a)").unwrap();
    let refused = served.dumped(json!({})).await;
    assert_eq!(refused["status"], "error");
    assert!(refused["error"].as_str().unwrap().contains("Virtual Tables"), "{refused}");
}
