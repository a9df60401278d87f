//! The SPDY codec: what is written can be read, whatever pieces it comes in; what is broken is an error, never a panic.

use bytes::{Bytes, BytesMut};
use kubecore_streaming::spdy::{Decoder, Encoder, Frame, Headers, SpdyError, data_head, goaway, ping, reset};
use proptest::prelude::*;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    Headers(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// All frames of `bytes`, fed in pieces of `step` bytes, data frames put together again.
fn decoded(bytes: &[u8], step: usize) -> Result<Vec<Frame>, SpdyError> {
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    let mut frames: Vec<Frame> = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut buffer)? {
            match (frames.last_mut(), frame) {
                (
                    Some(Frame::Data { stream, data, fin }),
                    Frame::Data { stream: same, data: more, fin: last },
                ) if *stream == same && !*fin => {
                    *data = Bytes::from([data.as_ref(), more.as_ref()].concat());
                    *fin = last;
                }
                (_, frame) => frames.push(frame),
            }
        }
    }
    Ok(frames)
}

#[test]
fn frames_are_read_as_written_whatever_pieces_they_come_in() {
    let mut encoder = Encoder::default();
    let error = headers(&[("streamtype", "error"), ("requestid", "0"), ("port", "80")]);
    let data = headers(&[("streamtype", "data"), ("requestid", "0"), ("port", "80")]);
    let mut bytes = encoder.syn_stream(1, &error, true);
    bytes.extend(encoder.syn_stream(3, &data, false));
    bytes.extend(encoder.syn_reply(2, &Headers::default()));
    bytes.extend(data_head(3, 5, true));
    bytes.extend(b"hello");
    bytes.extend(ping(7));
    bytes.extend(reset(3, 5));
    bytes.extend(goaway(3));
    let expected = vec![
        Frame::SynStream { stream: 1, headers: error, fin: true },
        Frame::SynStream { stream: 3, headers: data, fin: false },
        Frame::SynReply { stream: 2, headers: Headers::default(), fin: false },
        Frame::Data { stream: 3, data: Bytes::from_static(b"hello"), fin: true },
        Frame::Ping(7),
        Frame::Reset { stream: 3, status: 5 },
        Frame::GoAway,
    ];
    for step in [1, 2, 7, 64, 4096] {
        assert_eq!(decoded(&bytes, step), Ok(expected.clone()), "in pieces of {step}");
    }
}

/// Made by Go's compress/zlib through moby/spdystream v0.5.0: two SYN_STREAM frames of one connection.
#[test]
fn header_blocks_of_the_go_library_are_read() {
    let bytes: Vec<u8> = include_str!("spdystream_frames.hex")
        .split_whitespace()
        .flat_map(|line| (0..line.len()).step_by(2).map(move |at| u8::from_str_radix(&line[at..at + 2], 16)))
        .collect::<Result<_, _>>()
        .unwrap();
    let frames = decoded(&bytes, 11).unwrap();
    let shown: Vec<_> = frames
        .iter()
        .map(|frame| match frame {
            Frame::SynStream { stream, headers, .. } => (
                *stream,
                headers.get("streamtype").unwrap().to_owned(),
                headers.get("port").map(str::to_owned),
            ),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        shown,
        [(1, "error".to_owned(), Some("8080".to_owned())), (3, "data".to_owned(), Some("8080".to_owned()))]
    );
}

#[test]
fn a_control_frame_that_is_too_long_is_refused_before_it_is_read() {
    let mut frame = ping(1);
    frame[5] = 0xff;
    assert_eq!(decoded(&frame, 64), Err(SpdyError::TooLong(0x00ff_0004)));
}

#[test]
fn what_inflates_to_more_than_a_header_block_may_have_is_refused() {
    let long = "a".repeat(1 << 20);
    let frame = Encoder::default().syn_stream(1, &headers(&[("name", &long)]), false);
    assert_eq!(decoded(&frame, 4096), Err(SpdyError::HeaderBlock));
}

#[test]
fn stream_zero_and_other_versions_are_refused() {
    assert_eq!(decoded(&data_head(0, 0, true), 8), Err(SpdyError::ZeroStream));
    let mut frame = ping(1);
    frame[1] = 2;
    assert_eq!(decoded(&frame, 64), Err(SpdyError::Version(2)));
}

proptest! {
    #[test]
    fn nothing_that_comes_from_the_network_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..512), step in 1usize..64) {
        let _ = decoded(&bytes, step);
    }

    #[test]
    fn a_frame_with_any_bit_turned_is_read_or_refused(at in 0usize..64, bit in 0u8..8) {
        let mut bytes = Encoder::default().syn_stream(1, &headers(&[("streamtype", "stdin")]), false);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = decoded(&bytes, 16);
    }

    #[test]
    fn any_headers_survive(pairs in prop::collection::vec(("[a-z0-9-]{1,20}", "[ -~]{0,200}"), 0..20)) {
        let sent = Headers(pairs);
        let mut encoder = Encoder::default();
        let mut bytes = encoder.syn_stream(1, &sent, false);
        bytes.extend(encoder.syn_stream(3, &sent, false));
        let read = decoded(&bytes, 33).unwrap();
        prop_assert_eq!(read.len(), 2);
        for frame in read {
            let Frame::SynStream { headers, .. } = frame else { panic!("not a stream") };
            prop_assert_eq!(&headers, &sent);
        }
    }
}
