//! The body of a request: whole and within its limits, or left unread for somebody else.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use kubecore_core::status::Status;

use crate::exchange::Exchange;
use crate::server::Server;
use crate::status;

/// How much more than the limit of a body is read before the connection is cut.
const DISCARD_FACTOR: usize = 4;

impl Server {
    /// The whole body, or the body unread where the request is to be passed on to somebody.
    pub(crate) async fn take_body(
        &self,
        incoming: Incoming,
        exchange: &Exchange,
    ) -> Result<(Bytes, Option<Incoming>), Status> {
        let proxied = exchange.info.is_resource() && exchange.info.subresource() == "proxy";
        if proxied || exchange.delegated {
            return Ok((Bytes::new(), Some(incoming)));
        }
        Ok((self.read_body(incoming, &exchange.headers).await?, None))
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
