//! Requests with an answer of bounded size, over connections that are kept.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use rustls::ClientConfig;

use crate::peer::{Peer, connect};
use crate::pool::Pool;
use crate::problem::Problem;

/// Whom one asks: the name that its certificate is for, and the port. Where it is reached may change.
pub type Origin = (String, u16);

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// All of its connections are secured alike.
pub struct Client {
    tls: Option<Arc<ClientConfig>>,
    idle: Pool<Origin, Full<Bytes>>,
}

impl Client {
    pub fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self { tls, idle: Pool::default() }
    }

    /// Whether a connection waits for a request to it.
    pub fn keeps(&self, origin: &Origin) -> bool {
        self.idle.has(origin)
    }

    /// The answer to a request; redirects are answers, too. It goes over a connection that is kept, or over a new one to
    /// `place`, host and port; None if it is not sent since there is neither. Errors: why there is no answer, or none of
    /// at most `largest` bytes.
    pub async fn ask(
        &self,
        origin: Origin,
        place: Option<(String, u16)>,
        mut request: Request<Full<Bytes>>,
        largest: usize,
    ) -> Result<Option<Answer>, Problem> {
        while let Some(mut sender) = self.idle.take(&origin) {
            match sender.try_send_request(request).await {
                Ok(answer) => return self.read(origin, sender, answer, largest).await.map(Some),
                // It was closed at the other end: nothing of the request has been sent.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Problem::broken_off(&failed.into_error(), false)),
                },
            }
        }
        let Some((host, port)) = place else { return Ok(None) };
        let peer = Peer { host, port, tls: self.tls.clone(), server_name: Some(origin.0.clone()) };
        let mut sender = connect(&peer).await?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| Problem::broken_off(&error, false))?;
        self.read(origin, sender, answer, largest).await.map(Some)
    }

    async fn read(
        &self,
        origin: Origin,
        mut sender: SendRequest<Full<Bytes>>,
        answer: Response<Incoming>,
        largest: usize,
    ) -> Result<Answer, Problem> {
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, largest).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Problem::of(&format!("the answer is larger than {largest} bytes"))
            } else {
                Problem::amid_answer(&*error)
            }
        })?;
        // Before whoever waits is told: the next request may come at once.
        if sender.ready().await.is_ok() {
            self.idle.put(origin, sender);
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    }
}
