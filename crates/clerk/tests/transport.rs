//! The client against servers that misbehave on the wire.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "a test stands outside the walls")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::{KEY, RATE, connection, quick, reader, transport, transport_over};
use rehome_clerk::api::User;
use rehome_clerk::{
    Attempt, CreateUser, Filter, HttpWire, Profile, ReadError, Reader, Unusable, Writer,
};
use rehome_core::clock::{Clock as _, SystemClock};
use rehome_core::pacer::Pacer;
use rehome_core::{Halt, RemoteTrouble};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

async fn serve(
    answer: impl Fn(usize, Request) -> Response + Clone + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let router = Router::new().fallback(move |request: Request| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let response = answer(number, request);
        async move { response }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// Takes connections, reads a request's head, writes `bytes`, and closes.
async fn raw(bytes: &'static [u8], reset: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            if reset {
                socket.set_zero_linger().unwrap();
            }
            let mut head = [0; 4096];
            let _read = socket.read(&mut head).await.unwrap();
            socket.write_all(bytes).await.unwrap();
        }
    });
    url
}

fn json(status: u16, body: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_owned()).into_response()
}

fn form() -> CreateUser {
    let user: User = serde_json::from_str(r#"{"id":"user_1","username":"u"}"#).unwrap();
    CreateUser::new(&Profile::of(&user), Some("user_1".into()), &BTreeSet::new())
}

async fn create(url: &str) -> Attempt {
    let transport = transport(url, KEY);
    Writer::new(Arc::clone(&transport), reader(&transport)).create_user(&form()).await
}

fn trouble(halt: Halt) -> (RemoteTrouble, String) {
    let Halt::Remote { trouble, message, .. } = halt else { panic!("{halt}") };
    (trouble, message)
}

#[tokio::test]
async fn a_write_is_sent_once_whatever_comes_back() {
    for (status, body) in
        [(500, "{}"), (502, "<html>bad gateway</html>"), (302, ""), (404, "<html>")]
    {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&count);
        let url = serve(move |_, _| {
            seen.fetch_add(1, Ordering::SeqCst);
            json(status, body)
        })
        .await;
        let attempt = create(&url).await;
        assert!(matches!(attempt, Attempt::Unknown { .. }), "{status}: {attempt:?}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_deletion_is_sent_once_and_believed_only_in_clerks_words() {
    let gone = r#"{"errors":[{"code":"resource_not_found","message":"not found"}]}"#;
    let managed = r#"{"errors":[{"code":"user_managed_by_scim","message":"m"}]}"#;
    for (status, body, wanted) in [
        (200, r#"{"object":"user","id":"user_1","deleted":true}"#, "Done"),
        (200, r#"{"object":"user","id":"user_2","deleted":true}"#, "Unknown"),
        (200, r#"{"object":"user","id":"user_1","deleted":false}"#, "Unknown"),
        (200, "<html>", "Unknown"),
        (404, gone, "Gone"),
        (404, "<html>404</html>", "Unknown"),
        (409, managed, "Refused"),
        (401, managed, "Unauthorized"),
        (429, "", "Throttled"),
        (502, gone, "Unknown"),
    ] {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&count);
        let url = serve(move |_, request| {
            assert_eq!(
                (request.method().as_str(), request.uri().path()),
                ("DELETE", "/v1/users/user_1")
            );
            seen.fetch_add(1, Ordering::SeqCst);
            json(status, body)
        })
        .await;
        let transport = transport(&url, KEY);
        let writer = Writer::new(Arc::clone(&transport), reader(&transport));
        let deletion = format!("{:?}", writer.delete_user("user_1").await);
        assert!(deletion.starts_with(wanted), "{status} {body}: {deletion}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn what_is_cut_off_may_have_happened() {
    let truncated = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id\":\"user_2\"}";
    for url in [raw(b"", true).await, raw(b"", false).await, raw(truncated, false).await] {
        let attempt = create(&url).await;
        assert!(matches!(attempt, Attempt::Unknown { .. }), "{attempt:?}");
    }
}

#[tokio::test]
async fn an_answer_without_an_id_may_have_happened() {
    for body in ["", "<html>", r#"{"unexpected":[true]}"#, "[]"] {
        let url = serve(move |_, _| json(200, body)).await;
        assert!(matches!(create(&url).await, Attempt::Unknown { .. }), "{body}");
    }
}

#[tokio::test]
async fn a_hanging_server_may_have_acted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    assert!(matches!(create(&url).await, Attempt::Unknown { .. }));
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert!(matches!(create(&url).await, Attempt::NotSent { .. }));

    let halt = reader(&transport(&url, KEY)).count().await.unwrap_err();
    assert_eq!(trouble(halt).0, RemoteTrouble::Unreachable);
}

#[tokio::test]
async fn the_apis_own_refusal_is_told_in_its_words() {
    let body = r#"{"errors":[{"code":"form_param_unknown","message":"m","long_message":"banned is not a valid parameter","meta":{"param_name":"banned"}}],"clerk_trace_id":"trace1"}"#;
    let url = serve(move |_, _| json(422, body)).await;
    let Attempt::Refused(refusal) = create(&url).await else { panic!() };
    assert_eq!(refusal.code(), "form_param_unknown");
    assert!(refusal.to_string().contains("trace1"));
}

#[tokio::test]
async fn a_key_that_is_not_accepted_ends_the_run_at_once_and_is_not_shown() {
    let body = r#"{"errors":[{"code":"clerk_key_invalid","message":"The provided Clerk Secret Key is invalid."}],"clerk_trace_id":"t"}"#;
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let url = serve(move |_, _| {
        seen.fetch_add(1, Ordering::SeqCst);
        json(401, body)
    })
    .await;
    let transport = transport(&url, KEY);
    let halt = reader(&transport).instance().await.unwrap_err();
    let shown = format!("{halt:?} {transport:?} {:?}", connection(&url, KEY));
    assert!(!shown.contains("secretsecret"), "{shown}");
    assert_eq!(trouble(halt).0, RemoteTrouble::Authentication);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert!(matches!(create(&url).await, Attempt::Unauthorized(_)));
}

#[tokio::test]
async fn the_key_does_not_follow_a_redirect() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&keys);
    let elsewhere = serve(move |_, request| {
        seen.lock().unwrap().push(request.headers().get(header::AUTHORIZATION).cloned());
        json(200, r#"{"object":"total_count","total_count":1}"#)
    })
    .await
    .replace("127.0.0.1", "localhost");
    let url = serve(move |_, _| {
        (
            StatusCode::TEMPORARY_REDIRECT,
            [(header::LOCATION, format!("{elsewhere}/v1/users/count"))],
        )
            .into_response()
    })
    .await;
    let halt = reader(&transport(&url, KEY)).count().await.unwrap_err();
    assert!(trouble(halt).1.contains("307"));
    assert!(keys.lock().unwrap().is_empty(), "nobody else was asked");
}

#[tokio::test]
async fn requests_carry_the_key_the_version_and_encoded_values() {
    let seen = Arc::new(Mutex::new(Vec::<(String, HeaderMap)>::new()));
    let heard = Arc::clone(&seen);
    let url = serve(move |_, request| {
        heard.lock().unwrap().push((request.uri().to_string(), request.headers().clone()));
        json(200, "[]")
    })
    .await;
    let reader = reader(&transport(&url, KEY));
    reader.users_by(Filter::ExternalId, &["-a+b".to_owned()]).await.unwrap();
    let (uri, headers) = seen.lock().unwrap().remove(0);
    assert_eq!(uri, "/v1/users?limit=500&order_by=%2Bcreated_at&external_id=%2B-a%2Bb");
    assert_eq!(headers[header::AUTHORIZATION], format!("Bearer {KEY}"));
    assert_eq!(headers["clerk-api-version"], "2026-05-12");
    assert!(headers[header::USER_AGENT].to_str().unwrap().starts_with("rehome/"));
}

#[tokio::test]
async fn both_forms_of_retry_after_hold_everybody_back() {
    for as_date in [false, true] {
        let url = serve(move |number, _| match number {
            0 if as_date => {
                let until = SystemClock.now() + Duration::from_secs(2);
                let until = jiff::fmt::rfc2822::DateTimePrinter::new()
                    .timestamp_to_rfc9110_string(&until)
                    .unwrap();
                (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, until)]).into_response()
            }
            0 => {
                let after = [(header::RETRY_AFTER, "1".to_owned())];
                (StatusCode::TOO_MANY_REQUESTS, after).into_response()
            }
            _ => json(200, r#"{"total_count":3}"#),
        })
        .await;
        let pacer = Arc::new(Pacer::new(RATE, 1.0));
        let wire = HttpWire::new(&connection(&url, KEY)).unwrap();
        let transport = transport_over(wire, pacer);
        let start = Instant::now();
        assert_eq!(reader(&transport).count().await.unwrap(), 3);
        // A date counts whole seconds, so its two may be little more than one.
        assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
        assert_eq!(transport.requests(), 2);
    }
}

#[tokio::test]
async fn a_throttled_write_was_not_looked_at() {
    let url = serve(|_, _| {
        (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7")], "<html>").into_response()
    })
    .await;
    let Attempt::Throttled { retry_after } = create(&url).await else { panic!() };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn reads_outlast_trouble_and_end_as_what_it_was() {
    let url = serve(|number, _| match number {
        0 => json(500, "{}"),
        1 => json(502, "<html>502</html>"),
        2 => json(200, "<html>"),
        3 => json(403, "<html>denied by a proxy</html>"),
        _ => json(200, r#"{"id":"ins_1","environment_type":"production","new":1}"#),
    })
    .await;
    assert_eq!(reader(&transport(&url, KEY)).instance().await.unwrap().id, "ins_1");

    let url = serve(|_, _| json(200, "<html>")).await;
    let halt = reader(&transport(&url, KEY)).count().await.unwrap_err();
    assert_eq!(trouble(halt).0, RemoteTrouble::Protocol);

    let url = serve(|_, _| json(503, "")).await;
    let halt = reader(&transport(&url, KEY)).count().await.unwrap_err();
    assert_eq!(trouble(halt).0, RemoteTrouble::Unreachable);
}

#[tokio::test]
async fn a_flood_is_not_swallowed() {
    // The announced length is refused before a byte of it is read; the unannounced one is cut
    // off at the limit.
    let announced = b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n{";
    let announced = raw(announced, false).await;
    let endless = serve(|_, _| {
        let chunk = bytes::Bytes::from(vec![b' '; 1 << 20]);
        let chunks = (0..100).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
        axum::body::Body::from_stream(futures::stream::iter(chunks)).into_response()
    })
    .await;
    for url in [announced, endless] {
        let backoff = rehome_core::backoff::Backoff { attempts: 1, ..quick() };
        let reader = Reader::with_backoff(transport(&url, KEY), backoff);
        let page = reader.users_page(&rehome_clerk::reader::From::Start, 500).await;
        let Err(ReadError::Halt(halt)) = page else { panic!("{page:?}") };
        assert!(trouble(halt).1.contains("more than 67108864 bytes"));
    }
}

#[tokio::test]
async fn answers_that_nobody_means_end_the_run_and_nothing_else() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let user = r#"{"id":"user_1"}"#;
    let bodies = [
        ("deep", nested(10_000)),
        (
            "deep where nothing is read",
            format!(r#"[{{"id":"u","public_metadata":{{"a":{}}}}}]"#, nested(10_000)),
        ),
        ("more users than a page holds", format!("[{}]", vec![user; 501].join(","))),
        ("another type", "\"<html>\"".to_owned()),
        ("not UTF-8 in the end", format!("[{user},{{\"id\":\"\u{fffd}")),
    ];
    for (what, body) in bodies {
        let url = serve(move |_, _| {
            let headers = [(header::CONTENT_TYPE, "text/html")];
            (StatusCode::OK, headers, body.clone()).into_response()
        })
        .await;
        let backoff = rehome_core::backoff::Backoff { attempts: 1, ..quick() };
        let reader = Reader::with_backoff(transport(&url, KEY), backoff);
        let page = reader.users_page(&rehome_clerk::reader::From::Start, 500).await;
        let Err(ReadError::Halt(halt)) = page else { panic!("{what}: {page:?}") };
        assert_eq!(trouble(halt).0, RemoteTrouble::Protocol, "{what}");
    }
    // What is only skipped may be as deep as it likes: it costs nothing.
    let deep =
        format!(r#"[{{"id":"u","unknown":{},"passkeys":[{}]}}]"#, nested(10_000), nested(50_000));
    let url = serve(move |_, _| json(200, &deep)).await;
    let reader = reader(&transport(&url, KEY));
    let page = reader.users_page(&rehome_clerk::reader::From::Start, 500);
    assert_eq!(page.await.unwrap()[0].passkeys.len(), 1);
}

#[test]
fn the_key_does_not_travel_in_the_clear() {
    for (url, wanted) in [
        ("http://example.com", "plain"),
        ("http://127.0.0.1.example.com", "plain"),
        ("ftp://127.0.0.1", "address"),
        ("api.clerk.com", "address"),
        ("http://127.0.0.1:9", "fine"),
        ("http://[::1]:9", "fine"),
        ("https://api.clerk.com", "fine"),
    ] {
        let found = match HttpWire::new(&connection(url, KEY)) {
            Ok(_) => "fine",
            Err(Unusable::Plain { .. }) => "plain",
            Err(Unusable::Address { .. }) => "address",
            Err(other) => panic!("{other}"),
        };
        assert_eq!(found, wanted, "{url}");
    }
    let broken = HttpWire::new(&connection("https://api.clerk.com", "sk_test\n"));
    assert!(matches!(broken, Err(Unusable::Key)));
}
