//! Ways to send JSON other than as it is: indented, compressed.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, Response};
use kubecore_core::status::Status;

use crate::body::Body;
use crate::exchange::Exchange;
use crate::query::Query;
use crate::server::Server;
use crate::status::{APPLICATION_JSON, refusal_to, unauthorized_in_text};
use crate::stream::StreamState;

/// Lists below this are sent as they are; as in apiserver `responsewriters/writers.go`.
const GZIP_FROM: usize = 128 * 1024;
/// Larger bodies are made on a thread that may take its time.
const INLINE_LIMIT: usize = 256 * 1024;
/// Input that is worked on between two looks at whether the client is still there.
const STEP: usize = 64 * 1024;

/// How a Status begins, here and in Python.
const STATUS: &[u8] = br#"{"kind":"Status","#;

/// What is done to a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rendering {
    pub pretty: bool,
    pub gzip: bool,
}

/// The client takes gzip and the body is worth it.
fn takes_gzip(exchange: &Exchange, length: usize) -> bool {
    length >= GZIP_FROM && exchange.header(ACCEPT_ENCODING).is_some_and(names_gzip)
}

/// Asked for, or shown to a person: curl, Wget and browsers get indented JSON, as from Kubernetes.
fn wants_pretty(exchange: &Exchange) -> bool {
    if exchange.accept().is_some_and(names_pretty) {
        return true;
    }
    if let Some(value) = Query::new(&exchange.query).first("pretty").filter(|value| !value.is_empty()) {
        return matches!(&*value, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    exchange
        .user_agent()
        .is_some_and(|agent| ["curl", "Wget", "Mozilla/5.0"].iter().any(|person| agent.starts_with(person)))
}

/// Documents whose bytes are settled: clients compare hashes of them. A failure's Status is none.
fn is_fixed(exchange: &Exchange, body: &[u8]) -> bool {
    !exchange.info.is_resource() && !exchange.info.path().starts_with("/api") && !body.starts_with(STATUS)
}

impl Server {
    /// A refusal as it is told here.
    pub(crate) fn refusal(self: &Arc<Self>, exchange: &Exchange, refused: &Status) -> Response<Body> {
        if refused.code == 401 && self.terse.load(Ordering::Relaxed) {
            return unauthorized_in_text();
        }
        self.render(exchange, refusal_to(exchange, refused))
    }

    /// A whole answer as this client wants it sent: JSON indented, large bodies compressed.
    pub(crate) fn render(self: &Arc<Self>, exchange: &Exchange, response: Response<Body>) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        let body = match body.into_bytes() {
            Ok(bytes) => bytes,
            Err(body) => return Response::from_parts(head, body),
        };
        if head.headers.get(CONTENT_TYPE).is_some_and(|media| media == APPLICATION_JSON) {
            exchange.answered_with(std::slice::from_ref(&body));
        }
        let mut rendering = Rendering::of(exchange, body.len());
        rendering.gzip &= !head.headers.contains_key(CONTENT_ENCODING);
        let media = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let is_json = media == b"application/json" && !is_fixed(exchange, &body);
        let body = rendering.whole(self, body, is_json, &mut head.headers);
        Response::from_parts(head, body)
    }
}

/// A parameter of a media type, as in `application/json;pretty=1`.
fn names_pretty(accept: &str) -> bool {
    let mut parameters = accept.split(',').flat_map(|clause| clause.split(';').skip(1));
    parameters.any(|parameter| parameter.trim() == "pretty=1")
}

fn names_gzip(accept_encoding: &str) -> bool {
    accept_encoding.split(',').any(|clause| {
        let (coding, parameters) = clause.split_once(';').unwrap_or((clause, ""));
        let refused = parameters.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0f32));
        coding.trim() == "gzip" && !refused
    })
}

impl Rendering {
    /// For a body of `length` bytes.
    pub fn of(exchange: &Exchange, length: usize) -> Self {
        Self { pretty: wants_pretty(exchange), gzip: takes_gzip(exchange, length) }
    }

    /// A body that is there, and what its headers say of it. Only JSON is indented, or ended as a line.
    pub fn whole(
        mut self,
        server: &Arc<Server>,
        body: Bytes,
        is_json: bool,
        headers: &mut HeaderMap,
    ) -> Body {
        self.pretty &= is_json;
        if self == Self::default() {
            return if is_json && !body.is_empty() { Body::line(body) } else { Body::full(body) };
        }
        self.label(headers);
        let length = body.len();
        self.body(server, vec![body], length)
    }

