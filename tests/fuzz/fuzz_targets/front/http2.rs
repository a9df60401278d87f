//! The frames of HTTP/2, as far as they can be told apart without their headers' table.

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// `:status: 500` in the table that every connection begins with.
const STATUS_500: u8 = 0x80 | 14;

pub struct Frame<'b> {
    kind: u8,
    stream: u32,
    payload: &'b [u8],
}

/// All whole ones.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        all.push(Frame { kind: head[3], stream, payload });
        bytes = rest;
    }
    all
}

/// How many heads there are.
pub fn heads(frames: &[Frame<'_>]) -> usize {
    frames.iter().filter(|frame| frame.kind == HEADERS).count()
}

/// What comes in each stream without a break, wherever frames cut it, one stream after another.
pub fn contents(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut data: Vec<&Frame<'_>> = frames.iter().filter(|frame| frame.kind == DATA).collect();
    data.sort_by_key(|frame| frame.stream);
    data.iter().flat_map(|frame| frame.payload).copied().collect()
}

/// What the server has sent is frames, none of them for a stream that is not its client's, and no failure.
pub fn check(frames: &[Frame<'_>]) {
    for frame in frames {
        assert!(frame.kind <= CONTINUATION, "a frame of RFC 9113");
        let is_of_stream = matches!(frame.kind, DATA | HEADERS | CONTINUATION);
        assert!(!is_of_stream || frame.stream % 2 == 1, "a stream of the client's");
        assert!(frame.kind != HEADERS || frame.payload.first() != Some(&STATUS_500), "a failure");
    }
}
