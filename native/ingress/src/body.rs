//! Bodies on their way: both directions are streamed piece by piece, each piece only when the other side takes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use kubecore_core::balance::Connection;
use tokio::time::{Instant, Sleep};

use crate::channel::{Channel, told};
use crate::client::Busy;
use crate::head_guard::SharedHead;
use crate::pool::Reusable;
use crate::record::Record;
use crate::shared::Shared;

/// A client's body on its way to a destination.
#[derive(Debug, Default)]
pub struct RequestBody {
    incoming: Option<Incoming>,
    /// Told when the body is over.
    head: Option<SharedHead>,
}

impl RequestBody {
    pub fn empty() -> Self {
        Self::default()
    }

    pub fn new(incoming: Incoming, head: Option<SharedHead>) -> Self {
        Self { incoming: Some(incoming), head }
    }

    fn over(&mut self) {
        if let Some(head) = self.head.take() {
            head.lock().body_is_over();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || incoming.is_end_stream() {
            this.over();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.over();
    }
}

/// What an answer from a destination holds on to until its body is over.
pub struct Exchange {
    pub shared: Arc<Shared>,
    /// Of HTTP/1.1: driven with the body, and kept for another request after it.
    pub channel: Option<Channel>,
    pub connection: Connection,
}

impl Exchange {
    /// All of the answer has come: the channel can be used again.
    fn finish(self, cx: &mut Context<'_>) {
        let removed = self.connection.destination().removed();
        self.connection.close(self.shared.now());
        if let Some(mut channel) = self.channel
            && !removed
            && channel.is_ready(cx)
        {
            self.shared.pool.channels.put(channel, &self.shared.runtime);
        }
    }
}

enum Content {
    Own(Bytes),
    Destination(Incoming),
}

/// An answer's body on its way to the client. The request counts as under way while it lives.
pub struct AnswerBody {
    content: Content,
    exchange: Option<Exchange>,
    record: Option<Record>,
    _busy: Option<Busy>,
    stall: Stall,
}

/// How long an answer may pause.
#[derive(Default)]
struct Stall {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    pausing: bool,
}

impl Stall {
    /// Asked whenever nothing has come.
    fn is_too_long(&mut self, cx: &mut Context<'_>) -> bool {
        if !std::mem::replace(&mut self.pausing, true) {
            let deadline = Instant::now() + self.limit;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(deadline),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
            }
        }
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }
}

impl AnswerBody {
    pub fn own(bytes: Bytes, record: Option<Record>, busy: Option<Busy>) -> Self {
        Self { content: Content::Own(bytes), exchange: None, record, _busy: busy, stall: Stall::default() }
    }

    /// `stall`: how long nothing may come.
    pub fn of_destination(
        incoming: Incoming,
        exchange: Exchange,
        record: Record,
        busy: Busy,
        stall: Duration,
    ) -> Self {
        let mut exchange = Some(exchange);
        if incoming.is_end_stream()
            && let Some(over) = exchange.take()
        {
            // Nobody will ask for a body that is none.
            over.finish(&mut Context::from_waker(std::task::Waker::noop()));
        }
        let (content, stall) = (Content::Destination(incoming), Stall { limit: stall, ..Stall::default() });
        Self { content, exchange, record: Some(record), _busy: Some(busy), stall }
    }

    fn count(&mut self, frame: &Frame<Bytes>) {
        if let (Some(record), Some(data)) = (&mut self.record, frame.data_ref()) {
            record.bytes += data.len() as u64;
        }
    }

    fn finish(&mut self, cx: &mut Context<'_>) {
        if let Some(exchange) = self.exchange.take() {
            exchange.finish(cx);
        }
        self.record = None;
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let incoming = match &mut this.content {
            Content::Own(bytes) => {
                let frame = (!bytes.is_empty()).then(|| Frame::data(std::mem::take(bytes)));
                if let Some(frame) = &frame {
                    this.count(frame);
                }
                return Poll::Ready(frame.map(Ok));
            }
            Content::Destination(incoming) => incoming,
        };
        let mut polled = Pin::new(&mut *incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(channel) = this.exchange.as_mut().and_then(|exchange| exchange.channel.as_mut())
        {
            channel.drive(cx);
            polled = Pin::new(&mut *incoming).poll_frame(cx);
        }
        let last = incoming.is_end_stream();
        let mut polled = polled.map_err(|error| io::Error::other(told(&error)));
        if polled.is_ready() {
            this.stall.pausing = false;
        } else if this.stall.is_too_long(cx) {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the answer stalled");
            polled = Poll::Ready(Some(Err(error)));
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.count(frame);
                if last {
                    this.finish(cx);
                }
            }
            Poll::Ready(None) => this.finish(cx),
            Poll::Ready(Some(Err(error))) => {
                this.exchange = None;
                if let Some(mut record) = this.record.take() {
                    record.failed(error.to_string());
                }
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_empty(),
            Content::Destination(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Destination(incoming) => incoming.size_hint(),
        }
    }
}
