//! `encoding/base64` of Go, as it decodes the alphabet for URLs: line breaks do not count, nor do bits left over.

/// The bytes, or at which byte of the text the fault is.
pub(crate) fn decode_base64_url(text: &str) -> Result<Vec<u8>, usize> {
    decode(text, true)
}

/// As `decode_base64_url`, of text without padding.
pub(crate) fn decode_raw_base64_url(text: &str) -> Result<Vec<u8>, usize> {
    decode(text, false)
}

fn decode(text: &str, padded: bool) -> Result<Vec<u8>, usize> {
    let mut input = text.bytes().enumerate().filter(|(_, byte)| !matches!(byte, b'\n' | b'\r')).peekable();
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3);
    while input.peek().is_some() {
        let mut bits = 0_u32;
        let mut digits = 0;
        while digits < 4 {
            let Some((at, byte)) = input.next() else {
                if padded || digits == 1 {
                    return Err(text.len() - digits);
                }
                break;
            };
            match (digit(byte), digits) {
                (Some(value), _) => {
                    bits |= value << (18 - 6 * digits);
                    digits += 1;
                }
                (None, 2 | 3) if padded && byte == b'=' => {
                    end(&mut input, digits, text.len())?;
                    break;
                }
                _ => return Err(at),
            }
        }
        decoded.extend_from_slice(&bits.to_be_bytes()[1..digits.max(1)]);
    }
    Ok(decoded)
}

/// What follows the first sign of padding.
fn end(input: &mut impl Iterator<Item = (usize, u8)>, digits: usize, length: usize) -> Result<(), usize> {
    if digits == 2 {
        match input.next() {
            None => return Err(length),
            Some((_, b'=')) => {}
            Some((at, _)) => return Err(at - 1),
        }
    }
    input.next().map_or(Ok(()), |(at, _)| Err(at))
}

fn digit(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_as_go_does() {
        for (text, decoded) in [
            ("", &b""[..]),
            ("aGVsbG8=", b"hello"),
            ("aGVs\nbG8=\r\n", b"hello"),
            ("_-8=", b"\xff\xef"),
            ("eA==", b"x"),
            ("eB==", b"x"),
            ("YWJj", b"abc"),
        ] {
            assert_eq!(decode_base64_url(text).as_deref(), Ok(decoded), "{text:?}");
        }
        for (text, at) in [
            ("a", 0),
            ("abcde", 4),
            ("ab", 0),
            ("a=", 1),
            ("ab=", 3),
            ("ab=c", 2),
            ("ab==c", 4),
            ("a+bc", 1),
            ("é", 0),
        ] {
            assert_eq!(decode_base64_url(text), Err(at), "{text:?}");
        }
    }

    #[test]
    fn text_without_padding_has_none() {
        for (text, decoded) in
            [("", &b""[..]), ("aGVsbG8", b"hello"), ("eA", b"x"), ("eB", b"x"), ("YWJj", b"abc")]
        {
            assert_eq!(decode_raw_base64_url(text).as_deref(), Ok(decoded), "{text:?}");
        }
        for (text, at) in [("a", 0), ("abcde", 4), ("eA==", 2), ("%%%", 0), ("ab+", 2)] {
            assert_eq!(decode_raw_base64_url(text), Err(at), "{text:?}");
        }
    }
}
