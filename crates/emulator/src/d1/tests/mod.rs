//! The emulated API as a client meets it: over HTTP on loopback.

mod access;
mod atomicity;
mod conversions;
mod effects;
mod example;
mod limits;
mod refusals;
mod transfer;

use std::sync::Arc;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{D1, DatabaseSpec, router};

const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";
const TOKEN: &str = "token-of-a-test";
const MAIN: &str = "11111111-1111-4111-8111-111111111111";
const OTHER: &str = "22222222-2222-4222-8222-222222222222";

/// A served account with two private databases.
struct Served {
    d1: Arc<D1>,
    base: String,
    client: Client,
    server: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn two_databases() -> D1 {
    let spec = |uuid: &str, name: &str| DatabaseSpec {
        uuid: uuid.to_owned(),
        name: name.to_owned(),
        path: None,
    };
    D1::new(ACCOUNT, TOKEN, vec![spec(MAIN, "app-testing"), spec(OTHER, "app-live")]).unwrap()
}

async fn serve(d1: D1) -> Served {
    let d1 = Arc::new(d1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/client/v4", listener.local_addr().unwrap());
    let app = router(Arc::clone(&d1));
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    // The client is built without a provider of its own; a second installation only says so.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = Client::builder().no_proxy().build().unwrap();
    Served { d1, base, client, server }
}

/// A served account whose main database has run `sql`.
async fn with_schema(sql: &str) -> Served {
    let served = serve(two_databases()).await;
    served.d1.execute_sql(MAIN, sql).unwrap();
    served
}

impl Served {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/accounts/{ACCOUNT}/d1/database{path}", self.base);
        self.client.request(method, url).bearer_auth(TOKEN)
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.request(Method::GET, path).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, String) {
        let request = self.request(Method::POST, &format!("/{MAIN}{path}")).json(body);
        let response = request.send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    /// Runs `body` on `/raw` and gives `result` of a success.
    async fn raw(&self, body: Value) -> Value {
        let (status, text) = self.post("/raw", &body).await;
        let shown = body.to_string();
        assert_eq!(status, StatusCode::OK, "{shown:.200} -> {text}");
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["success"], true);
        answer["result"].take()
    }

    /// The rows of one statement.
    async fn rows(&self, sql: &str) -> Value {
        self.raw(json!({ "sql": sql })).await[0]["results"]["rows"].take()
    }

    /// The error text of one statement that must fail with code 7500.
    async fn error(&self, sql: &str) -> String {
        self.failure(json!({ "sql": sql })).await
    }

    async fn failure(&self, body: Value) -> String {
        let (status, text) = self.post("/raw", &body).await;
        let shown = body.to_string();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{shown:.200} -> {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["errors"][0]["code"], 7500, "{text}");
        assert_eq!(answer["success"], false);
        assert_eq!(answer["result"], json!([]));
        answer["errors"][0]["message"].as_str().unwrap().to_owned()
    }

    async fn bookmark(&self) -> String {
        let (status, answer) = self.get(&format!("/{MAIN}/time_travel/bookmark")).await;
        assert_eq!(status, StatusCode::OK);
        answer["result"]["bookmark"].as_str().unwrap().to_owned()
    }
}
