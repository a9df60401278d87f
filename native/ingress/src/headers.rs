//! What of a message's head goes on and what ends here (RFC 9110, 7.6), and what is told to destinations about clients.

use std::net::SocketAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use smallvec::SmallVec;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Takes out what is between two neighbours only: the named ones, and those that Connection names.
///
/// `Trailer` stays, since trailers are passed on.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: SmallVec<[HeaderName; 4]> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            // Whoever names these wants the next one to misread the message; their fate is not the client's to decide.
            if name != HOST && name != CONTENT_LENGTH && name != TE {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    for name in
        [KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TRANSFER_ENCODING, UPGRADE]
    {
        headers.remove(name);
    }
}

/// As `strip_hop_by_hop`, for a request: `TE: trailers` is worth telling, and 100-continue is answered here.
pub fn strip_request(headers: &mut HeaderMap) {
    let trailers = headers.get_all(TE).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case("trailers")))
    });
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    if trailers {
        headers.insert(TE, TRAILERS);
    } else {
        headers.remove(TE);
    }
}

/// The protocol a request asks to switch to. h2c is not among them: through it, requests would pass that no route
/// has been chosen for.
pub fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(UPGRADE)?;
    let asked = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case("upgrade")));
    let plain = wanted.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("h2c"));
    (asked && !plain).then(|| wanted.clone())
}

/// The message's content is coded in no way but, maybe, in chunks.
pub fn is_at_most_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|one| one.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

/// May stand in a Host header.
pub fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(&byte)
}

/// What a listener knows of all requests of a connection, ready to be put into them.
#[derive(Clone, Debug)]
pub struct Forwarded {
    address: HeaderValue,
    port: HeaderValue,
    proto: HeaderValue,
    lines: Box<[u8]>,
}

impl Forwarded {
    /// `port`: the one that clients asked.
    pub fn new(client: SocketAddr, port: u16, secure: bool) -> Self {
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
        let (address, proto) =
            (client.ip().to_canonical().to_string(), if secure { "https" } else { "http" });
        let lines = format!(
            "x-forwarded-for: {address}\r\nx-real-ip: {address}\r\nx-forwarded-proto: {proto}\r\n\
             x-forwarded-port: {port}\r\n"
        );
        Self {
            address: value(&address),
            port: value(itoa::Buffer::new().format(port)),
            proto: HeaderValue::from_static(proto),
            lines: lines.into_bytes().into(),
        }
    }

    /// What is the same for all requests, as lines of a head.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Whatever the client has put there itself is not to be trusted and goes.
    pub fn tell(&self, headers: &mut HeaderMap, host: Option<HeaderValue>) {
        headers.insert(X_FORWARDED_FOR, self.address.clone());
        headers.insert(X_REAL_IP, self.address.clone());
        headers.insert(X_FORWARDED_PROTO, self.proto.clone());
        headers.insert(X_FORWARDED_PORT, self.port.clone());
        match host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host),
            None => headers.remove(X_FORWARDED_HOST),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().expect("name"), value.parse().expect("value"));
        }
        headers
    }

    #[test]
    fn what_is_between_neighbours_only_is_taken_out() {
        let mut given = headers(&[
            ("connection", "keep-alive, X-Mine"),
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip, trailers"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        strip_request(&mut given);
        assert_eq!(given, headers(&[("accept", "*/*"), ("te", "trailers")]));
    }

    #[test]
    fn codings_other_than_chunks_are_seen() {
        for (lines, expected) in [
            (vec![], true),
            (vec![("transfer-encoding", "Chunked")], true),
            (vec![("transfer-encoding", "gzip, chunked")], false),
            (vec![("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")], false),
            (vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
        ] {
            assert_eq!(is_at_most_chunked(&headers(&lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn connection_cannot_take_out_what_the_message_needs() {
        let mut given =
            headers(&[("connection", "host, content-length"), ("host", "foo"), ("content-length", "3")]);
        strip_request(&mut given);
        assert_eq!(given, headers(&[("host", "foo"), ("content-length", "3")]));
    }

    #[test]
    fn forwarded_headers_of_the_client_are_replaced() {
        let mut given = headers(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "6.6.6.6"),
        ]);
        let client = "[::ffff:10.0.0.7]:55".parse().expect("address");
        Forwarded::new(client, 8443, true).tell(&mut given, Some(HeaderValue::from_static("foo.com")));
        let expected = [
            ("x-forwarded-for", "10.0.0.7"),
            ("x-forwarded-host", "foo.com"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "10.0.0.7"),
        ];
        assert_eq!(given, headers(&expected));
    }

    #[test]
    fn an_upgrade_must_be_asked_for_twice_and_not_be_h2c() {
        for (lines, expected) in [
            (vec![("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")], Some("websocket")),
            (vec![("upgrade", "websocket")], None),
            (vec![("connection", "upgrade")], None),
            (vec![("connection", "upgrade"), ("upgrade", "h2c")], None),
            (vec![("connection", "upgrade"), ("upgrade", "websocket, H2C")], None),
        ] {
            assert_eq!(
                wanted_upgrade(&headers(&lines)).as_ref().and_then(|value| value.to_str().ok()),
                expected
            );
        }
    }
}
