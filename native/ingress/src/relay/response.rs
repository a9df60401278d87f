//! Heads of answers. Pure.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};
use smallvec::SmallVec;

use super::content::{Chunks, Content};
use super::request::{closes, is, line, number};

pub const MOST_HEADERS: usize = 100;

/// What an answer's head says.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    /// Bytes of the head.
    pub length: usize,
    pub content: Content,
    /// The connection can carry another request once this answer is over.
    pub keep: bool,
    pub has_date: bool,
}

/// Reads the head that `bytes` begin with, and writes it to `out` as the client gets it, without Date, Connection and
/// the empty line. None: its end has not come yet.
///
/// Answers of 100 and so on are heads, too; `out` is not touched by them.
pub fn read(bytes: &[u8], to_head: bool, out: &mut Vec<u8>) -> Result<Option<Head>, &'static str> {
    let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let strict = ParserConfig::default();
    let length = match strict.parse_response_with_uninit_headers(&mut parsed, bytes, &mut slots) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err("the answer's head is malformed"),
    };
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err("the answer's head is malformed");
    };
    if status == 101 {
        return Err("the destination switches protocols without having been asked");
    }
    if status < 100 {
        return Err("the answer's status makes no sense");
    }
    let said = said(parsed.headers)?;
    let keep = said.keep.unwrap_or(version == 1);
    let bodiless = to_head || status < 200 || status == 204 || status == 304;
    let mut head = Head { status, length, content: Content::None, keep, has_date: said.has_date };
    if status < 200 {
        return Ok(Some(head));
    }
    if !bodiless {
        head.content = match (said.chunked, said.length) {
            (true, length) => {
                // Whoever says both may have meant the other (RFC 9112, 6.3).
                head.keep &= length.is_none() && version == 1;
                Content::Chunked(Chunks::default())
            }
            (false, Some(length)) => Content::Length(length),
            (false, None) => {
                head.keep = false;
                Content::UntilClose
            }
        };
    }
    write(&head, parsed.reason.unwrap_or(""), parsed.headers, &said, out);
    Ok(Some(head))
}

#[derive(Default)]
struct Said<'b> {
    length: Option<u64>,
    chunked: bool,
    keep: Option<bool>,
    has_date: bool,
    /// By Connection: for neighbours only.
    named: SmallVec<[&'b [u8]; 2]>,
}

fn said<'b>(headers: &[Header<'b>]) -> Result<Said<'b>, &'static str> {
    let mut said = Said::default();
    for header in headers {
        match header.name.len() {
            4 => said.has_date |= is(header, "date"),
            14 if is(header, "content-length") => {
                let length = number(header.value).ok_or("the answer's Content-Length makes no sense")?;
                if said.length.replace(length).is_some_and(|before| before != length) {
                    return Err("the answer has two lengths");
                }
            }
            17 if is(header, "transfer-encoding") => {
                if said.chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err("the answer's Transfer-Encoding is not supported");
                }
                said.chunked = true;
            }
            10 if is(header, "connection") => match closes(header.value) {
                Some(close) => said.keep = Some(!close && said.keep != Some(false)),
                None => {
                    for name in header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                        match closes(name) {
                            Some(close) => said.keep = Some(!close && said.keep != Some(false)),
                            None => said.named.push(name),
                        }
                    }
                }
            },
            _ => {}
        }
    }
    Ok(said)
}

fn write(head: &Head, reason: &str, headers: &[Header<'_>], said: &Said<'_>, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(digits.format(head.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    for header in headers {
        let named = said.named.iter().any(|name| header.name.as_bytes().eq_ignore_ascii_case(name));
        if !named && !stays_here(header.name) {
            line(header, out);
        }
    }
    if head.content.is_chunked() {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if let Some(length) = said.length
        && head.status != 204
        // Of HEAD and 304 a length tells what there would be (RFC 9110, 8.6).
        && !said.chunked
    {
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(digits.format(length).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Between neighbours only, or said anew.
fn stays_here(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "transfer-encoding",
        "trailer",
        "upgrade",
    ];
    matches!(name.as_bytes()[0] | 0x20, b'c' | b'k' | b'p' | b't' | b'u')
        && NAMES.iter().any(|one| name.eq_ignore_ascii_case(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(answer: &str, to_head: bool) -> Result<(String, Head), &'static str> {
        let mut out = Vec::new();
        let head = read(answer.as_bytes(), to_head, &mut out)?.expect("whole");
        Ok((String::from_utf8(out).expect("text"), head))
    }

    #[test]
    fn a_head_is_passed_on_without_what_is_for_neighbours() {
        let answer = "HTTP/1.1 200 Fine\r\nServer: x\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\n\
                      Keep-Alive: timeout=5\r\nContent-Length: 3\r\nDate: now\r\n\r\nabc";
        let (out, head) = passed(answer, false).expect("sound");
        assert_eq!(out, "HTTP/1.1 200 Fine\r\nServer: x\r\nDate: now\r\ncontent-length: 3\r\n");
        assert!(head.keep && head.has_date && head.length == answer.len() - 3);
        assert!(matches!(head.content, Content::Length(3)));
    }

    #[test]
    fn where_the_body_ends_is_as_rfc_9112_says() {
        let of = |head: &str, to_head| passed(&format!("HTTP/1.1 {head}\r\n\r\n"), to_head).expect("sound").1;
        assert!(matches!(of("200 OK\r\nContent-Length: 9", true).content, Content::None));
        assert!(matches!(of("204 No Content\r\nContent-Length: 9", false).content, Content::None));
        assert!(matches!(of("304 Not Modified\r\nTransfer-Encoding: chunked", false).content, Content::None));
        assert!(matches!(of("200 OK\r\nTransfer-Encoding: chunked", false).content, Content::Chunked(_)));
        let both = of("200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 9", false);
        assert!(matches!(both.content, Content::Chunked(_)) && !both.keep);
        let endless = of("200 OK", false);
        assert!(matches!(endless.content, Content::UntilClose) && !endless.keep);
        assert!(of("200 OK\r\nContent-Length: 2\r\nContent-Length: 2", false).keep);
        assert!(!of("200 OK\r\nContent-Length: 2\r\nConnection: close", false).keep);
        assert!(!passed("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", false).expect("sound").1.keep);
    }

    #[test]
    fn framings_that_contradict_themselves_are_refused() {
        for head in [
            "200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
            "200 OK\r\nContent-Length: 1, 1",
            "200 OK\r\nContent-Length: -1",
            "200 OK\r\nTransfer-Encoding: gzip, chunked",
            "200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "200 OK\r\nContent-Length : 1",
            "101 Switching Protocols\r\nUpgrade: x",
            "099 What",
        ] {
            assert!(passed(&format!("HTTP/1.1 {head}\r\n\r\n"), false).is_err(), "{head}");
        }
    }

    #[test]
    fn lengths_of_bodies_that_are_not_there_are_told_where_they_mean_something() {
        let told =
            |head: &str, to_head| passed(&format!("HTTP/1.1 {head}\r\n\r\n"), to_head).expect("sound").0;
        assert_eq!(told("200 OK\r\nContent-Length: 9", true), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n");
        assert_eq!(told("204 No Content\r\nContent-Length: 0", false), "HTTP/1.1 204 No Content\r\n");
    }
}
