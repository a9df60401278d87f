//! SPDY/3.1: frames and their header blocks (the SPDY Protocol, Draft 3.1).

mod decoder;
mod encoder;
mod header_block;
mod reader;
mod writer;

pub use decoder::{Decoder, Frame};
pub use encoder::{Encoder, data_head, goaway, ping, reset};
pub use header_block::Headers;
pub use reader::FrameReader;
pub use writer::{REPLIES, write_frames};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FIN: u8 = 1;
const CONTROL: u32 = 1 << 31;
const STREAM_MASK: u32 = CONTROL - 1;
/// Every frame's head.
pub const HEAD: usize = 8;

/// The reasons of RST_STREAM that are given here.
pub const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 3;

/// The peer does not speak SPDY/3.1, or asks for more than it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    #[error("a control frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a control frame is of version {0}")]
    Version(u16),
    #[error("a control frame is too short")]
    TooShort,
    #[error("stream id zero is disallowed")]
    ZeroStream,
    #[error("a header block is broken")]
    HeaderBlock,
}
