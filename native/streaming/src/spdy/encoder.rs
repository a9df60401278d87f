//! Bytes from frames.

use super::header_block::Deflater;
use super::{CONTROL, FIN, GOAWAY, HEAD, Headers, PING, RST_STREAM, SYN_REPLY, SYN_STREAM, VERSION};

/// Frames with header blocks, which build on each other: they must be sent in the order they were made in.
#[derive(Default)]
pub struct Encoder(Deflater);

impl Encoder {
    pub fn syn_stream(&mut self, stream: u32, headers: &Headers, fin: bool) -> Vec<u8> {
        let mut content = Vec::from(stream.to_be_bytes());
        content.extend_from_slice(&[0; 6]);
        content.extend(self.0.block(headers));
        control(SYN_STREAM, if fin { FIN } else { 0 }, &content)
    }

    pub fn syn_reply(&mut self, stream: u32, headers: &Headers) -> Vec<u8> {
        let mut content = Vec::from(stream.to_be_bytes());
        content.extend(self.0.block(headers));
        control(SYN_REPLY, 0, &content)
    }
}

/// The head of a data frame; `length` is below 16 MiB.
pub fn data_head(stream: u32, length: usize, fin: bool) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let length = u32::try_from(length).unwrap_or(0) & 0x00ff_ffff;
    head[..4].copy_from_slice(&stream.to_be_bytes());
    head[4..].copy_from_slice(&length.to_be_bytes());
    head[4] = if fin { FIN } else { 0 };
    head
}

pub fn reset(stream: u32, status: u32) -> Vec<u8> {
    control(RST_STREAM, 0, &[stream.to_be_bytes(), status.to_be_bytes()].concat())
}

pub fn ping(id: u32) -> Vec<u8> {
    control(PING, 0, &id.to_be_bytes())
}

/// Nothing more is accepted; `last` was the newest stream accepted.
pub fn goaway(last: u32) -> Vec<u8> {
    control(GOAWAY, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

fn control(kind: u16, flags: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + content.len());
    let first = CONTROL | u32::from(VERSION) << 16 | u32::from(kind);
    frame.extend_from_slice(&first.to_be_bytes());
    let second = u32::from(flags) << 24 | u32::try_from(content.len()).unwrap_or(0) & 0x00ff_ffff;
    frame.extend_from_slice(&second.to_be_bytes());
    frame.extend_from_slice(content);
    frame
}
