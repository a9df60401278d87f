//! Frames from a connection.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Decoder, Frame};

const PIECE: usize = 64 * 1024;

pub struct FrameReader<R> {
    connection: R,
    buffer: BytesMut,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(connection: R) -> Self {
        Self { connection, buffer: BytesMut::new(), decoder: Decoder::default() }
    }

    /// None at the end of the connection; `InvalidData` when the peer breaks the protocol.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let decoded = self.decoder.decode(&mut self.buffer);
            if let Some(frame) = decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(PIECE);
            if self.connection.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}
