//! Webhooks, as an application would receive them: `user.created` and
//! `user.deleted`, sent once, after an optional delay, and forgotten.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::config::Settings;
use crate::instance::Effect;

/// Sends what `settings` asks for on a task of its own. A receiver that is
/// away is only logged, as the emulator keeps no queue.
pub(crate) fn send(settings: &Settings, effect: &Effect) {
    let Some(url) = settings.webhook_url.clone() else { return };
    let Some(event) = event(effect) else { return };
    let delay = Duration::from_millis(settings.webhook_delay_ms);
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    drop(runtime.spawn(async move {
        tokio::time::sleep(delay).await;
        if let Err(error) = post(&url, event).await {
            tracing::warn!(url, error, "a webhook could not be delivered");
        }
    }));
}

fn event(effect: &Effect) -> Option<Value> {
    let (kind, instance, data) = match effect {
        Effect::Created { instance, user } => ("user.created", instance, json!(**user)),
        Effect::Deleted { instance, user } => (
            "user.deleted",
            instance,
            json!({ "object": "user", "id": user.id, "deleted": true, "external_id": user.external_id }),
        ),
        Effect::Updated { .. } => return None,
    };
    Some(json!({ "type": kind, "object": "event", "data": data, "instance_id": instance }))
}

async fn post(url: &str, event: Value) -> Result<(), String> {
    let rest = url.strip_prefix("http://").ok_or("only http:// is supported")?;
    let (authority, path) = rest
        .split_once('/')
        .map_or((rest, "/".to_owned()), |(host, path)| (host, format!("/{path}")));
    let address =
        if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::post(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(event.to_string()))
        .map_err(|error| error.to_string())?;
    let exchange = async move {
        let answer = sender.send_request(request).await;
        drop(sender);
        answer
    };
    let (answer, _closed) = tokio::join!(exchange, connection);
    let status = answer.map_err(|error| error.to_string())?.status();
    if status.is_success() { Ok(()) } else { Err(format!("status {status}")) }
}
