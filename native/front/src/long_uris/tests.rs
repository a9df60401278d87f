use std::task::Waker;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const DATA: u8 = 0;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    Head { length: payload.len(), kind, flags, stream }.write(&mut frame);
    frame.extend_from_slice(payload);
    frame
}

/// A length as HPACK has it behind a bit that says that it is not coded.
fn length(length: usize) -> Vec<u8> {
    let Some(mut left) = length.checked_sub(127) else { return vec![u8::try_from(length).unwrap()] };
    let mut bytes = vec![127];
    while left >= 128 {
        bytes.push(0x80 | u8::try_from(left % 128).unwrap());
        left /= 128;
    }
    bytes.push(u8::try_from(left).unwrap());
    bytes
}

/// `:method`, a field by its name, `:path` in one of the three ways to write it, and one more.
fn block(path: usize, way: u8) -> Vec<u8> {
    let mut block = b"\x82\x00\x05:name\x05value".to_vec();
    block.push(way);
    block.extend(length(path));
    block.resize(block.len() + path, b'x');
    block.push(0x86);
    block
}

/// A connection that takes and gives some bytes at a time.
#[derive(Default)]
struct Wire {
    said: Vec<u8>,
    step: usize,
    is_tired: bool,
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_tired = !self.is_tired;
        if self.is_tired {
            return Poll::Pending;
        }
        let step = self.step.min(buf.len());
        self.said.extend_from_slice(&buf[..step]);
        Poll::Ready(Ok(step))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Says what h2 has in its buffer, which are whole frames, or with a slice of something else behind it.
fn say(uris: &mut LongUris<Wire>, mut said: &[u8], is_vectored: bool) {
    let cx = &mut Context::from_waker(Waker::noop());
    while !said.is_empty() {
        let written = match is_vectored {
            false => Pin::new(&mut *uris).poll_write(cx, said),
            true => Pin::new(&mut *uris).poll_write_vectored(cx, &[IoSlice::new(said), IoSlice::new(&[])]),
        };
        if let Poll::Ready(written) = written {
            said = &said[written.unwrap()..];
        }
    }
}

fn asked(uris: &mut LongUris<Wire>, said: &[u8], step: usize) {
    for piece in said.chunks(step) {
        uris.come(piece);
    }
}

proptest! {
    #[test]
    fn resets_of_streams_that_had_such_a_uri_become_answers_and_nothing_else_changes(
        paths in vec((prop_oneof![0..200_usize, SHORTEST - 9..SHORTEST + 9, Just(70_000)], 0..4_usize), 1..8),
        is_padded in any::<bool>(),
        come in 1..3000_usize,
        (buffered, taken, is_vectored) in (1..5_usize, 1..3000_usize, any::<bool>()),
    ) {
        let mut uris = LongUris::new(Wire { step: taken, ..Wire::default() });
        let (mut sent, mut said, mut expected) = (vec![b'p'; PREFACE], Vec::new(), Vec::new());
        sent.extend(frame(4, 0, 0, &[]));
        for (number, (path, way)) in paths.iter().enumerate() {
            let stream = u32::try_from(2 * number + 1).unwrap();
            let mut payload = if is_padded { vec![7, 0, 0, 0, 0, 0] } else { Vec::new() };
            payload.extend(block(*path, [0x04, 0x14, 0x44, 0x05][*way]));
            let (first, rest) = payload.split_at(payload.len().min(16_384));
            let padded = if is_padded { PADDED | PRIORITY } else { 0 };
            let ends = if rest.is_empty() { END_HEADERS } else { 0 };
            sent.extend(frame(HEADERS, padded | ends, stream, first));
            if !rest.is_empty() {
                sent.extend(frame(9, END_HEADERS, stream, rest));
            }
            let reset = frame(RESET, 0, stream, &PROTOCOL_ERROR);
            if number % 2 == 0 {
                expected.extend(if *path > SHORTEST { too_long(stream).to_vec() } else { reset.clone() });
            } else {
                // A request, which fails later.
                said.extend([frame(HEADERS, END_HEADERS, stream, b"\x88"), frame(DATA, 0, stream, &[b'd'; 300])]);
                expected.extend([&said[said.len() - 2..], std::slice::from_ref(&reset)].concat().concat());
            }
            said.push(reset);
        }
        asked(&mut uris, &sent, come);
        for frames in said.chunks(buffered) {
            say(&mut uris, &frames.concat(), is_vectored);
        }
        prop_assert!(uris.io.said == expected);
        prop_assert!(uris.suspected.is_empty());
    }
}

#[test]
fn trailers_are_no_requests() {
    let mut uris = LongUris::new(Wire { step: 100, ..Wire::default() });
    let (first, trailers) = (block(10, 4), block(70_000, 4));
    let sent = [vec![0; PREFACE], frame(HEADERS, END_HEADERS, 1, &first), frame(HEADERS, 0, 1, &trailers)];
    asked(&mut uris, &sent.concat(), 1_000);
    assert!(uris.suspected.is_empty());
}

#[test]
fn no_more_is_remembered_than_is_bounded() {
    let mut uris = LongUris::new(Wire::default());
    asked(&mut uris, &[0; PREFACE], PREFACE);
    let begin = &block(70_000, 4)[..100];
    for number in 0..1_000 {
        asked(&mut uris, &frame(HEADERS, 0, 2 * number + 1, begin), 60);
    }
    assert_eq!(uris.suspected.len(), MOST_SUSPECTED);
}

#[test]
fn a_block_that_says_nothing_of_its_path_is_left_to_h2() {
    let head = |flags| Head { length: 0, kind: HEADERS, flags, stream: 1 };
    for block in [&b""[..], b"\x82", b"\x04", b"\x04\xff\xff\xff\xff\xff\xff", b"\x00\x7f\xff", b"\x3f\xe1"] {
        assert_eq!(path_length(head(0), block), None);
        assert_eq!(path_length(head(PADDED | PRIORITY), block), None);
    }
}
