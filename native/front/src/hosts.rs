//! Whether a request of HTTP/1 names the host that it is for as it must.

use http::header::HOST;
use http::{Method, Version};

use crate::headers::{Headers, Name};
use crate::status::BadHost;

/// What is wrong with the hosts that a request of HTTP/1 names. Go's server is particular about that, whatever is asked
/// for.
pub fn fault_of_host(version: Version, method: &Method, headers: &Headers) -> Option<BadHost> {
    if version == Version::HTTP_2 {
        return None;
    }
    let Some(host) = headers.first(Name::Host) else {
        return (version == Version::HTTP_11 && method != Method::CONNECT).then_some(BadHost::Missing);
    };
    if headers.are_repeated(&HOST) {
        return Some(BadHost::Several);
    }
    (!host.as_bytes().iter().all(|byte| is_of_hosts(*byte))).then_some(BadHost::Malformed)
}

/// Source: golang.org/x/net http/httpguts (ValidHostHeader).
fn is_of_hosts(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&()*+,-.:;=[']_~".contains(&byte)
}
