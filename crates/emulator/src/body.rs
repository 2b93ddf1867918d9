//! Bodies that do not come whole, or not at once.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;

/// The head of the whole answer, then its body byte by byte.
pub(crate) fn slow(mut answer: Response, bytes: &Bytes, byte: Duration) -> Response {
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let rest = bytes.clone();
    *answer.body_mut() =
        Body::from_stream(futures::stream::unfold(rest, move |mut rest| async move {
            if rest.is_empty() {
                return None;
            }
            tokio::time::sleep(byte).await;
            let first = rest.split_to(1);
            Some((Ok::<_, Infallible>(first), rest))
        }));
    answer
}

/// The head of the whole answer and half of its body, then an error that
/// closes the connection.
pub(crate) fn truncated(mut answer: Response, bytes: &Bytes) -> Response {
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let half = bytes.slice(..bytes.len() / 2);
    *answer.body_mut() = Body::from_stream(Half { first: Some(half), waited: false });
    answer
}

struct Half {
    first: Option<Bytes>,
    waited: bool,
}

impl futures::Stream for Half {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if !self.waited {
            // One pause, in which the server flushes what it has: an error in
            // the same turn would take the first half with it.
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted))))
    }
}
