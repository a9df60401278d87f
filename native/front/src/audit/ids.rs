//! Names of requests.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use rand::Rng;

/// Bytes of a UUID in text.
const LONG: usize = 36;

/// Names that are made together: they share a piece of memory, which stays for as long as the last of them is in use.
const TOGETHER: usize = 16;

thread_local! {
    static MADE: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// A random UUID (version 4), which names a request.
pub fn new_id() -> HeaderValue {
    let id = MADE.with_borrow_mut(|made| {
        if made.is_empty() {
            *made = some();
        }
        made.split_to(LONG)
    });
    HeaderValue::from_maybe_shared(id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn some() -> Bytes {
    let mut out = BytesMut::with_capacity(TOGETHER * LONG);
    let mut random = [[0; 16]; TOGETHER];
    rand::rng().fill(random.as_flattened_mut());
    for mut bits in random {
        bits[6] = bits[6] & 0x0f | 0x40;
        bits[8] = bits[8] & 0x3f | 0x80;
        write(&mut out, bits);
    }
    out.freeze()
}

fn write(out: &mut BytesMut, bits: [u8; 16]) {
    let mut text = [b'-'; LONG];
    let mut place = 0;
    for (number, byte) in bits.into_iter().enumerate() {
        place += usize::from(matches!(number, 4 | 6 | 8 | 10));
        text[place..place + 2].copy_from_slice(&HEX[usize::from(byte)]);
        place += 2;
    }
    out.extend_from_slice(&text);
}

/// The digits of each byte.
const HEX: [[u8; 2]; 256] = {
    let (mut pairs, mut byte) = ([[0; 2]; 256], 0);
    while byte < 256 {
        pairs[byte] = [b"0123456789abcdef"[byte >> 4], b"0123456789abcdef"[byte & 0xf]];
        byte += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_request_has_a_random_uuid() {
        let ids: Vec<HeaderValue> = (0..TOGETHER * 3).map(|_| new_id()).collect();
        for id in ids.iter().map(|id| id.to_str().unwrap()) {
            assert_eq!(id.len(), 36);
            assert!(id.char_indices().all(|(at, one)| if matches!(at, 8 | 13 | 18 | 23) {
                one == '-'
            } else {
                one.is_ascii_hexdigit()
            }));
            assert_eq!(id.as_bytes()[14], b'4');
            assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        }
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }
}
