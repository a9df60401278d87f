//! Heads of requests: which of them the relay takes, and what it makes of them. Pure.

use std::mem::MaybeUninit;

use httparse::{Header, Status};
use memchr::memmem;

use crate::headers::{self, Forwarded};

/// More than this without an end is left to hyper, which judges it.
const MOST_BYTES: usize = 16 << 10;
pub const MOST_HEADERS: usize = 64;

type Slots<'b> = [MaybeUninit<Header<'b>>; MOST_HEADERS];

/// What came of a client so far.
#[derive(Debug)]
pub enum Judged<T> {
    /// The end of the head has not come yet.
    Partial,
    /// Not for the relay.
    Unusual,
    Plain(T),
}

/// A request that can be read in one way only: HTTP/1.1, one Host, no coding, no upgrade, its body all there.
#[derive(Debug)]
pub struct Plain<'b> {
    pub method: &'b str,
    /// In origin form.
    pub target: &'b str,
    pub host: &'b str,
    headers: &'b [Header<'b>],
    pub body: &'b [u8],
    /// Bytes of head and body.
    pub length: usize,
    /// The client wants no other request answered on its connection.
    pub close: bool,
}

/// Calls `then` with the request that `bytes` begin with.
pub fn judge<T>(bytes: &[u8], then: impl FnOnce(&Plain<'_>) -> T) -> Judged<T> {
    if memmem::find(bytes, b"\n\r\n").is_none() {
        let endless = bytes.len() > MOST_BYTES || memmem::find(bytes, b"\n\n").is_some();
        return if endless { Judged::Unusual } else { Judged::Partial };
    }
    let mut slots: Slots<'_> = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    match plain(bytes, &mut slots) {
        Some(request) => Judged::Plain(then(&request)),
        None => Judged::Unusual,
    }
}

fn plain<'b>(bytes: &'b [u8], slots: &'b mut Slots<'b>) -> Option<Plain<'b>> {
    let mut parsed = httparse::Request::new(&mut []);
    let Ok(Status::Complete(head)) = parsed.parse_with_uninit_headers(bytes, slots) else { return None };
    let (method, target) = (parsed.method?, parsed.path?);
    let known = matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS");
    if !known || parsed.version != Some(1) || !target.starts_with('/') || !target.bytes().all(is_of_target) {
        return None;
    }
    let found: &'b [Header<'b>] = parsed.headers;
    let (mut host, mut body, mut close) = (None, None, false);
    for header in found {
        match header.name.len() {
            4 if is(header, "host") => {
                let value = std::str::from_utf8(header.value).ok()?;
                let sound = !value.is_empty() && value.bytes().all(headers::is_of_authority);
                if !sound || host.replace(value).is_some() {
                    return None;
                }
            }
            14 if is(header, "content-length") && body.replace(number(header.value)?).is_some() => {
                return None;
            }
            10 if is(header, "connection") => close |= closes(header.value)?,
            17 if is(header, "transfer-encoding") => return None,
            2 if is(header, "te") => return None,
            6 if is(header, "expect") => return None,
            7 if is(header, "upgrade") || is(header, "trailer") => return None,
            _ => {}
        }
    }
    let length = head.checked_add(usize::try_from(body.unwrap_or(0)).ok()?)?;
    let body = bytes.get(head..length)?;
    Some(Plain { method, target, host: host?, headers: found, body, length, close })
}

impl<'b> Plain<'b> {
    pub fn path(&self) -> &'b str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// Sent twice it does nothing twice (RFC 9110, 9.2.2), and there is nothing of it but its head.
    pub fn is_repeatable(&self) -> bool {
        self.body.is_empty() && !matches!(self.method, "POST" | "PATCH")
    }

    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.headers.iter().find(|header| is(header, name)).map(|header| header.value)
    }

    /// As a destination gets it.
    pub fn write(&self, forwarded: &Forwarded, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        for header in self.headers.iter().filter(|header| !stays_here(header.name)) {
            line(header, out);
        }
        out.extend_from_slice(forwarded.lines());
        out.extend_from_slice(b"x-forwarded-host: ");
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(self.body);
    }
}

