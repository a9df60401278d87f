//! A connection to a destination that the relay writes to and reads from itself.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::response::{self, Head};
use crate::pool::Reusable;
use crate::transport::{Peer, Transport};

/// Most answers fit; long ones get more room.
const ROOM: usize = 16 << 10;
const MORE_ROOM: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub enum Fault {
    /// Not a byte of the request was taken: it can be sent elsewhere.
    Unsent(String),
    /// The destination may have seen some of it.
    Broken(String),
}

pub struct Wire {
    stream: Transport,
    peer: Peer,
    /// What has been read and not passed on; without memory while the wire is idle.
    pub buffer: Vec<u8>,
    idle_since: Instant,
    /// It has carried a request before: the destination may be about to close it.
    pub used: bool,
}

impl Wire {
    pub fn new(stream: Transport, peer: Peer) -> Self {
        Self { stream, peer, buffer: Vec::new(), idle_since: Instant::now(), used: false }
    }

    /// Sends `request` and reads up to the end of the answer's head, which is written to `out` as `response::read` does.
    pub async fn ask(
        &mut self,
        request: &[u8],
        to_head: bool,
        most_head_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<Head, Fault> {
        self.used = true;
        self.send(request).await?;
        self.buffer.reserve(ROOM);
        loop {
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Fault::Broken("connection closed before message completed".into())),
                Ok(_) => {}
                Err(error) => return Err(Fault::Broken(error.to_string())),
            }
            while let Some(head) = response::read(&self.buffer, to_head, out).map_err(broken)? {
                if head.status >= 200 {
                    return Ok(head);
                }
                // What comes before the answer is between the destination and us.
                self.buffer.drain(..head.length);
            }
            if self.buffer.len() > most_head_bytes {
                return Err(broken("the answer's head is too large"));
            }
        }
    }

    async fn send(&mut self, request: &[u8]) -> Result<(), Fault> {
        let mut sent = 0;
        while sent < request.len() {
            match self.stream.write(&request[sent..]).await {
                Ok(written) if written > 0 => sent += written,
                Ok(_) => return Err(broken("nothing can be written")),
                Err(error) if sent == 0 => return Err(Fault::Unsent(error.to_string())),
                Err(error) => return Err(Fault::Broken(error.to_string())),
            }
        }
        self.stream.flush().await.map_err(|error| Fault::Broken(error.to_string()))
    }

    /// Replaces what is in the buffer by what comes next; 0: the destination has closed.
    pub async fn read(&mut self) -> io::Result<usize> {
        self.buffer.clear();
        self.buffer.reserve(MORE_ROOM);
        self.stream.read_buf(&mut self.buffer).await
    }
}

fn broken(why: &str) -> Fault {
    Fault::Broken(why.to_owned())
}

impl Reusable for Wire {
    fn peer(&self) -> Peer {
        self.peer
    }

    fn idle_since(&self) -> Instant {
        self.idle_since
    }

    fn put_aside(&mut self, now: Instant) {
        self.buffer = Vec::new();
        self.idle_since = now;
    }

    /// Whatever comes while nothing was asked, its end or bytes, makes it useless.
    fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        let mut unasked = [0; 1];
        matches!(pin!(self.stream.read(&mut unasked)).poll(cx), Poll::Pending)
    }
}
