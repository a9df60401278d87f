//! Names of requests.

/// A random UUID (version 4), which names a request.
pub fn new_id() -> String {
    let random: u128 = rand::random();
    let bits = random & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let mut out = String::with_capacity(36);
    for (place, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        for half in [byte >> 4, byte & 0xf] {
            out.push(char::from(b"0123456789abcdef"[usize::from(half)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_random_uuid() {
        let id = new_id();
        assert_eq!(id.len(), 36);
        assert!(id.char_indices().all(|(at, one)| if matches!(at, 8 | 13 | 18 | 23) {
            one == '-'
        } else {
            one.is_ascii_hexdigit()
        }));
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_ne!(id, new_id());
    }
}
