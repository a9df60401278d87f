//! One request of the relay's: sent to a destination, and to another one where nothing is lost by it; answered.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use http::StatusCode;
use kubecore_core::balance::{Connection, Flow};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep};

use super::content::Content;
use super::response::Head;
use super::wire::{Fault, Wire};
use super::{Relay, end_head};
use crate::answers;
use crate::backend::Terms;
use crate::client::Busy;
use crate::forward::{MOST_STALE, Tried, unreachable};
use crate::record::Record;
use crate::shared::Target;

/// A request whose bytes are ready to be sent.
pub struct Request {
    pub target: Arc<Target>,
    pub terms: Arc<Terms>,
    pub record: Record,
    /// The request counts as under way while it lives.
    pub _busy: Busy,
    pub to_head: bool,
    /// Sent twice it does nothing twice.
    pub repeatable: bool,
    /// The client wants no other request answered.
    pub close: bool,
}

/// Why a request has no answer of a destination's.
enum Lost {
    /// The client has gone: nobody is to be told.
    Client,
    Answer(StatusCode, String),
}

struct Answer {
    wire: Wire,
    head: Head,
    connection: Connection,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relay<'_, S> {
    /// False: the connection is over.
    pub async fn answer(&mut self, mut request: Request) -> bool {
        let mut out = Vec::with_capacity(2048);
        let found = self.ask(&mut request, &mut out).await;
        let close = request.close || self.ending.load(Relaxed);
        match found {
            Ok(answer) => {
                request.record.status = answer.head.status;
                let stall = request.terms.read_timeout;
                self.pass(answer, &mut request.record, out, close, stall).await && !close
            }
            Err(Lost::Client) => false,
            Err(Lost::Answer(status, why)) => {
                request.record.status = status.as_u16();
                request.record.failed(why);
                self.tell(status, &mut request.record, close, request.to_head).await && !close
            }
        }
    }

    async fn ask(&mut self, request: &mut Request, out: &mut Vec<u8>) -> Result<Answer, Lost> {
        let shared = Arc::clone(self.shared);
        let service = Arc::clone(&request.target.backend.service);
        let terms = Arc::clone(&request.terms);
        let mut tried = Tried::new();
        let mut stale = 0;
        let mut last = Lost::Answer(StatusCode::SERVICE_UNAVAILABLE, "no destination".to_owned());
        while tried.len() < shared.options.attempts && stale < MOST_STALE {
            let flow = Flow::new(self.client.remote, self.client.local.ip());
            let Some(connection) = service.connect_excluding(&flow, shared.now(), &tried) else { break };
            let address = connection.destination().address();
            request.record.sent_to(address);
            let peer = terms.peer(address);
            let pooled = std::future::poll_fn(|cx| Poll::Ready(shared.pool.wires.take(&peer, cx))).await;
            let mut wire = match pooled {
                Some(wire) => wire,
                None => match self.watching(terms.connect(address)).await.ok_or(Lost::Client)? {
                    Ok(stream) => Wire::new(stream, peer),
                    Err(error) => {
                        last = Lost::Answer(unreachable(&error), format!("{address}: {error}"));
                        tried.push(address);
                        shared.counters.retries.fetch_add(1, Relaxed);
                        continue;
                    }
                },
            };
            let used = wire.used;
            let (fault, repeatable) = match self.asked(&mut wire, request, out).await? {
                Some(Ok(head)) => return Ok(Answer { wire, head, connection }),
                Some(Err(Fault::Unsent(why))) => (why, true),
                Some(Err(Fault::Broken(why))) => (why, request.repeatable),
                None => {
                    let why = format!("{address}: no answer in time");
                    return Err(Lost::Answer(StatusCode::GATEWAY_TIMEOUT, why));
                }
            };
            last = Lost::Answer(StatusCode::BAD_GATEWAY, format!("{address}: {fault}"));
            if !repeatable {
                break;
            }
            out.clear();
            shared.counters.retries.fetch_add(1, Relaxed);
            if used { stale += 1 } else { tried.push(address) }
        }
        Err(last)
    }

    /// None: not in time.
    async fn asked(
        &mut self,
        wire: &mut Wire,
        request: &Request,
        out: &mut Vec<u8>,
    ) -> Result<Option<Result<Head, Fault>>, Lost> {
        let asking = wire.ask(&self.outgoing, request.to_head, self.shared.options.max_header_bytes, out);
        let limited = within(&mut self.timer, request.terms.read_timeout, asking);
        watching(&mut self.stream, &mut self.incoming, limited).await.ok_or(Lost::Client)
    }