    /// The headers that go with it.
    pub fn label(self, headers: &mut HeaderMap) {
        if self.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            let encoding = HeaderValue::from_static("Accept-Encoding");
            if !headers.get_all(VARY).iter().any(|told| told == encoding) {
                headers.append(VARY, encoding);
            }
        }
    }

    /// The body made of `segments`: at once when small, else as a stream fed by a blocking thread.
    pub fn body(self, server: &Arc<Server>, segments: Vec<Bytes>, length: usize) -> Body {
        if !self.gzip && length < INLINE_LIMIT {
            return Body::full(indented(&segments));
        }
        let stream = StreamState::new(server.handoff.clone());
        let writer = Abandoning(stream.clone());
        server.handle().spawn_blocking(move || {
            // An encoder that writes to memory does not fail; a client that is gone ends the work.
            let _ = self.feed(&writer.0, &segments);
        });
        Body::stream(stream)
    }

    fn feed(self, stream: &StreamState, segments: &[Bytes]) -> std::io::Result<()> {
        let mut indenter = Indenter::default();
        let mut encoder = GzEncoder::new(Vec::with_capacity(STEP), Compression::fast());
        for piece in segments.iter().flat_map(|segment| segment.chunks(STEP)) {
            let mut text = Vec::new();
            if self.pretty {
                indenter.push(piece, &mut text);
            }
            let piece = if self.pretty { &text } else { piece };
            let ready = if self.gzip {
                encoder.write_all(piece)?;
                if encoder.get_ref().len() < STEP {
                    continue;
                }
                std::mem::take(encoder.get_mut())
            } else {
                piece.to_vec()
            };
            if !stream.write_blocking(Bytes::from(ready)) {
                return Ok(());
            }
        }
        if self.gzip {
            stream.write_blocking(Bytes::from(encoder.finish()?));
        }
        stream.close();
        Ok(())
    }
}

/// Breaks the body off when its maker ends without having closed it.
struct Abandoning(Arc<StreamState>);

impl Drop for Abandoning {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Compact JSON with two blanks of indentation per level, as Go's `json.Indent` prints it.
fn indented<'s, S: AsRef<[u8]> + 's>(segments: impl IntoIterator<Item = S>) -> Vec<u8> {
    let mut indenter = Indenter::default();
    let mut out = Vec::new();
    for segment in segments {
        indenter.push(segment.as_ref(), &mut out);
    }
    out
}

/// Indents JSON that comes in pieces. The input must be well-formed; blanks in it are dropped.
#[derive(Default)]
struct Indenter {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// An opened object or array has had no content yet.
    opened: bool,
}

impl Indenter {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        out.reserve(piece.len() * 3 / 2);
        for &byte in piece {
            if self.in_string {
                out.push(byte);
                self.in_string = self.escaped || byte != b'"';
                self.escaped = !self.escaped && byte == b'\\';
                continue;
            }
            if byte.is_ascii_whitespace() {
                continue;
            }
            let closes = matches!(byte, b'}' | b']');
            if self.opened && !closes {
                self.depth += 1;
                self.line(out);
            }
            match byte {
                b',' => {
                    out.push(b',');
                    self.line(out);
                }
                b':' => out.extend_from_slice(b": "),
                _ if closes => {
                    if !self.opened {
                        self.depth = self.depth.saturating_sub(1);
                        self.line(out);
                    }
                    out.push(byte);
                }
                _ => {
                    self.in_string = byte == b'"';
                    out.push(byte);
                }
            }
            self.opened = matches!(byte, b'{' | b'[');
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pretty(pieces: &[&str]) -> String {
        String::from_utf8(indented(pieces)).unwrap()
    }

    #[test]
    fn json_is_indented_as_by_go() {
        let expected = "{\n  \"a\": [\n    1,\n    \"x,\\\"{\"\n  ],\n  \"b\": {},\n  \"c\": []\n}";
        assert_eq!(pretty(&[r#"{"a":[1,"x,\"{"],"b":{},"c":[]}"#]), expected);
        assert_eq!(pretty(&[r#"{"a":[1,"x,\"#, r#""{"],"b":{"#, r#"},"c":[]}"#]), expected);
        assert_eq!(pretty(&["[{}]"]), "[\n  {}\n]");
    }

    #[test]
    fn gzip_is_used_only_when_taken() {
        for (header, expected) in
            [("gzip", true), ("deflate, gzip;q=0.5", true), ("gzip;q=0", false), ("identity", false)]
        {
            assert_eq!(names_gzip(header), expected, "{header}");
        }
    }
}
