//! What went wrong on the way to a backend, in Go's words where they are known by them.

use std::error::Error;
use std::io;

use super::{Forward, authority};

/// Its text is what clients are told.
pub struct Problem {
    pub text: String,
    /// There is no connection.
    pub dialing: bool,
}

impl Problem {
    pub fn of(text: &str) -> Self {
        Self { text: text.to_owned(), dialing: false }
    }

    pub fn dialing(forward: &Forward, error: &io::Error) -> Self {
        if let Some(refused) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self { text: untrusted(forward, refused), dialing: true };
        }
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => return Self { text: "EOF".to_owned(), dialing: true },
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
            _ => error.to_string(),
        };
        Self { text: format!("dial tcp {}: {why}", authority(forward)), dialing: true }
    }

    /// There is no answer though there was a connection: who switches reads it without Go's transport.
    pub fn broken_off(error: &hyper::Error, switching: bool) -> Self {
        let of_connection = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let kind = of_connection.map(io::Error::kind);
        let ended = error.is_incomplete_message() || kind == Some(io::ErrorKind::UnexpectedEof);
        match (ended, error.is_parse()) {
            (true, _) => Self::of(if switching { "unexpected EOF" } else { "EOF" }),
            (_, true) if switching => Self::of("malformed HTTP response"),
            (_, true) => Self::of("net/http: HTTP/1.x transport connection broken: malformed HTTP response"),
            _ if kind == Some(io::ErrorKind::ConnectionReset) => Self::of("read: connection reset by peer"),
            _ => Self::of(&error.to_string()),
        }
    }
}

/// Why no TLS connection came about, in Go's words for certificates.
fn untrusted(forward: &Forward, error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    let why = match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "certificate signed by unknown authority".to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "certificate has expired or is not yet valid".to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForNameContext { presented, .. }) => {
            let name = forward.server_name.as_deref().unwrap_or(&forward.host);
            valid_for(presented, name)
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName) => {
            let name = forward.server_name.as_deref().unwrap_or(&forward.host);
            valid_for(&[], name)
        }
        other => return format!("tls: {other}"),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

/// What a certificate is good for; rustls shows names with what they are, of which hosts' are told:
/// `DnsName("a.example.com")`.
fn valid_for(presented: &[String], wanted: &str) -> String {
    let names: Vec<_> = presented.iter().filter_map(|name| name.split('"').nth(1)).collect();
    if names.is_empty() {
        return format!("certificate is not valid for any names, but wanted to match {wanted}");
    }
    format!("certificate is valid for {}, not {wanted}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_with_the_names_that_it_is_for() {
        let presented =
            ["DnsName(\"a.example.com\")", "IpAddress(10.0.0.1)", "DnsName(\"c\")"].map(str::to_owned);
        let told = "certificate is valid for a.example.com, c, not b.svc";
        assert_eq!(valid_for(&presented, "b.svc"), told);
        let told = "certificate is not valid for any names, but wanted to match b.svc";
        assert_eq!(valid_for(&[], "b.svc"), told);
    }
}
