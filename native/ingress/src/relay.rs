//! The short way for most requests of HTTP/1.1: heads are read and written as bytes, without maps of headers, and both
//! connections are driven by one task. What is not plain (`request`) goes with its connection to hyper, before any of it
//! has been passed on; so what is understood here can be narrow and strict.

pub mod as_sent;
mod content;
mod date;
mod exchange;
mod request;
mod response;
mod wire;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use http::Version;
use kubecore_front::lifespan::{Patience, Served, live};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Sleep;

use crate::backend::Protocol;
use crate::client::{Busy, Client};
use crate::record::{Asked, Record};
use crate::shared::Shared;
use crate::table::host_name;
use date::Date;
use exchange::Request;
use request::{Judged, Plain};
pub use wire::Wire;

/// What a client may send at once; more is read when it is needed.
const ROOM: usize = 4 << 10;

struct Relay<'a, S> {
    shared: &'a Arc<Shared>,
    client: &'a Arc<Client>,
    stream: S,
    /// Of the client, and not understood yet.
    incoming: Vec<u8>,
    /// The request that is being sent to a destination.
    outgoing: Vec<u8>,
    timer: Pin<Box<Sleep>>,
    date: Date,
    /// No more requests are wanted.
    ending: &'a AtomicBool,
}

/// Serves plain requests until the client goes or the server ends (None), or a request comes that is not plain: then what
/// has been read, and the stream, are handed back.
pub async fn serve<S>(
    shared: &Arc<Shared>,
    client: &Arc<Client>,
    stream: S,
    patience: Patience,
) -> Option<(Vec<u8>, S)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ending = AtomicBool::new(false);
    let mut relay = Relay {
        shared,
        client,
        stream,
        incoming: Vec::new(),
        outgoing: Vec::new(),
        timer: Box::pin(tokio::time::sleep_until(tokio::time::Instant::now())),
        date: Date::default(),
        ending: &ending,
    };
    let mut unusual = false;
    {
        let running = pin!(async { unusual = relay.run().await });
        live(Running { running, ending: &ending }, &client.activity, patience, &shared.phase).await;
    }
    unusual.then_some((relay.incoming, relay.stream))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relay<'_, S> {
    /// True: what is in `incoming` is not for us.
    async fn run(&mut self) -> bool {
        loop {
            let goes_on = match self.begin() {
                Judged::Unusual => return true,
                Judged::Partial => self.fill().await,
                Judged::Plain(request) => self.answer(request).await,
            };
            if !goes_on {
                break;
            }
        }
        // The client may have gone already.
        let _ = self.stream.shutdown().await;
        false
    }

    /// The next request, as far as it has come. From its end on it counts as under way.
    fn begin(&mut self) -> Judged<Request> {
        let (shared, client, outgoing) = (self.shared, self.client, &mut self.outgoing);
        if self.incoming.is_empty() {
            return Judged::Partial;
        }
        let judged = request::judge(&self.incoming, |plain| {
            let target = shared.table.load().find(&host_name(plain.host), plain.path()).cloned();
            let terms = target.as_ref()?.backend.terms();
            let target = target.filter(|_| terms.protocol == Protocol::Http1)?;
            let mut record = Record::new(shared, client, Instant::now(), || asked(plain));
            record.target = Some(Arc::clone(&target));
            outgoing.clear();
            plain.write(&client.forwarded, outgoing);
            let request = Request {
                target,
                terms,
                record,
                _busy: Busy::begin(client),
                to_head: plain.method == "HEAD",
                repeatable: plain.is_repeatable(),
                close: plain.close,
            };
            Some((request, plain.length))
        });
        match judged {
            Judged::Plain(Some((request, length))) => {
                self.incoming.drain(..length);
                Judged::Plain(request)
            }
            Judged::Plain(None) | Judged::Unusual => Judged::Unusual,
            Judged::Partial => Judged::Partial,
        }
    }

    /// Reads more of the client; false: there is no more, or none is wanted.
    async fn fill(&mut self) -> bool {
        self.incoming.reserve(ROOM);
        std::future::poll_fn(|cx| match pin!(self.stream.read_buf(&mut self.incoming)).poll(cx) {
            Poll::Ready(read) => Poll::Ready(read.is_ok_and(|read| read > 0)),
            Poll::Pending if self.incoming.is_empty() && self.ending.load(Relaxed) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

fn asked<'b>(plain: &Plain<'b>) -> Asked<'b> {
    Asked {
        version: Version::HTTP_11,
        method: plain.method,
        host: plain.host.into(),
        path: plain.target,
        user_agent: plain.header("user-agent"),
        referer: plain.header("referer"),
    }
}

fn end_head(close: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if close { b"connection: close\r\n\r\n" } else { b"\r\n" });
}

struct Running<'a, F> {
    running: Pin<&'a mut F>,
    ending: &'a AtomicBool,
}

impl<F: Future<Output = ()>> Future for Running<'_, F> {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.running.as_mut().poll(cx).map(Ok)
    }
}

impl<F: Future<Output = ()>> Served for Running<'_, F> {
    fn wind_down(self: Pin<&mut Self>) {
        self.ending.store(true, Relaxed);
    }
}
