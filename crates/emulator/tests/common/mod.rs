//! A started emulator and a client that speaks to it as any program would.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::disallowed_methods, reason = "the client here is the test itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, Once};

use rehome_emulator::{Emulator, EmulatorConfig, Instance, InstanceConfig, Settings};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

static PROVIDER: Once = Once::new();

/// A client. reqwest is built without a TLS provider, which it asks for even
/// when it speaks plain HTTP.
pub(crate) fn client() -> Client {
    PROVIDER.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().unwrap();
    });
    Client::builder().no_proxy().build().unwrap()
}

/// An emulator with a `source` and a `target`, and a client.
pub(crate) struct World {
    pub(crate) emulator: Emulator,
    pub(crate) client: Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings of the target.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut target = InstanceConfig::production("target");
        change(&mut target.settings);
        Self::of(EmulatorConfig {
            instances: vec![InstanceConfig::development("source"), target],
            epoch_ms: Some(1_800_000_000_000),
            ..EmulatorConfig::default()
        })
        .await
    }

    pub(crate) async fn of(config: EmulatorConfig) -> Self {
        Self { emulator: Emulator::start(config).await.unwrap(), client: client() }
    }

    pub(crate) fn target(&self) -> Arc<Instance> {
        self.emulator.instance("target").unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.emulator.clerk_url());
        self.client.request(method, url).bearer_auth(self.target().secret_key())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        read(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        read(self.request(method, path).json(body).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, path, body).await
    }

    /// Ids of a list.
    pub(crate) async fn ids(&self, query: &str) -> Vec<String> {
        let (status, body) = self.get(&format!("/v1/users?{query}")).await;
        assert_eq!(status, 200, "{body}");
        let users = body.as_array().unwrap();
        users.iter().map(|user| user["id"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) async fn read(response: Response) -> (u16, Value) {
    assert_eq!(response.headers()["content-type"], "application/json");
    (response.status().as_u16(), response.json().await.unwrap())
}

/// `code` and `meta.param_name` of every error.
pub(crate) fn errors(body: &Value) -> Vec<(String, String)> {
    assert!(body["clerk_trace_id"].is_string());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (text(&error["code"]), text(&error["meta"]["param_name"])))
        .collect()
}
