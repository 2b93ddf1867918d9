//! The wire that leaves the machine: HTTPS to a Clerk instance.
//!
//! Three rules keep the secret key where it belongs. It stands in one header that is marked
//! sensitive, so that no log of the HTTP stack prints it. Redirects are never followed, so that
//! no answer can send it to another host. And plain `http` is only spoken to this machine itself
//! (the emulator), never through a proxy.
//!
//! Nothing is repeated here: the library's own retries are switched off, because whether a
//! request may be sent twice is a question for the journal.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use rehome_core::boundary::{self, Boundary};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url, redirect, retry};
use secrecy::{ExposeSecret, SecretString};

use crate::wire::{Answer, Exchange, Method, Request, Wire};

/// The version of the Backend API that this crate was written for, sent with every request as
/// `Clerk-API-Version`.
pub const API_VERSION: &str = "2026-05-12";

/// The production address of the Backend API, without the version path.
pub const DEFAULT_API_URL: &str = "https://api.clerk.com";

/// How long a whole exchange may take, if nothing else is asked for.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// How to reach one instance. The key decides which one: all instances share one address.
#[derive(Clone)]
pub struct Connection {
    /// The address without `/v1`, for example [`DEFAULT_API_URL`].
    pub api_url: String,
    /// The instance's secret key, `sk_test_…` or `sk_live_…`.
    pub key: SecretString,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long a whole exchange may take, the body included.
    pub timeout: Duration,
}

impl Connection {
    /// A connection with 10 s to connect and 30 s for an exchange.
    pub fn new(api_url: impl Into<String>, key: SecretString) -> Self {
        Self {
            api_url: api_url.into(),
            key,
            connect_timeout: Duration::from_secs(10),
            timeout: TIMEOUT,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("api_url", &self.api_url).finish_non_exhaustive()
    }
}

/// Why no client could be made of a [`Connection`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// The address is not one.
    #[error("`{url}` is not an http or https address")]
    Address {
        /// The address as given.
        url: String,
    },
    /// The key would travel in the clear.
    #[error("`{url}` is plain http to another machine: the secret key would travel in the clear")]
    Plain {
        /// The address as given.
        url: String,
    },
    /// The key holds characters that no HTTP header can carry.
    #[error("the secret key holds characters that cannot be sent; is it the right value?")]
    Key,
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be built")]
    Client(#[source] reqwest::Error),
}

/// Speaks HTTP/1.1 or 2 over TLS to one instance.
pub struct HttpWire {
    client: Client,
    base: String,
}

impl fmt::Debug for HttpWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpWire").field("base", &self.base).finish_non_exhaustive()
    }
}

impl HttpWire {
    /// A client for `connection`; one pool for its lifetime.
    ///
    /// # Errors
    /// When the address or the key cannot be used; see [`Unusable`].
    pub fn new(connection: &Connection) -> Result<Self, Unusable> {
        let shown = || connection.api_url.clone();
        let url =
            Url::parse(&connection.api_url).map_err(|_| Unusable::Address { url: shown() })?;
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(Unusable::Address { url: shown() }),
        };
        if plain && !is_this_machine(&url) {
            return Err(Unusable::Plain { url: shown() });
        }

        // Someone may have installed a provider already; then that one serves.
        drop(rustls::crypto::ring::default_provider().install_default());

        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {}", connection.key.expose_secret()))
                .map_err(|_| Unusable::Key)?;
        bearer.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, bearer);
        headers.insert("clerk-api-version", HeaderValue::from_static(API_VERSION));

        let mut builder = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("rehome/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connection.connect_timeout)
            .timeout(connection.timeout)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .tcp_nodelay(true);
        if plain {
            builder = builder.no_proxy();
        }
        let base = format!("{}/v1", connection.api_url.trim_end_matches('/'));
        let client = builder.build().map_err(Unusable::Client)?;
        Ok(Self { client, base })
    }

    #[allow(clippy::disallowed_methods, reason = "this is the transport's one sending place")]
    async fn send(&self, request: Request) -> Exchange {
        let url = format!("{}{}", self.base, request.path);
        let mut builder = match request.method {
            Method::Get => self.client.get(url),
            Method::Post => self.client.post(url),
            Method::Patch => self.client.patch(url),
            Method::Put => self.client.put(url),
            Method::Delete => self.client.delete(url),
        };
        if let Some(body) = request.body {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body);
        }
        if request.method != Method::Get {
            boundary::reach(Boundary::ClerkDue);
        }
        let response = match builder.send().await {
            Ok(response) => {
                boundary::reach(Boundary::ClerkServed);
                response
            }
            // Only a failed connection is sure to have carried nothing.
            Err(error) if error.is_connect() || error.is_builder() => {
                return Exchange::NotSent { reason: describe(&error) };
            }
            Err(error) => {
                return Exchange::Lost { reason: describe(&error) };
            }
        };
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header(RETRY_AFTER).map(str::to_owned);
        let date = header(DATE).map(str::to_owned);
        match read(response, request.limit).await {
            Ok(body) => Exchange::Answered(Answer { status, retry_after, date, body }),
            // The status alone says that nothing was done.
            Err(_) if status == 429 => {
                Exchange::Answered(Answer { status, retry_after, date, body: Bytes::new() })
            }
            Err(reason) => Exchange::Lost { reason: format!("answered {status}, but {reason}") },
        }
    }
}

impl Wire for HttpWire {
    fn exchange(&self, request: Request) -> BoxFuture<'_, Exchange> {
        Box::pin(self.send(request))
    }
}

async fn read(mut response: Response, limit: usize) -> Result<Bytes, String> {
    let too_long = || format!("with more than {limit} bytes");
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_long());
    }
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                if body.len() + chunk.len() > limit {
                    return Err(too_long());
                }
                body.extend_from_slice(&chunk);
            }
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(describe(&error)),
        }
    }
}

fn is_this_machine(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

/// The chain of causes in one line. Without the address, whose query holds personal data; the
/// key stands in a header, which errors never quote.
fn describe(error: &reqwest::Error) -> String {
    let mut parts = Vec::new();
    if error.is_timeout() {
        parts.push("timed out".to_owned());
    } else if error.is_connect() {
        parts.push("no connection".to_owned());
    } else {
        parts.push("the connection broke".to_owned());
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        parts.push(inner.to_string());
        cause = inner.source();
    }
    parts.dedup();
    parts.join(": ")
}
