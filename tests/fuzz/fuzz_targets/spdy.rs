//! Any bytes on a connection of SPDY/3.1: the same frames, or the same refusal, whatever pieces they come in.
#![no_main]

use bytes::BytesMut;
use kubecore_streaming::spdy::{Decoder, Frame};
use libfuzzer_sys::fuzz_target;

/// How many frames there are but for those of data, which come in pieces, how many bytes of data, and whether the rest is
/// refused.
fn read(bytes: &[u8], step: usize) -> (usize, usize, bool) {
    let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
    let (mut frames, mut data) = (0, 0);
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(Frame::Data { data: some, .. })) => data += some.len(),
                Ok(Some(_)) => frames += 1,
                Ok(None) => break,
                Err(_) => return (frames, data, true),
            }
        }
    }
    (frames, data, false)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    assert_eq!(read(rest, usize::from(first).max(1)), read(rest, rest.len().max(1)));
});
