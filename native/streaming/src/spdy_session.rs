//! Channels as SPDY streams that the client opens, each with its type in a header.
//!
//! After kubelet `pkg/cri/streaming/remotecommand/httpstream.go`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use crate::output::{Channel, HEADROOM, Piece};
use crate::session::{Inputs, Wanted};
use crate::spdy::{
    Encoder, Frame, FrameReader, Headers, PROTOCOL_ERROR, REPLIES, data_head, ping, reset, write_frames,
};

/// The two halves of the work, and when the client has opened all its streams.
pub struct Wire<R, W> {
    pub read: R,
    pub write: W,
    pub opened: oneshot::Receiver<()>,
}

/// The numbers of the streams to the client, by channel; 0 while not opened.
type Outgoing = Arc<[AtomicU32; 4]>;

pub fn open<C: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: C,
    wanted: Wanted,
    resizable: bool,
    inputs: Inputs,
    queue: mpsc::Receiver<Piece>,
) -> Wire<impl Future<Output = ()>, impl Future<Output = ()>> {
    let (reader, writer) = tokio::io::split(connection);
    let (replies, waiting) = mpsc::channel(REPLIES);
    let (all_opened, opened) = oneshot::channel();
    let outgoing = Outgoing::default();
    let streams = 1 + [wanted.stdin, wanted.stdout, wanted.stderr, wanted.tty && resizable]
        .into_iter()
        .filter(|wanted| *wanted)
        .count();
    let reading = Reading {
        inputs,
        replies,
        encoder: Encoder::default(),
        outgoing: outgoing.clone(),
        stdin: 0,
        resize: 0,
        missing: streams,
        all_opened: Some(all_opened),
    };
    let write = write_frames(writer, waiting, queue, move |piece| framed(piece, &outgoing));
    Wire { read: reading.run(FrameReader::new(reader)), write, opened }
}

struct Reading {
    inputs: Inputs,
    replies: mpsc::Sender<Vec<u8>>,
    encoder: Encoder,
    outgoing: Outgoing,
    stdin: u32,
    resize: u32,
    missing: usize,
    all_opened: Option<oneshot::Sender<()>>,
}

impl Reading {
    async fn run(mut self, mut frames: FrameReader<impl AsyncRead + Unpin>) {
        while let Ok(Some(frame)) = frames.next().await {
            let known = match frame {
                Frame::SynStream { stream, headers, fin } => self.open(stream, &headers, fin),
                Frame::Data { stream, data, fin } => {
                    if stream == self.stdin {
                        self.inputs.stdin(&data).await;
                        if fin {
                            self.inputs.end_stdin();
                        }
                    } else if stream == self.resize {
                        self.inputs.size(&data);
                    }
                    true
                }
                Frame::Reset { stream, .. } => {
                    if stream == self.stdin {
                        self.inputs.end_stdin();
                    }
                    true
                }
                Frame::Ping(id) => self.reply(ping(id)),
                _ => true,
            };
            if !known {
                return;
            }
        }
    }

    fn reply(&self, frame: Vec<u8>) -> bool {
        self.replies.try_send(frame).is_ok()
    }

    fn open(&mut self, stream: u32, headers: &Headers, fin: bool) -> bool {
        let channel = match headers.get("streamtype") {
            Some("error") => Some(Channel::Error),
            Some("stdout") => Some(Channel::Stdout),
            Some("stderr") => Some(Channel::Stderr),
            Some("stdin") => {
                self.stdin = stream;
                if fin {
                    self.inputs.end_stdin();
                }
                None
            }
            Some("resize") => {
                self.resize = stream;
                None
            }
            _ => return self.reply(reset(stream, PROTOCOL_ERROR)),
        };
        if let Some(place) = channel.and_then(|channel| self.outgoing.get(channel as usize)) {
            place.store(stream, Ordering::Release);
        }
        let reply = self.encoder.syn_reply(stream, &Headers::default());
        self.missing = self.missing.saturating_sub(1);
        let taken = self.reply(reply);
        if self.missing == 0
            && let Some(opened) = self.all_opened.take()
        {
            let _ = opened.send(());
        }
        taken
    }
}

/// The piece as a data frame; nothing when the client has opened no stream for it.
fn framed(mut piece: Piece, outgoing: &Outgoing) -> BytesMut {
    let stream = outgoing.get(piece.channel as usize).map_or(0, |place| place.load(Ordering::Acquire));
    if stream == 0 {
        return BytesMut::new();
    }
    let head = data_head(stream, piece.content_length(), piece.last);
    if let Some(place) = piece.buffer.get_mut(..HEADROOM) {
        place.copy_from_slice(&head);
    }
    piece.buffer
}
