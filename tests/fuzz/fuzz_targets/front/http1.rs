//! HTTP/1.1 as RFC 9112 has it, read by other code than the front's: what is asked, and what is answered.

/// A request that may be answered.
pub struct Asked<'b> {
    pub method: &'b str,
    pub head: &'b [u8],
    /// None: it does not come to an end, or nobody can say what it is.
    pub body: Option<Vec<u8>>,
    /// Of HTTP/1.1, and not 1.0.
    pub is_current: bool,
}

/// What is asked with these bytes, and whether anything that comes after it may be refused.
pub fn asked(mut bytes: &[u8]) -> (Vec<Asked<'_>>, bool) {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 1400];
        let mut request = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = request.parse(bytes) else { return (all, true) };
        let (Some(method), Some(version)) = (request.method, request.version) else { return (all, true) };
        let framing = Framing::of(request.headers, version == 1);
        let (head, rest) = bytes.split_at(length);
        let (body, rest) = framing.body(rest);
        let ends = framing.is_last || body.is_none();
        all.push(Asked { method, head, body, is_current: version == 1 });
        if ends {
            return (all, false);
        }
        bytes = rest;
    }
    (all, false)
}

#[derive(Clone, Copy)]
enum Length {
    Known(usize),
    Chunked,
    /// Who believes what may differ.
    Ambiguous,
}

struct Framing {
    length: Length,
    /// Whatever comes after it is no request.
    is_last: bool,
}

impl Framing {
    fn of(headers: &[httparse::Header<'_>], is_current: bool) -> Self {
        let values = |name: &'static str| {
            let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| header.value.trim_ascii())
        };
        let tokens = |name| values(name).flat_map(|value| value.split(|byte| *byte == b','));
        let has = |name, token: &[u8]| {
            tokens(name).any(|given: &[u8]| given.trim_ascii().eq_ignore_ascii_case(token))
        };
        let coding = tokens("transfer-encoding").last().map(<[u8]>::trim_ascii);
        let mut lengths: Vec<Option<usize>> = values("content-length").map(number).collect();
        lengths.dedup();
        let length = match (coding, lengths[..].as_ref()) {
            (None, []) => Length::Known(0),
            (None, [Some(length)]) => Length::Known(*length),
            (Some(coding), _) if is_current && coding.eq_ignore_ascii_case(b"chunked") => Length::Chunked,
            _ => Length::Ambiguous,
        };
        // Who sends both is believed the one, and nothing after it (6.1).
        let has_both = coding.is_some() && !lengths.is_empty();
        let closes = has("connection", b"close") || (!is_current && !has("connection", b"keep-alive"));
        Self { length, is_last: has_both || closes }
    }

    /// And what comes after it.
    fn body<'b>(&self, rest: &'b [u8]) -> (Option<Vec<u8>>, &'b [u8]) {
        match self.length {
            Length::Known(length) => match rest.split_at_checked(length) {
                Some((body, rest)) => (Some(body.to_vec()), rest),
                None => (None, rest),
            },
            Length::Chunked => chunked(rest).map_or((None, rest), |(body, rest)| (Some(body), rest)),
            Length::Ambiguous => (None, rest),
        }
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// A whole body of chunks, and what comes after it.
fn chunked(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (line, rest) = line(bytes)?;
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
        let is_number = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
        let size = str::from_utf8(size).ok().filter(|_| is_number)?;
        let size = usize::from_str_radix(size, 16).ok()?;
        bytes = rest;
        if size == 0 {
            break;
        }
        let (data, rest) = bytes.split_at_checked(size)?;
        body.extend_from_slice(data);
        bytes = rest.strip_prefix(b"\r\n")?;
    }
    // Trailers.
    loop {
        let (line, rest) = line(bytes)?;
        bytes = rest;
        if line.is_empty() {
            return Some((body, bytes));
        }
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((&bytes[..at], &bytes[at + 2..]))
}

/// A final answer.
pub struct Answer<'b> {
    pub status: u16,
    /// From its head to its end.
    pub bytes: &'b [u8],
}

/// What these bytes answer to what was asked. The last answer may be cut where its end is not told before it.
pub fn answers<'b>(mut bytes: &'b [u8], asked: &[Asked<'_>]) -> Vec<Answer<'b>> {
    let mut all: Vec<Answer<'b>> = Vec::new();
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = response.parse(bytes) else {
            panic!("no answer of HTTP/1.1: {:?}", String::from_utf8_lossy(bytes));
        };
        let status = response.code.expect("a status");
        assert!((100..600).contains(&status));
        let rest = &bytes[length..];
        if status == 100 {
            bytes = rest;
            continue;
        }
        let method = asked.get(all.len()).map_or("", |asked| asked.method);
        let is_refusal = matches!(status, 400 | 414 | 431) && framing(response.headers).is_last;
        let over = match answered(response.headers, status, method) {
            // What is no HTTP is nobody's HEAD either.
            Some(Length::Known(_)) if is_refusal && is_of_length(response.headers, rest.len()) => &[],
            Some(Length::Known(size)) => rest.split_at_checked(size).expect("all of an answer").1,
            Some(Length::Chunked) => chunked(rest).map_or(&[][..], |(_, rest)| rest),
            Some(Length::Ambiguous) => panic!("an answer of two lengths"),
            None => &[],
        };
        all.push(Answer { status, bytes: &bytes[..bytes.len() - over.len()] });
        bytes = over;
    }
    all
}

/// How long an answer's content is. None: up to the end.
fn answered(headers: &[httparse::Header<'_>], status: u16, method: &str) -> Option<Length> {
    if status == 101 || (method == "CONNECT" && status < 300) {
        return None;
    }
    let named = |name: &str| headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count();
    let has_length = named("content-length") + named("transfer-encoding") > 0;
    assert!(named("content-length") + named("transfer-encoding") < 2, "one length is told");
    match method {
        "HEAD" => Some(Length::Known(0)),
        _ if matches!(status, 204 | 304) => Some(Length::Known(0)),
        _ => has_length.then_some(framing(headers).length),
    }
}

fn framing(headers: &[httparse::Header<'_>]) -> Framing {
    Framing::of(headers, true)
}

fn is_of_length(headers: &[httparse::Header<'_>], length: usize) -> bool {
    matches!(framing(headers).length, Length::Known(known) if known == length)
}