/// As it came, but for white space around its value.
pub fn line(header: &Header<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(header.name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(header.value);
    out.extend_from_slice(b"\r\n");
}

pub fn is(header: &Header<'_>, name: &str) -> bool {
    header.name.eq_ignore_ascii_case(name)
}

/// Of a Connection header: does it end the connection? None where it names headers.
pub fn closes(value: &[u8]) -> Option<bool> {
    if value.eq_ignore_ascii_case(b"keep-alive") {
        return Some(false);
    }
    value.eq_ignore_ascii_case(b"close").then_some(true)
}

/// Digits and nothing else: neither a sign nor a list.
pub fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}

/// Between neighbours only, or said anew.
fn stays_here(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-real-ip",
    ];
    matches!(name.as_bytes()[0] | 0x20, b'c' | b'k' | b'p' | b'x')
        && NAMES.iter().any(|one| name.eq_ignore_ascii_case(one))
}

/// What RFC 3986 allows in paths and queries.
fn is_of_target(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded() -> Forwarded {
        Forwarded::new("10.0.0.7:55".parse().expect("address"), 8080, false)
    }

    fn sent(request: &str) -> Option<(String, usize, bool)> {
        let made = judge(request.as_bytes(), |plain| {
            let mut out = Vec::new();
            plain.write(&forwarded(), &mut out);
            (String::from_utf8(out).expect("text"), plain.length, plain.close)
        });
        match made {
            Judged::Plain(made) => Some(made),
            Judged::Unusual => None,
            Judged::Partial => panic!("partial: {request:?}"),
        }
    }

    #[test]
    fn a_request_is_passed_on_with_what_is_known_of_its_client() {
        let request = "GET /a?b=c HTTP/1.1\r\nHost: foo.com\r\nAccept:  */* \r\nX-Forwarded-For: 6.6.6.6\r\n\
                       Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\nGET /next";
        let expected = "GET /a?b=c HTTP/1.1\r\nHost: foo.com\r\nAccept: */*\r\nx-forwarded-for: 10.0.0.7\r\n\
                        x-real-ip: 10.0.0.7\r\nx-forwarded-proto: http\r\nx-forwarded-port: 8080\r\n\
                        x-forwarded-host: foo.com\r\n\r\n";
        let length = request.len() - "GET /next".len();
        assert_eq!(sent(request), Some((expected.to_owned(), length, false)));
    }

    #[test]
    fn a_body_goes_along_when_it_is_all_there() {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: Close\r\n\r\nabcd";
        let (made, length, close) = sent(request).expect("plain");
        assert!(made.contains("Content-Length: 3\r\n") && made.ends_with("\r\n\r\nabc"), "{made}");
        assert_eq!((length, close), (request.len() - 1, true));
        assert_eq!(sent("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcd"), None);
    }

    #[test]
    fn whatever_could_be_read_in_two_ways_is_left_to_the_full_server() {
        for (line, headers) in [
            ("GET / HTTP/1.0", "Host: a\r\n"),
            ("GET http://a/ HTTP/1.1", "Host: a\r\n"),
            ("GET /a#b HTTP/1.1", "Host: a\r\n"),
            ("GET /\"a\" HTTP/1.1", "Host: a\r\n"),
            ("CONNECT a:80 HTTP/1.1", "Host: a\r\n"),
            ("OPTIONS * HTTP/1.1", "Host: a\r\n"),
            ("BREW / HTTP/1.1", "Host: a\r\n"),
            ("GET / HTTP/1.1", ""),
            ("GET / HTTP/1.1", "Host: a\r\nHost: a\r\n"),
            ("GET / HTTP/1.1", "Host: a/b\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nContent-Length: 0\r\ncontent-length: 0\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nContent-Length: +0\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nContent-Length: 0, 0\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nContent-Length: 18446744073709551616\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nTransfer-Encoding: chunked\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nTransfer-Encoding: identity\r\nContent-Length: 0\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nContent-Length : 0\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nX: 1\r\n folded\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nConnection: host\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nExpect: 100-continue\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nTE: trailers\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nX: a\0b\r\n"),
        ] {
            assert_eq!(sent(&format!("{line}\r\n{headers}\r\n")), None, "{line} {headers}");
        }
    }

    #[test]
    fn a_head_without_its_end_is_waited_for_up_to_a_limit() {
        assert!(matches!(judge(b"GET / HTTP/1.1\r\nHost: a\r\n", |_| ()), Judged::Partial));
        assert!(matches!(judge(b"GET / HTTP/1.1\nHost: a\n\n", |_| ()), Judged::Unusual));
        assert!(matches!(judge(&[b'a'; MOST_BYTES + 1], |_| ()), Judged::Unusual));
    }
}
