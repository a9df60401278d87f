//! Paths in the form they are compared in.

use std::borrow::Cow;

/// A path as a server would understand it: unreserved characters decoded, those that may not stand in a path encoded, in
/// upper case, and dot segments resolved (RFC 3986, 6.2.2). Only for choosing a route: what is forwarded is what came.
///
/// Without this `/public/../admin` would pass as something under `/public`, and an Ingress's `/größe` be found by nobody.
pub fn normal(path: &str) -> Cow<'_, str> {
    let plain = path.bytes().all(|byte| PLAIN[usize::from(byte)]);
    let encoded = if plain { Cow::Borrowed(path) } else { Cow::Owned(encode(path)) };
    if !has_dot_segment(&encoded) {
        return encoded;
    }
    Cow::Owned(without_dot_segments(&encoded))
}

/// What stands for itself in a path.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = is_unreserved(byte as u8)
            || matches!(byte as u8, b'!' | b'$' | b'&'..=b',' | b'/' | b':' | b';' | b'=' | b'@');
        byte += 1;
    }
    plain
};

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn has_dot_segment(path: &str) -> bool {
    memchr::memmem::find(path.as_bytes(), b"/.").is_some()
        && path.split('/').any(|segment| segment == "." || segment == "..")
}

fn encode(path: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(path.len() + 16);
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let escape = decoded(&bytes[at..]);
        let byte = escape.unwrap_or(bytes[at]);
        // A percent sign that begins no escape is nobody's business here.
        let stays =
            if escape.is_some() { is_unreserved(byte) } else { PLAIN[usize::from(byte)] || byte == b'%' };
        if stays {
            out.push(byte.into());
        } else {
            out.extend(
                [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]].map(char::from),
            );
        }
        at += if escape.is_some() { 3 } else { 1 };
    }
    out
}

fn decoded(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => {
                kept.push(other);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_resolved_also_when_their_dots_are_encoded() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/../../a", "/a"),
            ("/..", "/"),
            ("/a/.hidden", "/a/.hidden"),
            ("/a/..b", "/a/..b"),
            ("/a//b", "/a//b"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn what_may_not_stand_in_a_path_is_encoded() {
        for (path, expected) in [
            ("/größe", "/gr%C3%B6%C3%9Fe"),
            ("/gr%c3%b6%c3%9fe", "/gr%C3%B6%C3%9Fe"),
            ("/a b", "/a%20b"),
            ("/a|b{c}", "/a%7Cb%7Bc%7D"),
            ("/a%7cb", "/a%7Cb"),
            ("/!$&'()*+,;=:@-._~", "/!$&'()*+,;=:@-._~"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn only_what_need_not_be_encoded_is_decoded() {
        for (path, expected) in [
            ("/%66oo", "/foo"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%20b", "/a%20b"),
            ("/100%", "/100%"),
            ("/%zz", "/%zz"),
            ("/%7Euser", "/~user"),
            ("/a%2fb", "/a%2Fb"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }
}
