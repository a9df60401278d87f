//! The insecure port lets in whoever reaches it, which a page in a browser on this machine does, too: by a name of its own
//! that leads here (DNS rebinding), or with a request of its own origin. Those are refused, as by `kubectl proxy`.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName};
use kubecore_core::status::Status;

/// Why a request to the insecure port is refused.
pub(crate) fn refusal(headers: &HeaderMap) -> Option<Status> {
    let is_foreign = |name: HeaderName, host_of: fn(&str) -> &str| {
        headers.get(name).is_some_and(|given| !given.to_str().is_ok_and(|text| is_here(host_of(text))))
    };
    let text = "the insecure port is for requests to localhost, and not for pages of others";
    (is_foreign(HOST, |host| host) || is_foreign(ORIGIN, of_origin))
        .then(|| Status::failure(403, "Forbidden", text))
}

/// `null`, of a page that will not say, is nobody here.
fn of_origin(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

fn is_here(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(host: &'static str, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        refusal(&headers).is_some()
    }

    #[test]
    fn names_of_this_machine_are_let_in() {
        assert!(refusal(&HeaderMap::new()).is_none());
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:1", "127.3.2.1", "[::1]:8080", "[::1]"] {
            assert!(!is_refused(host, None), "{host}");
        }
        assert!(!is_refused("localhost:1", Some("http://127.0.0.1:3000")));
    }

    #[test]
    fn pages_of_others_are_refused() {
        for host in
            ["evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io", "192.0.2.1", "", "[::2]", "["]
        {
            assert!(is_refused(host, None), "{host}");
        }
        for origin in ["https://evil.example", "null", "", "http://localhost.evil.example"] {
            assert!(is_refused("localhost", Some(origin)), "{origin}");
        }
    }
}
