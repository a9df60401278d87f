//! Requests with an answer of bounded size, over connections that are kept.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};
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
        // As Go's transport, which unpacks what comes so.
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
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
        let too_large = || Problem::of(&format!("the answer is larger than {largest} bytes"));
        let body = Limited::new(body, largest).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { too_large() } else { Problem::amid_answer(&*error) }
        })?;
        // Before whoever waits is told: the next request may come at once.
        if sender.ready().await.is_ok() {
            self.idle.put(origin, sender);
        }
        let body = body.to_bytes();
        let is_packed = parts.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
        let body = if is_packed && !body.is_empty() {
            unpacked(&body, largest)?.ok_or_else(too_large)?
        } else {
            body
        };
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// As much as is wanted; None of more than that.
fn unpacked(packed: &[u8], largest: usize) -> Result<Option<Bytes>, Problem> {
    let mut body = Vec::new();
    let read = MultiGzDecoder::new(packed).take(largest as u64 + 1).read_to_end(&mut body);
    read.map_err(|error| Problem::unreadable(format!("gzip: {error}")))?;
    Ok((body.len() <= largest).then(|| body.into()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn of_what_is_packed_no_more_is_unpacked_than_is_wanted() {
        let large = packed(&vec![0; 1 << 20]);
        assert_eq!(unpacked(&packed(b"{}"), 2).unwrap().unwrap(), "{}");
        assert_eq!(unpacked(&large, 1 << 20).unwrap().unwrap().len(), 1 << 20);
        assert!(unpacked(&large, (1 << 20) - 1).unwrap().is_none());
        assert!(unpacked(b"{}", 100).is_err() && unpacked(&large[..40], 1 << 20).is_err());
    }
}
