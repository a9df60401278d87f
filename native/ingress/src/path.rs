//! Paths in the form they are compared in.

use std::borrow::Cow;

/// A request's path as a server would understand it: unreserved characters decoded, dot segments resolved
/// (RFC 3986, 6.2.2). Only for choosing a route: what is forwarded is what came.
///
/// Without this `/public/../admin` would pass as something under `/public`.
pub fn normal(path: &str) -> Cow<'_, str> {
    let decoded = if path.contains('%') { decode_unreserved(path) } else { Cow::Borrowed(path) };
    if !has_dot_segment(&decoded) {
        return decoded;
    }
    Cow::Owned(without_dot_segments(&decoded))
}

fn has_dot_segment(path: &str) -> bool {
    memchr::memmem::find(path.as_bytes(), b"/.").is_some()
        && path.split('/').any(|segment| segment == "." || segment == "..")
}

fn decode_unreserved(path: &str) -> Cow<'_, str> {
    let mut out = Vec::with_capacity(path.len());
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match decoded(&bytes[at..]) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    // Only ASCII was put in place of ASCII.
    String::from_utf8(out).map_or(Cow::Borrowed(path), Cow::Owned)
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
    fn only_what_need_not_be_encoded_is_decoded() {
        for (path, expected) in [
            ("/%66oo", "/foo"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%20b", "/a%20b"),
            ("/100%", "/100%"),
            ("/%zz", "/%zz"),
            ("/%7Euser", "/~user"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }
}
