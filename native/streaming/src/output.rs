//! What goes to the client: pieces with room before them for a frame's head, so that nothing is copied to frame it.

use bytes::{Buf, BytesMut};
use tokio::sync::{mpsc, watch};

use crate::descriptor::Descriptor;
use crate::session::Outcome;

/// Bytes kept free before a piece's content: a SPDY data frame's head, the most that is needed.
pub const HEADROOM: usize = 8;
/// As clients read it; a pipe holds 64 KiB.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for the socket, of all channels.
pub const WAITING: usize = 4;

/// Where a piece belongs, by the number it has in WebSocket messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    Stdout = 1,
    Stderr = 2,
    Error = 3,
}

/// `buffer` begins with `HEADROOM` unused bytes.
pub struct Piece {
    pub channel: Channel,
    pub buffer: BytesMut,
    /// Nothing follows on this channel.
    pub last: bool,
}

impl Piece {
    pub fn new(channel: Channel, content: &[u8], last: bool) -> Self {
        let mut buffer = BytesMut::with_capacity(HEADROOM + content.len());
        buffer.extend_from_slice(&[0; HEADROOM]);
        buffer.extend_from_slice(content);
        Self { channel, buffer, last }
    }

    pub fn content_length(&self) -> usize {
        self.buffer.len().saturating_sub(HEADROOM)
    }

    /// The content behind one byte that the caller sets.
    pub fn with_first_byte(mut self, byte: u8) -> BytesMut {
        self.buffer.advance(HEADROOM - 1);
        if let Some(first) = self.buffer.first_mut() {
            *first = byte;
        }
        self.buffer
    }
}

pub type Pieces = mpsc::Sender<Piece>;

/// Copies what a process writes until it has closed its end. Once the process has ended (`outcome` is set), what is
/// there is taken and no more awaited: only processes it has left behind could still write.
pub async fn pump(
    source: &Descriptor,
    channel: Channel,
    pieces: &Pieces,
    mut outcome: watch::Receiver<Option<Outcome>>,
) {
    let mut buffer = BytesMut::new();
    let mut ended = false;
    loop {
        if buffer.capacity() < HEADROOM + PIECE / 2 {
            buffer = BytesMut::with_capacity(HEADROOM + PIECE);
        }
        buffer.extend_from_slice(&[0; HEADROOM]);
        let count = if ended {
            source.read_now(&mut buffer)
        } else {
            tokio::select! {
                biased;
                count = source.read(&mut buffer) => count,
                _ = outcome.wait_for(Option::is_some) => {
                    ended = true;
                    buffer.clear();
                    continue;
                }
            }
        };
        match count {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        let piece = Piece { channel, buffer: buffer.split(), last: false };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}
