//! Escapes in JSON strings: reading and writing them.

use super::plain::plain_prefix;

/// The text of a checked JSON string. A lone surrogate becomes U+FFFD, as in Go.
pub(super) fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        if raw[at] != b'\\' {
            out.push(raw[at]);
            at += 1;
            continue;
        }
        let code = raw[at + 1];
        at += 2;
        match code {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (character, next) = unescape_unicode(raw, at);
                at = next;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    out
}

/// `at` is after `\u`; returns the character and where to go on.
fn unescape_unicode(raw: &[u8], at: usize) -> (char, usize) {
    let first = hex4(&raw[at..at + 4]);
    let next = at + 4;
    let is_pair =
        (0xd800..0xdc00).contains(&first) && raw.len() >= next + 6 && raw[next..].starts_with(b"\\u");
    if is_pair {
        let second = hex4(&raw[next + 2..next + 6]);
        if (0xdc00..0xe000).contains(&second) {
            let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return (char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER), next + 6);
        }
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), next)
}

fn hex4(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |sum, &digit| sum * 16 + char::from(digit).to_digit(16).unwrap_or(0))
}

/// Writes a JSON string with the escapes that orjson and serde_json write.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    write_content(text, out);
    out.push(b'"');
}

/// What is between the quotes of a JSON string.
pub(crate) fn write_content(mut text: &[u8], out: &mut Vec<u8>) {
    loop {
        let (plain, rest) = text.split_at(plain_prefix(text));
        out.extend_from_slice(plain);
        let Some((&byte, rest)) = rest.split_first() else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        text = rest;
    }
}
