//! The body of a request: whole and within its limits, left unread for somebody else, or thrown away.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use kubecore_core::status::Status;
use tokio::runtime::Handle;

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::server::Server;
use crate::status;

/// How much more than the limit of a body is read before the connection is cut.
const DISCARD_FACTOR: usize = 4;
/// How much is read of what nobody wants.
const UNWANTED: usize = 16 << 20;

/// A body that nobody has taken yet. What is dropped so, by a refusal for instance, is read all the same: a connection
/// of HTTP/1.1 that ends while something is unread is reset, and the client loses the answer.
pub(crate) struct Untaken {
    incoming: Option<Incoming>,
    /// How long it is read when nobody wants it; None: not at all.
    patience: Option<Duration>,
}

impl Untaken {
    pub(crate) fn new(
        incoming: Incoming,
        connection: &Connection,
        headers: &HeaderMap,
        patience: Duration,
    ) -> Self {
        // HTTP/2 ends a stream by itself, and who waits to be asked for the body is answered instead.
        let is_read = connection.outflow.is_some() && !headers.contains_key(EXPECT);
        Self { incoming: Some(incoming), patience: is_read.then_some(patience) }
    }

    fn take(mut self) -> Option<Incoming> {
        self.incoming.take()
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        let unwanted = self.incoming.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Some(patience), Ok(runtime)) = (unwanted, self.patience, Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(patience, discard(body, UNWANTED)));
        }
    }
}

impl Server {
    /// The whole body, or the body unread where the request is to be passed on to somebody.
    pub(crate) async fn take_body(
        &self,
        untaken: Untaken,
        exchange: &Exchange,
    ) -> Result<(Bytes, Option<Incoming>), Status> {
        let Some(incoming) = untaken.take() else { return Ok((Bytes::new(), None)) };
        let proxied = exchange.info.is_resource() && exchange.info.subresource() == "proxy";
        if proxied || exchange.delegated {
            return Ok((Bytes::new(), Some(incoming)));
        }
        let body = self.read_body(incoming, &exchange.headers).await?;
        self.metrics.bodies.observe(&exchange.info, body.len(), || self.routes.knows(&exchange.info));
        Ok((body, None))
    }

    async fn read_body(&self, incoming: Incoming, headers: &HeaderMap) -> Result<Bytes, Status> {
        if incoming.is_end_stream() {
            return Ok(Bytes::new());
        }
        let limit = self.limits.max_body_bytes;
        let announced =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let too_large = announced.is_some_and(|length| length > limit as u64);
        let collect = async {
            let mut incoming = incoming;
            if too_large {
                discard(incoming, limit * DISCARD_FACTOR).await;
                return Err(status::body_too_large(limit));
            }
            match Limited::new(&mut incoming, limit).collect().await {
                Ok(collected) => Ok(collected.to_bytes()),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    discard(incoming, limit * DISCARD_FACTOR).await;
                    Err(status::body_too_large(limit))
                }
                Err(_) => Err(Status::bad_request("the body of the request could not be read")),
            }
        };
        tokio::time::timeout(self.limits.body_timeout, collect)
            .await
            .unwrap_or_else(|_| Err(status::body_timeout()))
    }
}

/// Reads on for a while after a body has turned out too large: a client that is still writing reads no answer.
async fn discard(mut incoming: Incoming, mut budget: usize) {
    while let Some(Ok(frame)) = incoming.frame().await {
        let read = frame.data_ref().map_or(0, Bytes::len);
        match budget.checked_sub(read) {
            Some(left) => budget = left,
            None => return,
        }
    }
}
