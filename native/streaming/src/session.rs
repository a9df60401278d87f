//! One exec or attach: a process's descriptors at one end, a client's connection at the other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use crate::descriptor::Descriptor;
use crate::output::{Channel, Piece, Pieces, WAITING, pump};
use crate::terminal::{Size, Sizes, resize};
use crate::{spdy_session, websocket_session};

/// How long a client may take to close its connection after it was told the outcome.
const LINGER: Duration = Duration::from_secs(5);
/// How long a client may take to open its SPDY streams.
const CREATION: Duration = Duration::from_secs(30);

/// The streams that the client asked for. With `tty`, stderr is part of stdout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// How channels share the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Messages whose first byte is the channel; `base64` ones are text. `closes`: a client may end its stdin (v5).
    WebSocket {
        base64: bool,
        closes: bool,
    },
    Spdy,
}

/// Our ends of a process's streams, and its terminal, whose size the client may set.
#[derive(Default)]
pub struct Process {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    pub terminal: Option<OwnedFd>,
}

/// What the error channel says at the end.
pub type Outcome = Bytes;

pub struct Session {
    pub wanted: Wanted,
    pub transport: Transport,
    /// The client is to open a stream for the terminal's size.
    pub resizable: bool,
    pub process: Process,
    /// Set once the process has ended; dropped unset, the session just ends.
    pub outcome: watch::Receiver<Option<Outcome>>,
}

/// What the client sends, on its way to the process.
pub struct Inputs {
    stdin: Option<Descriptor>,
    terminal: Option<OwnedFd>,
    sizes: Sizes,
}

impl Inputs {
    /// A process that does not read any more is no reason to end: its output and outcome are still to come.
    pub async fn stdin(&mut self, data: &[u8]) {
        if let Some(stdin) = &self.stdin
            && stdin.write_all(data).await.is_err()
        {
            self.stdin = None;
        }
    }

    pub fn end_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn size(&mut self, data: &[u8]) {
        let size = self.sizes.feed(data);
        if let (Some(terminal), Some(size)) = (&self.terminal, size)
            && size != Size::default()
        {
            resize(terminal.as_fd(), size);
        }
    }
}

impl Session {
    /// Runs until the process has ended and the client knows it, or the client has gone.
    ///
    /// The process is not ended when the client goes: like upstream's, it finds its streams closed, and a terminal's
    /// foreground processes get SIGHUP.
    pub async fn run(self, connection: impl AsyncRead + AsyncWrite + Unpin + Send) -> io::Result<()> {
        let Self { wanted, transport, resizable, process, outcome } = self;
        let outputs = [(process.stdout, Channel::Stdout), (process.stderr, Channel::Stderr)];
        let stdin = process.stdin.map(Descriptor::new).transpose()?;
        let inputs = Inputs { stdin, terminal: process.terminal, sizes: Sizes::default() };
        let [stdout, stderr] = outputs.map(|(end, channel)| (end.map(Descriptor::new), channel));
        let sources = Sources { stdout: stdout.0.transpose()?, stderr: stderr.0.transpose()?, outcome };
        let (pieces, queue) = mpsc::channel(WAITING);
        match transport {
            Transport::WebSocket { base64, closes } => {
                let form = websocket_session::Form { base64, closes };
                let (read, write) = websocket_session::open(connection, form, inputs, queue).await?;
                let first = wanted.first();
                let send = async {
                    let _ = pieces.send(Piece::new(first, &[], false)).await;
                    sources.send(pieces).await;
                };
                finish(read, join(send, write)).await;
            }
            Transport::Spdy => {
                let wire = spdy_session::open(connection, wanted, resizable, inputs, queue);
                let send = async {
                    if let Ok(Ok(())) = tokio::time::timeout(CREATION, wire.opened).await {
                        sources.send(pieces).await;
                    }
                };
                finish(wire.read, join(send, wire.write)).await;
            }
        }
        Ok(())
    }
}

/// Reading goes on after the last was written, so that the client finds no broken connection, but not for ever.
async fn finish(read: impl Future<Output = ()>, work: impl Future<Output = ((), ())>) {
    tokio::pin!(read);
    tokio::select! {
        () = &mut read => {}
        _ = work => {
            let _ = tokio::time::timeout(LINGER, read).await;
        }
    }
}

impl Wanted {
    /// The channel whose empty message tells a WebSocket's client that the session is there.
    fn first(self) -> Channel {
        match self {
            Self { stdout: true, .. } => Channel::Stdout,
            Self { stderr: true, .. } => Channel::Stderr,
            _ => Channel::Error,
        }
    }
}

struct Sources {
    stdout: Option<Descriptor>,
    stderr: Option<Descriptor>,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Sources {
    /// Everything the process says, then how it ended.
    async fn send(self, pieces: Pieces) {
        let copy = async |source: &Option<Descriptor>, channel: Channel| {
            if let Some(source) = source {
                pump(source, channel, &pieces, self.outcome.clone()).await;
                let _ = pieces.send(Piece::new(channel, &[], true)).await;
            }
        };
        // Of both, stderr is asked first: what stands there was most often said first, since programs hold back what
        // they write to a pipe, and a client may go once it has all of stdout (`kubectl cp`).
        join(copy(&self.stderr, Channel::Stderr), copy(&self.stdout, Channel::Stdout)).await;
        let mut outcome = self.outcome.clone();
        if let Ok(told) = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
            let _ = pieces.send(Piece::new(Channel::Error, &told.unwrap_or_default(), true)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn said(words: &[u8]) -> Descriptor {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        writer.write_all(words).expect("room in the pipe");
        Descriptor::new(reader.into()).expect("a descriptor")
    }

    #[tokio::test]
    async fn of_what_a_process_has_said_complaints_are_passed_on_first() {
        let (_ended, outcome) = watch::channel(Some(Outcome::from_static(b"ended")));
        let sources = Sources { stdout: Some(said(b"output")), stderr: Some(said(b"complaint")), outcome };
        let (pieces, mut queue) = mpsc::channel(16);
        sources.send(pieces).await;
        let mut channels = Vec::new();
        while let Some(piece) = queue.recv().await {
            if piece.content_length() > 0 {
                channels.push(piece.channel);
            }
        }
        assert_eq!(channels, [Channel::Stderr, Channel::Stdout, Channel::Error]);
    }
}
