//! What every request passes before and after the emulated services: counting,
//! latency, faults, the tape.
//!
//! A fault that breaks the connection cannot be said in HTTP, so the answer
//! carries a [`Broken`] extension and the server, which owns the connection,
//! acts on it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::body;
use crate::counters::route;
use crate::crowd;
use crate::fault::{BodyKind, Fault, RetryAfter, Target, When};
use crate::instance::Instance;
use crate::record::{Line, masked};
use crate::refusal::{self, Refusal};
use crate::server::App;

/// Marks an answer that must not be sent: the connection is reset instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broken;

/// The most that is buffered of a request; D1 allows imports of this order.
const MOST: usize = 256 << 20;

enum Side {
    Clerk(Option<Arc<Instance>>),
    D1,
}

impl Side {
    fn of(app: &App, request: &Request) -> Self {
        if request.uri().path().starts_with("/client/") {
            Self::D1
        } else {
            Self::Clerk(app.authenticate(request.headers()).ok())
        }
    }

    fn note(&self, app: &App, route: String) {
        match self {
            Self::Clerk(Some(instance)) => instance.note_request(route),
            Self::Clerk(None) => app.note_stranger(route),
            Self::D1 => app.note_d1(route),
        }
    }

    fn note_fault(&self, app: &App, kind: &str) {
        match self {
            Self::Clerk(Some(instance)) => instance.note_fault(kind),
            Self::Clerk(None) => {}
            Self::D1 => app.note_d1_fault(kind),
        }
    }

    fn pick(&self, app: &App, method: &str, path: &str, query: &str) -> Option<Fault> {
        match self {
            Self::Clerk(Some(instance)) => {
                let names = [instance.label(), instance.id(), instance.secret_key()];
                app.faults.pick(&Target { method, path, query, names: &names })
            }
            Self::Clerk(None) => app.faults.pick(&Target { method, path, query, names: &[] }),
            Self::D1 => app.faults.pick(&Target { method, path, query, names: &["d1"] }),
        }
    }

    fn latency(&self) -> Duration {
        match self {
            Self::Clerk(Some(instance)) => Duration::from_millis(instance.settings().latency_ms),
            Self::Clerk(None) | Self::D1 => Duration::ZERO,
        }
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// The middleware around the Clerk and the D1 routes.
pub(crate) async fn edge(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    if path.starts_with("/__emulator") {
        return next.run(request).await;
    }
    let method = request.method().as_str().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let side = Side::of(&app, &request);
    side.note(&app, route(&method, &path));
    let fault = side.pick(&app, &method, &path, &query);
    if let Some(fault) = &fault {
        side.note_fault(&app, fault.kind());
    }
    pause(side.latency()).await;

    let (parts, body) = request.into_parts();
    let Ok(sent) = to_bytes(body, MOST).await else {
        return plain(StatusCode::BAD_REQUEST, Bytes::new(), "application/json");
    };
    let spoiled = before(&app, &side, fault.as_ref(), &sent).await;
    let (mut answer, bytes) = if let Some(spoiled) = spoiled {
        spoiled
    } else {
        let answer = next.run(Request::from_parts(parts, Body::from(sent.clone()))).await;
        split(answer).await
    };

    // By the clock of whoever answers, as a server does that has one (RFC 9110, 6.6.1).
    let now = match &side {
        Side::Clerk(Some(instance)) => instance.now_ms(),
        Side::Clerk(None) | Side::D1 => app.clock.now_ms(),
    };
    if let Ok(date) = HeaderValue::from_str(&http_date(now)) {
        answer.headers_mut().insert(header::DATE, date);
    }

    if let Some(tape) = &app.tape
        && let Side::Clerk(instance) = &side
    {
        let content_type = answer.headers().get(header::CONTENT_TYPE);
        tape.write(&Line {
            instance: instance.as_ref().map(|instance| instance.environment().as_str()),
            method: &method,
            path: &path,
            query: &query,
            request_body: masked(&sent),
            status: (!is_broken(&answer)).then_some(answer.status().as_u16()),
            response_body: masked(&bytes),
            content_type: content_type.and_then(|value| value.to_str().ok()),
            fault: fault.as_ref().map(taped),
        });
    }
    after(&app, &side, fault, answer, bytes, &path).await
}

async fn split(answer: Response) -> (Response, Bytes) {
    let (parts, body) = answer.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    (Response::from_parts(parts, Body::empty()), bytes)
}

/// What happens before the effect. Some when there shall be no effect at all.
async fn before(
    app: &App,
    side: &Side,
    fault: Option<&Fault>,
    sent: &Bytes,
) -> Option<(Response, Bytes)> {
    match fault? {
        Fault::Status { status, body, retry_after, when: When::Before } => {
            Some(split(injected(app, side, *status, *body, *retry_after)).await)
        }
        Fault::Reset { when: When::Before } => Some((broken(), Bytes::new())),
        Fault::Hang { when: When::Before } => std::future::pending().await,
        Fault::Delay { before_ms, .. } => {
            pause(Duration::from_millis(*before_ms)).await;
            None
        }
        Fault::Status { when: When::After, .. }
        | Fault::Reset { when: When::After }
        | Fault::Hang { when: When::After }
        | Fault::Truncate
        | Fault::WrongShape
        | Fault::RepeatPage
        | Fault::SlowBody { .. } => None,
        Fault::Refuse { status, code, param } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST);
            let refusal = Refusal::of_code(status, code, param.as_deref());
            let json = Bytes::from(refusal.body().to_string());
            Some((plain(status, Bytes::new(), "application/json"), json))
        }
        Fault::CursorGone => {
            let refusal = Refusal::resource_missing("starting_after");
            let json = Bytes::from(refusal.body().to_string());
            Some((plain(refusal.status, Bytes::new(), "application/json"), json))
        }
        Fault::Rival => {
            if let Side::Clerk(Some(instance)) = side {
                crowd::rival(instance, sent);
            }
            None
        }
        Fault::Drift { created, deleted, changed } => {
            if let Side::Clerk(Some(instance)) = side {
                crowd::drift(instance, &app.faults, [*created, *deleted, *changed]);
            }
            None
        }
    }
}

