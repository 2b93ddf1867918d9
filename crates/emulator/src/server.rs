//! The server: one loopback listener, one router for both services and the
//! control path, and the connections, which it owns so that a fault can break
//! one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::{JoinHandle, JoinSet};
use tower::Service as _;

use crate::clerk::{self, BODY_LIMIT, Call};
use crate::clock::Clock;
use crate::config::EmulatorConfig;
use crate::counters::Counters;
use crate::d1::D1;
use crate::edge::{Broken, edge};
use crate::error::Error;
use crate::fault::{FaultPlan, Faults};
use crate::instance::{Effect, Instance};
use crate::record::Tape;
use crate::refusal::Refusal;

/// How many effects a slow subscriber may be behind before it loses some.
const EFFECTS: usize = 4096;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) d1: Option<Arc<D1>>,
    pub(crate) faults: Faults,
    pub(crate) clock: Clock,
    pub(crate) tape: Option<Tape>,
    strangers: Mutex<BTreeMap<String, u64>>,
    d1_counters: Mutex<Counters>,
    effects: broadcast::Sender<Effect>,
}

impl App {
    /// The instance whose key a request carries.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Instance>, Refusal> {
        let key = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::trim)
            .filter(|key| !key.is_empty())
            .ok_or_else(Refusal::authorization_format)?;
        self.instances
            .iter()
            .find(|instance| instance.secret_key() == key)
            .cloned()
            .ok_or_else(Refusal::key_invalid)
    }

    /// An instance by label, id or key.
    pub(crate) fn instance(&self, name: &str) -> Option<&Arc<Instance>> {
        self.instances.iter().find(|i| [i.label(), i.id(), i.secret_key()].contains(&name))
    }

    pub(crate) fn note_stranger(&self, route: String) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        *strangers.entry(route).or_default() += 1;
    }

    pub(crate) fn strangers(&self) -> BTreeMap<String, u64> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn d1_counters(&self) -> MutexGuard<'_, Counters> {
        self.d1_counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_d1(&self, route: String) {
        let second = self.clock.second();
        let mut counters = self.d1_counters();
        *counters.requests.entry(route).or_default() += 1;
        *counters.per_second.entry(second).or_default() += 1;
    }

    pub(crate) fn note_d1_fault(&self, kind: &str) {
        *self.d1_counters().faults.entry(kind.to_owned()).or_default() += 1;
    }
}

/// A running emulator. It stops when dropped; open connections are cut.
#[derive(Debug)]
pub struct Emulator {
    addr: SocketAddr,
    app: Arc<App>,
    router: Router,
    accepting: Option<JoinHandle<()>>,
}

/// Why [`Emulator::call`] has no answer: what a client would see of a connection that a fault
/// has broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// It was reset before the first byte of an answer.
    #[error("the connection was reset")]
    Reset,
    /// It ended within the answer's body.
    #[error("the connection ended within the answer")]
    Truncated,
}

impl Emulator {
    /// Binds 127.0.0.1 and serves from the current tokio runtime until the
    /// value is dropped or [`shut down`](Self::shutdown).
    ///
    /// # Errors
    /// The port is taken, the tape cannot be opened, or two instances cannot
    /// be told apart.
    pub async fn start(config: EmulatorConfig) -> Result<Self, Error> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
        let mut emulator = Self::embedded(config)?;
        let bind = |source| Error::Bind { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(bind)?;
        emulator.addr = listener.local_addr().map_err(bind)?;
        emulator.accepting = Some(tokio::spawn(accept(listener, emulator.router.clone())));
        Ok(emulator)
    }

    /// The same without a listener: requests come by [`Self::call`] only. For whole migrations
    /// in one thread and virtual time, in which sockets cannot take part.
    ///
    /// # Errors
    /// The tape cannot be opened, or two instances cannot be told apart.
    pub fn embedded(config: EmulatorConfig) -> Result<Self, Error> {
        let clock = Clock::start(config.epoch_ms);
        let (effects, _) = broadcast::channel(EFFECTS);
        let mut instances: Vec<Arc<Instance>> = Vec::new();
        for instance in config.instances {
            if instances
                .iter()
                .any(|i| i.secret_key() == instance.secret_key || i.id() == instance.id)
            {
                return Err(Error::SameKey { id: instance.id });
            }
            instances.push(Arc::new(Instance::new(instance, clock, effects.clone())));
        }
        let tape = config.record.as_deref().map(Tape::open).transpose()?;
        let app = Arc::new(App {
            instances,
            d1: config.d1,
            faults: Faults::new(config.faults),
            clock,
            tape,
            strangers: Mutex::default(),
            d1_counters: Mutex::default(),
            effects,
        });
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(Self { addr, router: router(&app), app, accepting: None })
    }

