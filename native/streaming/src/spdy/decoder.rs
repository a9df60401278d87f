//! Frames from bytes.

use bytes::{Buf, Bytes, BytesMut};

use super::header_block::Inflater;
use super::{
    CONTROL, FIN, GOAWAY, HEAD, HEADERS, Headers, PING, RST_STREAM, STREAM_MASK, SYN_REPLY, SYN_STREAM,
    SpdyError, VERSION,
};

/// A control frame's content.
const LARGEST: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    SynReply {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    /// A data frame, or a part of one that has not come wholly yet; `fin` comes with the last part.
    Data {
        stream: u32,
        data: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping(u32),
    GoAway,
    /// Settings, windows, late headers and what is unknown: nothing that is acted on.
    Other,
}

/// What is left of a data frame whose head has been read.
struct Rest {
    stream: u32,
    left: usize,
    fin: bool,
}

#[derive(Default)]
pub struct Decoder {
    inflater: Inflater,
    rest: Option<Rest>,
}

impl Decoder {
    /// Takes the next frame off `buffer`; None when more bytes are needed.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        if let Some(rest) = self.rest.take() {
            return Ok(self.part(rest, buffer));
        }
        let Some(mut head) = buffer.get(..HEAD) else { return Ok(None) };
        let (first, second) = (head.get_u32(), head.get_u32());
        let flags = (second >> 24) as u8;
        let length = (second & 0x00ff_ffff) as usize;
        if first & CONTROL == 0 {
            if first == 0 {
                return Err(SpdyError::ZeroStream);
            }
            buffer.advance(HEAD);
            return Ok(self.part(Rest { stream: first, left: length, fin: flags & FIN != 0 }, buffer));
        }
        let version = (first >> 16 & 0x7fff) as u16;
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        if length > LARGEST {
            return Err(SpdyError::TooLong(length));
        }
        if buffer.len() < HEAD + length {
            return Ok(None);
        }
        buffer.advance(HEAD);
        let content = buffer.split_to(length).freeze();
        self.control((first & 0xffff) as u16, flags, content).map(Some)
    }

    fn part(&mut self, rest: Rest, buffer: &mut BytesMut) -> Option<Frame> {
        let Rest { stream, left, fin } = rest;
        if left > 0 && buffer.is_empty() {
            self.rest = Some(Rest { stream, left, fin });
            return None;
        }
        let data = buffer.split_to(left.min(buffer.len())).freeze();
        let left = left - data.len();
        if left > 0 {
            self.rest = Some(Rest { stream, left, fin });
        }
        Some(Frame::Data { stream, data, fin: fin && left == 0 })
    }

    fn control(&mut self, kind: u16, flags: u8, mut content: Bytes) -> Result<Frame, SpdyError> {
        let fin = flags & FIN != 0;
        let frame = match kind {
            SYN_STREAM => {
                let stream = stream_id(number(&mut content)?)?;
                // The stream it belongs to, which nobody uses; priority and slot.
                number(&mut content)?;
                content.try_get_u16().map_err(|_| SpdyError::TooShort)?;
                Frame::SynStream { stream, headers: self.inflater.headers(&content)?, fin }
            }
            SYN_REPLY => {
                let stream = stream_id(number(&mut content)?)?;
                Frame::SynReply { stream, headers: self.inflater.headers(&content)?, fin }
            }
            // Inflated all the same: the next block builds on it.
            HEADERS => {
                stream_id(number(&mut content)?)?;
                self.inflater.headers(&content)?;
                Frame::Other
            }
            RST_STREAM => {
                Frame::Reset { stream: stream_id(number(&mut content)?)?, status: number(&mut content)? }
            }
            PING => Frame::Ping(number(&mut content)?),
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        };
        Ok(frame)
    }
}

fn number(content: &mut Bytes) -> Result<u32, SpdyError> {
    content.try_get_u32().map_err(|_| SpdyError::TooShort)
}

fn stream_id(number: u32) -> Result<u32, SpdyError> {
    match number & STREAM_MASK {
        0 => Err(SpdyError::ZeroStream),
        stream => Ok(stream),
    }
}
