//! What went wrong on the way to another server, in Go's words where they are known by them.

use std::error::Error;
use std::io;
use std::net::IpAddr;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, InvalidMessage};

use crate::peer::Peer;

/// The other side has broken off.
pub const RESET: &str = "read: connection reset by peer";

/// Why there is no answer.
#[derive(Debug)]
pub struct Problem {
    pub text: String,
    pub stage: Stage,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is no connection.
    Dialing,
    Asking,
    /// The head of an answer is there.
    Reading,
}

impl Problem {
    pub fn of(text: &str) -> Self {
        Self { text: text.to_owned(), stage: Stage::Asking }
    }

    fn no_connection(text: String) -> Self {
        Self { text, stage: Stage::Dialing }
    }

    /// A name without an address.
    pub(crate) fn no_such_host(host: &str) -> Self {
        Self::no_connection(format!("dial tcp: lookup {host}: no such host"))
    }

    pub(crate) fn looking_up(host: &str, error: &io::Error) -> Self {
        let told = error.to_string();
        let why = told.strip_prefix("failed to lookup address information: ").unwrap_or(&told);
        match why {
            "Name or service not known" | "No address associated with hostname" => Self::no_such_host(host),
            why => Self::no_connection(format!("dial tcp: lookup {host}: {why}")),
        }
    }

    /// `address`: which was dialled.
    pub(crate) fn dialing(peer: &Peer, address: &str, error: &io::Error) -> Self {
        if let Some(refused) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::no_connection(untrusted(peer, refused));
        }
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => return Self::no_connection("EOF".to_owned()),
            io::ErrorKind::ConnectionReset => return Self::no_connection(RESET.to_owned()),
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
            _ => error.to_string(),
        };
        Self::no_connection(format!("dial tcp {address}: {why}"))
    }

    /// There is no answer though there was a connection: who switches reads it without Go's transport.
    pub fn broken_off(error: &hyper::Error, switching: bool) -> Self {
        let of_connection = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let inner = of_connection.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = inner {
            return Self::of(&told_by_peer(*alert));
        }
        let kind = of_connection.map(io::Error::kind);
        let closed = error.is_incomplete_message() || error.is_canceled() || error.is_closed();
        let ended = closed || kind == Some(io::ErrorKind::UnexpectedEof);
        match (ended, error.is_parse()) {
            (true, _) => Self::of(if switching { "unexpected EOF" } else { "EOF" }),
            (_, true) if switching => Self::of("malformed HTTP response"),
            (_, true) => Self::of("net/http: HTTP/1.x transport connection broken: malformed HTTP response"),
            _ if kind == Some(io::ErrorKind::ConnectionReset) => Self::of(RESET),
            _ => Self::of(&error.to_string()),
        }
    }

    /// The answer has no end.
    pub(crate) fn amid_answer(error: &(dyn Error + 'static)) -> Self {
        let of_connection = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let text = match of_connection.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionReset) => RESET,
            _ => "unexpected EOF",
        };
        Self::unreadable(text.to_owned())
    }

    /// What has come of the answer cannot be read.
    pub(crate) fn unreadable(text: String) -> Self {
        Self { text, stage: Stage::Reading }
    }
}

/// Why no TLS connection came about, in the words of Go's crypto/tls and crypto/x509.
fn untrusted(peer: &Peer, error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    const OUT_OF_TIME: &str = "certificate has expired or is not yet valid";
    let why = match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => UNKNOWN.to_owned(),
        rustls::Error::InvalidCertificate(Bad::ExpiredContext { time, not_after }) => {
            format!("{OUT_OF_TIME}: current time {} is after {}", date(*time), date(*not_after))
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYetContext { time, not_before }) => {
            format!("{OUT_OF_TIME}: current time {} is before {}", date(*time), date(*not_before))
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::NotValidYet) => OUT_OF_TIME.to_owned(),
        rustls::Error::InvalidCertificate(Bad::NotValidForNameContext { presented, .. }) => {
            valid_for(presented, peer.name())
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName) => valid_for(&[], peer.name()),
        rustls::Error::InvalidCertificate(Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. }) => {
            "certificate specifies an incompatible key usage".to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::BadEncoding) => "malformed certificate".to_owned(),
        rustls::Error::InvalidCertificate(Bad::UnsupportedSignatureAlgorithmContext { .. }) => {
            format!("{UNKNOWN} (possibly because of an algorithm that is not taken)")
        }
        rustls::Error::InvalidCertificate(Bad::Other(other)) => untold(&format!("{other:?}"), peer.name()),
        rustls::Error::AlertReceived(alert) => return told_by_peer(*alert),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            return "tls: first record does not look like a TLS handshake".to_owned();
        }
        other => return format!("tls: {other}"),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