    /// Serves one request without a network, through the same routes, counters and faults.
    /// `path` is path and query, percent-encoded, `/v1/users?limit=10`; `key` goes where the
    /// bearer token does; a body is JSON. The answer comes whole, or not at all. Dropping the
    /// future ends the request where it is, as a closed connection does.
    ///
    /// # Errors
    /// [`Cut`] when a fault broke the connection. A fault that hangs never ends.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: Option<Bytes>,
    ) -> impl Future<Output = Result<Response<Bytes>, Cut>> + Send + use<> {
        let mut router = self.router.clone();
        let mut request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {key}"));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Body::from(body.unwrap_or_default()));
        async move {
            // What cannot even be written down as a request reaches nobody.
            let request = request.map_err(|_| Cut::Reset)?;
            let answer: Result<Response, Infallible> = router.call(request).await;
            let response = match answer {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.extensions().get::<Broken>().is_some() {
                return Err(Cut::Reset);
            }
            let (parts, body) = response.into_parts();
            let body = to_bytes(body, usize::MAX).await.map_err(|_| Cut::Truncated)?;
            Ok(Response::from_parts(parts, body))
        }
    }

    /// Where it listens; port 0 when it does not.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, to which Clerk's clients add `/v1`.
    pub fn clerk_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// `http://127.0.0.1:PORT/client/v4`, the base of Cloudflare's API.
    pub fn d1_url(&self) -> String {
        format!("http://{}/client/v4", self.addr)
    }

    /// All instances, in the order of the configuration.
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.app.instances
    }

    /// An instance by its secret key, id or label.
    pub fn instance(&self, name: &str) -> Option<Arc<Instance>> {
        self.app.instance(name).cloned()
    }

    /// The emulated Cloudflare account, if one was configured.
    pub fn d1(&self) -> Option<&Arc<D1>> {
        self.app.d1.as_ref()
    }

    /// Requests and injected faults on the D1 side; writes per row key are
    /// counted by [`D1`] itself.
    pub fn d1_counters(&self) -> Counters {
        self.app.d1_counters().clone()
    }

    /// Puts another fault plan in place, from its beginning.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.app.faults.set(plan);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.app.faults.set(FaultPlan::default());
    }

    /// Every effect of every Clerk instance from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Effect> {
        self.app.effects.subscribe()
    }

    /// Stops listening, cuts all connections, and waits until that is done.
    pub async fn shutdown(mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _cancelled = accepting.await.is_err();
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/v1/{*path}", any(serve))
        .merge(crate::control::routes())
        .fallback(lost)
        .with_state(Arc::clone(app));
    if let Some(d1) = &app.d1 {
        router = router.merge(crate::d1::router(Arc::clone(d1)));
    }
    router.layer(from_fn_with_state(Arc::clone(app), edge))
}

async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_LIMIT + 1).await else {
        return respond(Err(Refusal::body_too_large(BODY_LIMIT)));
    };
    let path = parts.uri.path();
    let call = Call {
        method: &parts.method,
        path: path.strip_prefix("/v1/").unwrap_or(path),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
        body: &body,
    };
    respond(app.authenticate(&parts.headers).and_then(|instance| clerk::answer(&instance, &call)))
}

async fn lost() -> Response {
    std::future::ready(respond(Err(Refusal::no_route()))).await
}

/// JSON with a content type of exactly `application/json`: @clerk/backend
/// hands the body back as text when anything is appended to it.
fn respond(answer: clerk::Answer) -> Response {
    let (status, bytes, retry_after) = match answer {
        Ok(bytes) => (StatusCode::OK, Bytes::from(bytes), None),
        Err(refusal) => {
            (refusal.status, Bytes::from(refusal.body().to_string()), refusal.retry_after)
        }
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Takes connections until it is aborted, which cuts them all.
async fn accept(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, router.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: give others time to close theirs.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The error with which a connection is given up.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken on purpose")]
struct OnPurpose;

type Exchange = Pin<Box<dyn Future<Output = Result<Response, OnPurpose>> + Send>>;

/// Serves one connection. An answer marked [`Broken`] ends it with a TCP reset.
async fn converse(stream: TcpStream, router: Router) {
    let _ignored = stream.set_nodelay(true).is_err();
    let reset = Arc::new(AtomicBool::new(false));
    let marked = Arc::clone(&reset);
    let service = service_fn(move |request: hyper::Request<Incoming>| -> Exchange {
        let mut router = router.clone();
        let marked = Arc::clone(&marked);
        Box::pin(async move {
            let answer: Result<Response, Infallible> = router.call(request.map(Body::new)).await;
            let response = match answer {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.extensions().get::<Broken>().is_some() {
                marked.store(true, Ordering::Relaxed);
                return Err(OnPurpose);
            }
            Ok(response)
        })
    });
    let mut connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Without the shutdown that hyper would do, so that the socket is still
    // ours to reset.
    let ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream = connection.into_parts().io.into_inner();
    if reset.load(Ordering::Relaxed) {
        // With a linger of zero, closing sends RST instead of FIN.
        let _ignored = stream.set_zero_linger().is_err();
    } else {
        let _closed = stream.shutdown().await.is_err();
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}
