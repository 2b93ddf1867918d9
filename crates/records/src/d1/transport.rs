//! The one place that sends to D1: paced, with timeouts, bounded answers, no redirects.
//!
//! It tells apart what it can know for certain: *never sent* (no connection was made), *answered*
//! (a status and a whole body), and *lost* (anything in between). What an answer means is not
//! decided here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rehome_core::boundary::{self, Boundary};
use rehome_core::pacer::Pacer;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, redirect, retry};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

/// No answer is larger than this: a span holds about a megabyte, twice that in hexadecimal, and
/// a batch of pages a few of them.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;
/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// How long a file may take on its way.
const UPLOAD: Duration = Duration::from_mins(30);

/// What came back.
#[derive(Debug)]
pub(super) enum Reply {
    /// The server answered, and the whole answer was read.
    Answered { status: u16, body: Vec<u8>, retry_after: Option<Duration> },
    /// No connection was made: nothing was sent.
    NotSent { reason: String },
    /// Something was sent, and no whole answer came back.
    Lost { reason: String },
}

/// What became of a file that was brought somewhere.
pub(super) enum Upload {
    /// It is there. `etag` is what the other side made of its content, without quotes.
    Done { etag: Option<String> },
    /// It is not, or nobody knows. Nothing comes of that.
    Failed { reason: String },
}

pub(super) struct Transport {
    http: reqwest::Client,
    base: String,
    authorization: Option<HeaderValue>,
    pacer: Arc<Pacer>,
    requests: AtomicU64,
}

impl Transport {
    /// A transport to `base`; the error says in words what is wrong with the settings. Without a
    /// token it leads to this machine only.
    pub(super) fn new(
        base: &str,
        token: Option<&SecretString>,
        pacer: Arc<Pacer>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let base = base.trim_end_matches('/').to_owned();
        let url = reqwest::Url::parse(&base).map_err(|error| format!("api_url {base}: {error}"))?;
        let local = is_local(&url);
        if url.scheme() != "https" && !local {
            return Err(format!(
                "api_url {base}: a token is sent over https only (plain http to this machine)"
            ));
        }
        if token.is_none() && !local {
            return Err(format!("api_url {base}: `wrangler dev` is on this machine"));
        }
        let authorization = token.map(bearer).transpose()?;
        // The provider is the process's; whoever comes first installs it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(timeout)
            .redirect(redirect::Policy::none())
            // Whether a write may be sent again is for the journal to say.
            .retry(retry::never())
            .user_agent(concat!("rehome/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| chain(&error))?;
        Ok(Self { http, base, authorization, pacer, requests: AtomicU64::new(0) })
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send::<()>(Method::GET, path, None).await
    }

    pub(super) async fn post<B: Serialize>(&self, path: &str, body: &B) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Brings a file of so many bytes to an address that the API gave: one of a store elsewhere,
    /// which must not see the token. As long as it makes progress it may take its time.
    #[allow(clippy::disallowed_methods, reason = "this is the transport to D1")]
    pub(super) async fn put(&self, url: &str, file: std::fs::File, length: u64) -> Upload {
        let Ok(url) = reqwest::Url::parse(url) else {
            return Upload::Failed { reason: "an address that is none".to_owned() };
        };
        if url.scheme() != "https" && !is_local(&url) {
            let reason = format!("{} is not reached by https", url.host_str().unwrap_or("it"));
            return Upload::Failed { reason };
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let request = self
            .http
            .put(url)
            .timeout(UPLOAD)
            .header(CONTENT_LENGTH, length)
            .body(tokio::fs::File::from_std(file));
        let answer = request.send().await;
        if answer.is_ok() {
            boundary::reach(Boundary::D1Served);
        }
        match answer {
            Ok(response) if response.status() == 200 => {
                let etag = response.headers().get(ETAG).and_then(|value| value.to_str().ok());
                Upload::Done { etag: etag.map(|etag| etag.trim_matches('"').to_owned()) }
            }
            Ok(response) => Upload::Failed { reason: format!("status {}", response.status()) },
            // Without the address: whoever has it may write there.
            Err(error) => Upload::Failed { reason: chain(&error.without_url()) },
        }
    }

    /// How many requests were sent so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the transport to D1")]
    async fn send<B: Serialize>(&self, method: Method, path: &str, body: Option<&B>) -> Reply {
        self.pacer.turn().await;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut headers = HeaderMap::new();
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let mut request =
            self.http.request(method, format!("{}{path}", self.base)).headers(headers);
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = match request.send().await {
            Ok(response) => {
                boundary::reach(Boundary::D1Served);
                read(response).await
            }
            Err(error) if error.is_connect() || error.is_builder() => {
                Reply::NotSent { reason: chain(&error) }
            }
            Err(error) => Reply::Lost { reason: chain(&error) },
        };
        self.learn(&reply);
        reply
    }

    /// Slows everybody down on trouble, and holds everybody for as long as the server asks.
    fn learn(&self, reply: &Reply) {
        match reply {
            Reply::Answered { status: 429, retry_after, .. } => {
                self.pacer.trouble();
                if let Some(pause) = retry_after {
                    self.pacer.pause(*pause);
                }
            }
            Reply::Answered { status, .. } if *status < 500 => self.pacer.success(),
            Reply::Answered { .. } | Reply::NotSent { .. } | Reply::Lost { .. } => {
                self.pacer.trouble();
            }
        }
    }
}

/// Whether it leads to this machine.
fn is_local(url: &reqwest::Url) -> bool {
    matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"))
}

fn bearer(token: &SecretString) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .map_err(|_| "the api token holds characters that no header can".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn read(mut response: reqwest::Response) -> Reply {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
        .map(|seconds: u64| Duration::from_secs(seconds.min(3600)));
    let too_long = || format!("an answer of more than {LARGEST_ANSWER} bytes");
    if response.content_length().is_some_and(|length| length > LARGEST_ANSWER as u64) {
        return Reply::Lost { reason: too_long() };
    }
    // Grown piece by piece, an answer of some megabytes would be there twice for a moment.
    let announced = response.content_length().and_then(|bytes| usize::try_from(bytes).ok());
    let mut body = Vec::with_capacity(announced.unwrap_or(0).min(LARGEST_ANSWER / 8));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LARGEST_ANSWER => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                return Reply::Lost { reason: too_long() };
            }
            Ok(None) => {
                return Reply::Answered { status, body, retry_after };
            }
            Err(error) => {
                return Reply::Lost { reason: chain(&error) };
            }
        }
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
