//! A connection to a destination that speaks HTTP/1.1, without a task of its own: whoever uses it drives it.
//!
//! Request, answer and both bodies run in the task of the client's connection, so that no request ever waits for
//! another thread to be woken.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep};

use crate::body::RequestBody;
use crate::pool::Reusable;
use crate::transport::{Peer, Transport};

/// Why a request got no answer.
#[derive(Debug)]
pub enum Failure {
    /// Not a byte of it was sent: it can be sent elsewhere.
    Unsent(Box<Request<RequestBody>>),
    /// The client's own body broke off or made no sense.
    Client,
    /// The destination may have seen some of it.
    Broken(String),
    TimedOut,
}

type Driver = http1::Connection<TokioIo<Transport>, RequestBody>;

pub struct Channel {
    sender: http1::SendRequest<RequestBody>,
    /// None once the connection has ended.
    driver: Option<Pin<Box<Driver>>>,
    peer: Peer,
    /// Used over and over, since setting a timer costs more than moving one.
    timer: Pin<Box<Sleep>>,
    idle_since: Instant,
    /// It has carried a request before: the destination may be about to close it.
    pub used: bool,
}

impl Channel {
    pub async fn open(stream: Transport, peer: Peer, max_header_bytes: usize) -> io::Result<Self> {
        let mut builder = http1::Builder::new();
        builder.max_header_size(max_header_bytes);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(now));
        Ok(Self { sender, driver: Some(Box::pin(driver)), peer, timer, idle_since: now, used: false })
    }

    /// Does what can be done now; false once the connection has ended.
    pub fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            // Dropped, it tells whoever waits for an answer.
            self.driver = None;
        }
        self.driver.is_some()
    }

    /// Sends a request; the answer's head comes back, and its body comes while the channel is driven.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let mut sending = pin!(self.sender.try_send_request(request));
        self.timer.as_mut().reset(Instant::now() + limit);
        self.used = true;
        std::future::poll_fn(|cx| {
            self.drive(cx);
            if let Poll::Ready(answer) = sending.as_mut().poll(cx) {
                return Poll::Ready(answer.map_err(failure));
            }
            if self.timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Failure::TimedOut));
            }
            Poll::Pending
        })
        .await
    }
}

impl Reusable for Channel {
    fn peer(&self) -> Peer {
        self.peer
    }

    fn idle_since(&self) -> Instant {
        self.idle_since
    }

    fn put_aside(&mut self, now: Instant) {
        self.idle_since = now;
    }

    fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx) && self.sender.is_ready()
    }
}

pub fn failure(mut error: http1_error::TrySendError) -> Failure {
    if let Some(request) = error.take_message() {
        return Failure::Unsent(Box::new(request));
    }
    let error = error.into_error();
    if error.is_user() { Failure::Client } else { Failure::Broken(told(&error)) }
}

/// An error with what it stems from.
pub fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

mod http1_error {
    pub type TrySendError = hyper::client::conn::TrySendError<http::Request<crate::body::RequestBody>>;
}
