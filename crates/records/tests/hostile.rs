//! The D1 client against servers that are not D1.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use rehome_core::backoff::Backoff;
use rehome_core::pacer::{Pacer, Rate};
use rehome_core::{Halt, RemoteTrouble};
use rehome_records::d1::{D1Config, D1Reader, D1Writer};
use rehome_records::{Statement, WriteDatabase as _, Written};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const UUID: &str = "11111111-1111-4111-8111-111111111111";
const TOKEN: &str = "token_secretsecret";

async fn serve(
    answer: impl Fn(usize, Request) -> Response + Clone + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/client/v4", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let router = Router::new().fallback(move |request: Request| {
        let response = answer(count.fetch_add(1, Ordering::SeqCst), request);
        async move { response }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn config(url: &str) -> D1Config {
    let fast = Rate { requests: 1_000_000, window: Duration::from_secs(1) };
    let mut config = D1Config::new("acc", UUID, TOKEN.to_owned().into(), "the D1 database");
    config.api_url = url.to_owned();
    config.pacer = Arc::new(Pacer::new(fast, 1.0));
    let soon = Duration::from_millis(1);
    config.backoff = Backoff { first: soon, cap: soon, attempts: 1 };
    config
}

fn found() -> Response {
    let body = format!(r#"{{"success":true,"result":{{"uuid":"{UUID}","name":"badges"}}}}"#);
    body.into_response()
}

/// How a connection to this server ends.
async fn halted(url: &str) -> String {
    let Err(halt) = D1Reader::connect(config(url)).await else { panic!("connected") };
    let shown = format!("{halt:?}");
    assert!(!shown.contains("secretsecret"), "{shown}");
    match halt {
        Halt::Remote {
            trouble: RemoteTrouble::Unreachable | RemoteTrouble::Protocol,
            message,
            ..
        } => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_flood_is_refused_while_it_streams() {
    let announced = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/client/v4", announced.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = announced.accept().await.unwrap();
            let mut head = [0; 4096];
            let _read = socket.read(&mut head).await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n{";
            socket.write_all(head).await.unwrap();
        }
    });
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let endless = serve(move |_, _| {
        let chunk = vec![b' '; 1 << 20];
        let sent = Arc::clone(&counted);
        let chunks = futures::stream::iter(0..1024).map(move |_| {
            sent.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(chunk.clone())
        });
        Body::from_stream(chunks).into_response()
    })
    .await;
    for url in [url, endless] {
        let message = halted(&url).await;
        assert!(message.contains("more than 67108864 bytes"), "{message}");
    }
    let sent = sent.load(Ordering::SeqCst);
    assert!((64..200).contains(&sent), "{sent} MiB of a gibibyte left");
}

#[tokio::test]
async fn nesting_pages_and_other_types_are_no_answers() {
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for body in [
        nested.clone(),
        format!(r#"{{"success":true,"result":{nested}}}"#),
        format!(r#"{{"success":true,"result":{{"uuid":"x"}},"errors":{nested}}}"#),
        "<html>welcome</html>".to_owned(),
        "\"text\"".to_owned(),
        "7".to_owned(),
    ] {
        let shown: String = body.chars().take(60).collect();
        let url = serve(move |_, _| {
            ([(header::CONTENT_TYPE, "text/html")], body.clone()).into_response()
        })
        .await;
        assert!(!halted(&url).await.is_empty(), "{shown}");
    }
}

#[tokio::test]
async fn the_token_does_not_follow_a_redirect_and_a_write_is_not_repeated_elsewhere() {
    for status in
        [StatusCode::TEMPORARY_REDIRECT, StatusCode::FOUND, StatusCode::PERMANENT_REDIRECT]
    {
        let elsewhere = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&elsewhere);
        let other = serve(move |_, request| {
            seen.lock().unwrap().push(request.headers().get(header::AUTHORIZATION).cloned());
            found()
        })
        .await
        .replace("127.0.0.1", "localhost");
        let url = serve(move |number, _| match number {
            0 => found(),
            _ => (status, [(header::LOCATION, other.clone())]).into_response(),
        })
        .await;
        let writer = D1Writer::connect(config(&url)).await.unwrap();
        let written = writer.write(vec![Statement::new("INSERT INTO t VALUES (1)")]).await;
        assert!(
            matches!(written, Written::NotSent { halt: Some(_), .. } | Written::Unknown { .. }),
            "{status}: {written:?}"
        );
        assert!(elsewhere.lock().unwrap().is_empty(), "nobody else was asked");
    }
}