/// What becomes of the answer.
async fn after(
    app: &App,
    side: &Side,
    fault: Option<Fault>,
    answer: Response,
    bytes: Bytes,
    path: &str,
) -> Response {
    let shown = match (side, path) {
        (Side::Clerk(Some(instance)), "/v1/users") if bytes.starts_with(b"[") => {
            let mut last = instance.last_page.lock().unwrap_or_else(PoisonError::into_inner);
            let previous = last.replace(bytes.clone());
            if matches!(fault, Some(Fault::RepeatPage)) { previous.unwrap_or(bytes) } else { bytes }
        }
        (Side::Clerk(_) | Side::D1, _) => bytes,
    };
    match fault {
        Some(Fault::Status { status, body, retry_after, when: When::After }) => {
            injected(app, side, status, body, retry_after)
        }
        Some(Fault::Reset { when: When::After }) => broken(),
        Some(Fault::Hang { when: When::After }) => std::future::pending().await,
        Some(Fault::Truncate) => body::truncated(answer, &shown),
        Some(Fault::SlowBody { byte_ms }) => {
            body::slow(answer, &shown, Duration::from_millis(byte_ms))
        }
        Some(Fault::Delay { after_ms, .. }) => {
            pause(Duration::from_millis(after_ms)).await;
            whole(answer, shown)
        }
        Some(Fault::WrongShape) => whole(answer, Bytes::from_static(b"{\"unexpected\":[true]}")),
        Some(
            Fault::RepeatPage
            | Fault::Refuse { .. }
            | Fault::Rival
            | Fault::Drift { .. }
            | Fault::CursorGone
            | Fault::Status { when: When::Before, .. }
            | Fault::Reset { when: When::Before }
            | Fault::Hang { when: When::Before },
        )
        | None => whole(answer, shown),
    }
}

fn whole(mut answer: Response, bytes: Bytes) -> Response {
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    *answer.body_mut() = Body::from(bytes);
    answer
}

fn plain(status: StatusCode, bytes: Bytes, content_type: &'static str) -> Response {
    let mut answer = Response::new(Body::from(bytes));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn is_broken(answer: &Response) -> bool {
    answer.extensions().get::<Broken>().is_some()
}

/// The name of a fault on the tape, which holds the answer from before a fault
/// that comes after the effect.
fn taped(fault: &Fault) -> &'static str {
    match fault {
        Fault::Status { when: When::After, .. } => "status_after",
        Fault::Status { when: When::Before, .. }
        | Fault::Reset { .. }
        | Fault::Truncate
        | Fault::Delay { .. }
        | Fault::WrongShape
        | Fault::RepeatPage
        | Fault::Refuse { .. }
        | Fault::Rival
        | Fault::Drift { .. }
        | Fault::CursorGone
        | Fault::SlowBody { .. }
        | Fault::Hang { .. } => fault.kind(),
    }
}

fn broken() -> Response {
    let mut answer = Response::new(Body::empty());
    answer.extensions_mut().insert(Broken);
    answer
}

fn injected(
    app: &App,
    side: &Side,
    status: u16,
    body: BodyKind,
    retry_after: Option<RetryAfter>,
) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = match body {
        BodyKind::Json => {
            let json = match side {
                Side::Clerk(_) => clerk_error(status),
                Side::D1 => json!({
                    "success": false, "result": null, "messages": [],
                    "errors": [{ "code": 7500, "message": format!("injected: {status}") }],
                }),
            };
            plain(status, Bytes::from(json.to_string()), "application/json")
        }
        BodyKind::Html => {
            let page =
                format!("<html><head><title>{status}</title></head><body>{status}</body></html>");
            plain(status, Bytes::from(page), "text/html")
        }
        BodyKind::Empty => {
            let mut empty = Response::new(Body::empty());
            *empty.status_mut() = status;
            empty
        }
    };
    let text = retry_after.map(|after| match after {
        RetryAfter::Seconds(seconds) => seconds.to_string(),
        RetryAfter::DateIn(seconds) => {
            let later = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
            http_date(app.clock.now_ms().saturating_add(later))
        }
    });
    if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
        answer.headers_mut().insert(header::RETRY_AFTER, value);
    }
    answer
}

/// The `IMF-fixdate` of RFC 9110, of a moment in Unix milliseconds.
fn http_date(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at)
        .map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .unwrap_or_default()
}

/// The documented error of a status.
fn clerk_error(status: StatusCode) -> Value {
    let (code, message, long) = match status.as_u16() {
        429 => ("too_many_requests", "Too many requests", "Too many requests, retry later"),
        409 => (
            "resource_locked",
            "resource busy",
            "This resource is currently being modified by another request. Please try again.",
        ),
        // What a key that was rotated meets.
        401 => return Refusal::key_invalid().body(),
        503 => ("service_unavailable", "Service unavailable", "Service unavailable"),
        504 => ("gateway_timeout", "Gateway timeout", "Gateway timeout"),
        400..=499 => ("bad_request", "Bad request", "Bad request"),
        _ => (
            "internal_clerk_error",
            "Oops, an unexpected error occurred",
            "There was an internal error on our servers. We've been notified and are working on fixing it.",
        ),
    };
    refusal::body(&[refusal::error(code, message, long, Value::Null)])
}