    async fn watching<F: Future>(&mut self, waiting: F) -> Option<F::Output> {
        watching(&mut self.stream, &mut self.incoming, waiting).await
    }

    /// Streams an answer to the client; false: it has gone, or must not take the answer for whole.
    async fn pass(
        &mut self,
        answer: Answer,
        record: &mut Record,
        mut out: Vec<u8>,
        close: bool,
        stall: Duration,
    ) -> bool {
        let Answer { wire, head, connection } = answer;
        if !head.has_date {
            self.date.write(&self.shared.clock, &mut out);
        }
        end_head(close, &mut out);
        let (mut content, mut at, keep) = (head.content, head.length, head.keep);
        let mut exchange = Some((wire, connection));
        while let Some((wire, connection)) = exchange.take() {
            let taken = match &mut content {
                // No need to copy what is long.
                Content::Length(left) if out.is_empty() => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(wire.buffer.len());
                    if self.send(&wire.buffer[..length], record).await.is_err() {
                        return false;
                    }
                    content.skip(length)
                }
                content => content.take(&wire.buffer[at..], &mut out),
            };
            let taken = match taken {
                Ok(taken) => taken,
                Err(why) => {
                    record.failed(why);
                    // What has been understood is passed on, and no end.
                    let _ = self.send(&out, record).await;
                    return false;
                }
            };
            record.bytes += taken.content as u64;
            let over = taken.done && at + taken.consumed == wire.buffer.len();
            at = 0;
            if taken.done {
                self.finish(wire, connection, keep && over);
            } else {
                exchange = Some((wire, connection));
            }
            if !out.is_empty() && self.send(&out, record).await.is_err() {
                return false;
            }
            out.clear();
            let Some((wire, _)) = &mut exchange else { break };
            let reading = within(&mut self.timer, stall, wire.read());
            let Some(read) = watching(&mut self.stream, &mut self.incoming, reading).await else {
                record.failed("the client has gone");
                return false;
            };
            let ended = match read {
                Some(Ok(0)) => content.closed(&mut out).map_err(str::to_owned),
                Some(Ok(_)) => continue,
                Some(Err(error)) => Err(error.to_string()),
                None => Err("the answer stalled".to_owned()),
            };
            if let Err(why) = ended {
                record.failed(why);
                return false;
            }
            return self.send(&out, record).await.is_ok();
        }
        true
    }

    /// All of an answer has come.
    fn finish(&self, wire: Wire, connection: Connection, keep: bool) {
        let removed = connection.destination().removed();
        connection.close(self.shared.now());
        if keep && !removed {
            self.shared.pool.wires.put(wire, &self.shared.runtime);
        }
    }

    async fn send(&mut self, bytes: &[u8], record: &mut Record) -> Result<(), ()> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error: std::io::Error| record.failed(error.to_string()))
    }

    /// An answer of our own.
    async fn tell(&mut self, status: StatusCode, record: &mut Record, close: bool, to_head: bool) -> bool {
        let text = answers::text(status, "");
        let mut out = format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or(""));
        out += &format!("content-type: {}\r\ncontent-length: {}\r\n", answers::TEXT, text.len());
        let mut out = out.into_bytes();
        self.date.write(&self.shared.clock, &mut out);
        end_head(close, &mut out);
        if !to_head {
            out.extend_from_slice(text.as_bytes());
            record.bytes = text.len() as u64;
        }
        self.send(&out, record).await.is_ok()
    }
}

/// What comes of `waiting`; None: the client has gone meanwhile. What it sends meanwhile waits.
async fn watching<S, F>(stream: &mut S, incoming: &mut Vec<u8>, waiting: F) -> Option<F::Output>
where
    S: AsyncRead + Unpin,
    F: Future,
{
    let mut waiting = pin!(waiting);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = waiting.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if incoming.is_empty() {
            match pin!(stream.read_buf(incoming)).poll(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) | Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}

/// None: not within `limit`. The timer is moved, which costs less than making one.
async fn within<F: Future>(timer: &mut Pin<Box<Sleep>>, limit: Duration, waiting: F) -> Option<F::Output> {
    timer.as_mut().reset(Instant::now() + limit);
    let mut waiting = pin!(waiting);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = waiting.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}