const UNKNOWN: &str = "certificate signed by unknown authority";

/// What webpki says and rustls has no word for, which is shown as it is called: `OtherError(UnsupportedCertVersion)`.
fn untold(shown: &str, wanted: &str) -> String {
    let is = |name: &str| shown.contains(name);
    if is("UnsupportedCertVersion") {
        // Of version 1, which has no names beside its subject's.
        valid_for(&[], wanted)
    } else if is("UnsupportedCriticalExtension") {
        "unhandled critical extension".to_owned()
    } else if is("PathLenConstraintViolated") {
        "too many intermediates for path length constraint".to_owned()
    } else if is("NameConstraintViolation") {
        "a root or intermediate certificate is not authorized to sign for this name".to_owned()
    } else if is("EndEntityUsedAsCa") || is("CaUsedAsEndEntity") {
        UNKNOWN.to_owned()
    } else {
        shown.to_owned()
    }
}

/// The other side's last word.
fn told_by_peer(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let why = match alert {
        Alert::HandshakeFailure => "handshake failure",
        Alert::BadCertificate => "bad certificate",
        Alert::UnsupportedCertificate => "unsupported certificate",
        Alert::CertificateRevoked => "revoked certificate",
        Alert::CertificateExpired => "expired certificate",
        Alert::CertificateUnknown => "unknown certificate",
        Alert::UnknownCA => "unknown certificate authority",
        Alert::AccessDenied => "access denied",
        Alert::DecryptError => "error decrypting message",
        Alert::InsufficientSecurity => "insufficient security level",
        Alert::NoApplicationProtocol => "no application protocol",
        Alert::ProtocolVersion => "protocol version not supported",
        Alert::InternalError => "internal error",
        Alert::UnrecognisedName => "unrecognized name",
        Alert::CertificateRequired => "certificate required",
        other => return format!("remote error: tls: {other:?}"),
    };
    format!("remote error: tls: {why}")
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    seconds.map_or_else(|| time.as_secs().to_string(), |moment| moment.to_string())
}

/// What a certificate is good for: of an address that is wanted its addresses are told, of a name its names. rustls shows
/// them as `DnsName("a.example.com")` and `IpAddress(10.0.0.1)`.
fn valid_for(presented: &[String], wanted: &str) -> String {
    let is_address = wanted.parse::<IpAddr>().is_ok();
    let told = presented.iter().filter_map(|name| {
        let (kind, rest) = name.split_once('(')?;
        let name = rest.strip_suffix(')')?.trim_matches('"');
        (is_address == (kind == "IpAddress")).then_some(name)
    });
    let told = told.collect::<Vec<_>>().join(", ");
    match (told.is_empty(), is_address) {
        (false, _) => format!("certificate is valid for {told}, not {wanted}"),
        (true, true) => {
            format!("cannot validate certificate for {wanted} because it doesn't contain any IP SANs")
        }
        (true, false) => format!("certificate is not valid for any names, but wanted to match {wanted}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_is_told_with_the_names_that_it_is_for() {
        let presented =
            ["DnsName(\"a.example.com\")", "IpAddress(10.0.0.1)", "DnsName(\"c\")"].map(str::to_owned);
        let told = "certificate is valid for a.example.com, c, not b.svc";
        assert_eq!(valid_for(&presented, "b.svc"), told);
        let told = "certificate is valid for 10.0.0.1, not 10.0.0.2";
        assert_eq!(valid_for(&presented, "10.0.0.2"), told);
        let told = "certificate is not valid for any names, but wanted to match b.svc";
        assert_eq!(valid_for(&[], "b.svc"), told);
        let told = "cannot validate certificate for ::1 because it doesn't contain any IP SANs";
        assert_eq!(valid_for(&presented[..1], "::1"), told);
    }

    #[test]
    fn times_of_a_certificate_are_told_as_go_does() {
        let after = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert_eq!(date(after(1_700_000_000)), "2023-11-14T22:13:20Z");
    }
}
