//! `net/url`: URLs as Go parses them.

use super::quote;

/// A parsed URL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Url {
    pub scheme: String,
    /// With the port, without user and password.
    pub host: String,
    pub path: Vec<u8>,
    raw_path: String,
    pub query: String,
    /// All of it, the scheme in lower case.
    pub text: String,
}

/// Where a text stands, which decides what must be escaped in it.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Path,
    Host,
    Query,
}

impl Url {
    /// `url.ParseRequestURI`: an absolute URL or an absolute path, no fragment.
    pub fn parse_request_uri(text: &str) -> Result<Self, String> {
        parse(text, true).map_err(|problem| format!("parse {}: {problem}", quote(text)))
    }

    /// `url.Parse`, for what has passed as a request URI.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = text.split('#').next().unwrap_or_default();
        let mut url = parse(plain, false).map_err(|problem| format!("parse {}: {problem}", quote(text)))?;
        url.text.push_str(&text[plain.len()..]);
        Ok(url)
    }

    pub fn hostname(&self) -> &str {
        let host = match self.port() {
            "" => self.host.strip_suffix(':').unwrap_or(&self.host),
            port => &self.host[..self.host.len() - port.len() - 1],
        };
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    pub fn port(&self) -> &str {
        match self.host.rfind(':') {
            Some(at) if !self.host[at..].contains(']') => &self.host[at + 1..],
            _ => "",
        }
    }

    pub fn escaped_path(&self) -> String {
        let plain = escape_path(&self.path);
        let valid = self
            .raw_path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@[]%/".contains(&byte));
        if valid || self.raw_path == plain { self.raw_path.clone() } else { plain }
    }

    /// Names with their values, in order of their first appearance.
    pub fn query_values(&self) -> Vec<(String, Vec<String>)> {
        let mut values: Vec<(String, Vec<String>)> = Vec::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let read = |text: &str| {
                unescape(text, Part::Query).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            let (Some(name), Some(value)) = (read(name), read(value)) else { continue };
            match values.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.push(value),
                None => values.push((name, vec![value])),
            }
        }
        values
    }
}

fn parse(text: &str, request: bool) -> Result<Url, String> {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".into());
    }
    if text.is_empty() && request {
        return Err("empty url".into());
    }
    let (scheme, rest) = split_scheme(text)?;
    let scheme = scheme.to_ascii_lowercase();
    let mut url = Url {
        text: format!("{scheme}{}", if scheme.is_empty() { text } else { &text[scheme.len()..] }),
        scheme,
        host: String::new(),
        path: Vec::new(),
        raw_path: String::new(),
        query: String::new(),
    };
    if text == "*" {
        url.path = b"*".to_vec();
        url.raw_path = "*".into();
        return Ok(url);
    }
    let (mut rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    url.query = query.to_owned();
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            // Opaque: mailto:a@b
            return Ok(url);
        }
        if request {
            return Err("invalid URI for request".into());
        }
        if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err("first path segment in URL cannot contain colon".into());
        }
    }
    if (!url.scheme.is_empty() || !request && !rest.starts_with("///"))
        && let Some(after) = rest.strip_prefix("//")
    {
        let end = after.find('/').unwrap_or(after.len());
        url.host = authority(&after[..end])?;
        rest = &after[end..];
    }
    url.path = unescape(rest, Part::Path)?;
    url.raw_path = rest.to_owned();
    Ok(url)
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".into()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn authority(text: &str) -> Result<String, String> {
    let host = match text.rfind('@') {
        None => return host(text),
        Some(at) => {
            let user = &text[..at];
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
            if !user.chars().all(allowed) {
                return Err("net/url: invalid userinfo".into());
            }
            unescape(user, Part::Path)?;
            &text[at + 1..]
        }
    };
    self::host(host)
}

fn host(text: &str) -> Result<String, String> {
    let port_of = |text: &str, at: Option<usize>| match at {
        Some(at) => text[at..].to_owned(),
        None => String::new(),
    };
    if text.starts_with('[') {
        let Some(end) = text.rfind(']') else { return Err("missing ']' in host".into()) };
        check_port(&text[end + 1..])?;
        // A zone is escaped by rules of its own.
        let address = text[..end].split("%25").next().unwrap_or_default();
        unescape(address, Part::Host)?;
        return Ok(text.to_owned());
    }
    if let Some(at) = text.find(':') {
        let last = text.rfind(':').unwrap_or(at);
        check_port(&port_of(text, Some(last)))?;
        if at != last {
            check_port(&text[at..])?;
        }
    }
    unescape(text, Part::Host).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn check_port(port: &str) -> Result<(), String> {
    let digits = port.strip_prefix(':');
    if port.is_empty() || digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return Ok(());
    }
    Err(format!("invalid port {} after host", quote(port)))
}

fn unescape(text: &str, part: Part) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let digits =
                    bytes.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                let Some(digits) = digits else {
                    let shown: String = text.get(at..).unwrap_or_default().chars().take(3).collect();
                    return Err(format!("invalid URL escape {}", quote(&shown)));
                };
                let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
                let byte = value(digits[0]) << 4 | value(digits[1]);
                // Only what is not ASCII may be escaped in a host name.
                if part == Part::Host && byte < 0x80 {
                    return Err(format!("invalid URL escape {}", quote(&text[at..at + 3])));
                }
                out.push(byte);
                at += 3;
                continue;
            }
            b'+' if part == Part::Query => out.push(b' '),
            byte => {
                let plain = byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&byte);
                if part == Part::Host && byte < 0x80 && !plain {
                    let shown = quote(&char::from(byte).to_string());
                    return Err(format!("invalid character {shown} in host name"));
                }
                out.push(byte);
            }
        }
        at += 1;
    }
    Ok(out)
}

fn escape_path(path: &[u8]) -> String {
    escaped(path, b"-_.~$&+/:=@!'()*")
}

/// Bytes that are neither letters, digits nor `plain`, as `%` and their code.
pub fn escaped(text: &[u8], plain: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_uris_are_absolute() {
        for good in [
            "http://foo.bar/#com",
            "http://foobar.中文网/",
            "http://user:pass@www.foobar.com/",
            "http://[::1]:80/",
            "mailto:someone@example.com",
            "/abs/test/dir",
            "//host/path",
            "*",
        ] {
            assert!(Url::parse_request_uri(good).is_ok(), "{good}");
        }
        for (bad, problem) in [
            ("", "empty url"),
            ("foobar.com", "invalid URI for request"),
            ("./rel/test/dir", "invalid URI for request"),
            (":foo", "missing protocol scheme"),
            ("http://a b/", "invalid character \" \" in host name"),
            ("http://a:b/", "invalid port \":b\" after host"),
            ("http://[::1/", "missing ']' in host"),
            ("/%zz", "invalid URL escape \"%zz\""),
            ("/\x01", "net/url: invalid control character in URL"),
        ] {
            let message = format!("parse {}: {problem}", quote(bad));
            assert_eq!(Url::parse_request_uri(bad).map(|_| ()), Err(message));
        }
    }

    #[test]
    fn parts_are_told_apart() {
        let url = Url::parse("HTTPS://u:p@[::1]:8443/a%20b/c?x=1&x=2&y=a+b#f").unwrap();
        assert_eq!((url.scheme.as_str(), url.host.as_str()), ("https", "[::1]:8443"));
        assert_eq!((url.hostname(), url.port()), ("::1", "8443"));
        assert_eq!(url.escaped_path(), "/a%20b/c");
        let values = url.query_values();
        assert_eq!(values[0], ("x".to_owned(), vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(values[1].1, ["a b"]);
    }
}
