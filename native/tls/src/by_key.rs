//! Signatures checked with nothing but the key of a certificate. webpki reads no certificate of version 1, nor some others
//! that Go reads; what is signed with their keys can be told all the same.

use std::ops::RangeInclusive;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use rustls::{CertificateError, DigitallySignedStruct, Error};
use x509_parser::asn1_rs::{Any, FromDer};
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use crate::provider::provider;
use crate::trust::may_issue;

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.map(|(_, parsed)| parsed).map_err(|_| CertificateError::BadEncoding.into())
}

/// What stands between tag and end of the first value, and what follows it.
fn opened(der: &[u8]) -> Option<(&[u8], &[u8])> {
    Any::from_der(der).ok().map(|(rest, any)| (any.data, rest))
}

/// Whether one of the algorithms for keys like this one finds the signature good.
fn holds(
    key: &SubjectPublicKeyInfo<'_>,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    (message, signature): (&[u8], &[u8]),
) -> bool {
    let kind = opened(key.raw).and_then(|(inside, _)| opened(inside));
    kind.is_some_and(|(kind, _)| {
        algorithms
            .iter()
            .filter(|one| one.public_key_alg_id().as_ref() == kind)
            .any(|one| one.verify_signature(&key.subject_public_key.data, message, signature).is_ok())
    })
}

/// As `rustls::crypto::verify_tls12_signature`.
pub fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    supported: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let certificate = parsed(certificate)?;
    let mut fitting = supported.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
    let good = fitting
        .any(|(_, algorithms)| holds(certificate.public_key(), algorithms, (message, signed.signature())));
    good.then(HandshakeSignatureValid::assertion).ok_or_else(|| CertificateError::BadSignature.into())
}

/// As `rustls::crypto::verify_tls13_signature`.
pub fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    supported: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let certificate = parsed(certificate)?;
    let key = SubjectPublicKeyInfoDer::from(certificate.public_key().raw);
    verify_tls13_signature_with_raw_key(message, &key, signed, supported)
}

/// Whether a client's certificate is of version 1, holds now (Unix seconds), and is issued by one of the authorities
/// themselves, as Go's `Certificate.Verify` takes it: what has no extensions is for any use. Version 1 behind an
/// intermediate authority is refused.
pub fn is_plain_and_issued(
    certificate: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
    now: u64,
) -> bool {
    let Ok(own) = parsed(certificate) else { return false };
    own.version() == X509Version::V1
        && own.extensions().is_empty()
        && is_in_time(&own, now)
        && is_issued(certificate, &own, authorities, now, |authority| {
            may_be_for(authority, |usage| usage.client_auth)
        })
}

/// Whether a server's certificate that is an authority's, too, holds now (Unix seconds) and is issued by one of the
/// authorities themselves: webpki takes such a certificate for no server's, Go does.
pub fn is_authority_and_issued(
    certificate: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
    now: u64,
) -> bool {
    let Ok(own) = parsed(certificate) else { return false };
    let may_serve = |one: &X509Certificate<'_>| may_be_for(one, |usage| usage.server_auth);
    // What names an authority may vouch for is looked at by webpki alone.
    let is_free = |one: &X509Certificate<'_>| one.name_constraints().is_ok_and(|limits| limits.is_none());
    own.version() == X509Version::V3
        && may_issue(certificate)
        && own.iter_extensions().all(|one| !one.critical || !one.parsed_extension().unsupported())
        && is_in_time(&own, now)
        && may_serve(&own)
        && is_issued(certificate, &own, authorities, now, |authority| {
            may_serve(authority) && is_free(authority)
        })
}

fn is_issued(
    der: &[u8],
    certificate: &X509Certificate<'_>,
    authorities: &[CertificateDer<'_>],
    now: u64,
    fits: impl Fn(&X509Certificate<'_>) -> bool,
) -> bool {
    authorities.iter().filter(|one| may_issue(one)).any(|authority| {
        parsed(authority).is_ok_and(|authority| {
            authority.subject().as_raw() == certificate.issuer().as_raw()
                && is_in_time(&authority, now)
                && may_sign(&authority)
                && fits(&authority)
                && is_signed_by(der, certificate, authority.public_key())
        })
    })
}

fn is_in_time(certificate: &X509Certificate<'_>, now: u64) -> bool {
    validity(certificate).contains(&now.cast_signed())
}

/// Unix seconds.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> RangeInclusive<i64> {
    let validity = certificate.validity();
    validity.not_before.timestamp()..=validity.not_after.timestamp()
}

pub(crate) fn may_sign(authority: &X509Certificate<'_>) -> bool {
    authority.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

/// Whether what it is used for is not limited to anything else.
fn may_be_for(certificate: &X509Certificate<'_>, purpose: impl Fn(&ExtendedKeyUsage<'_>) -> bool) -> bool {
    let usage = certificate.extended_key_usage();
    usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.any || purpose(usage.value)))
}

fn is_signed_by(der: &[u8], certificate: &X509Certificate<'_>, key: &SubjectPublicKeyInfo<'_>) -> bool {
    // What is signed is behind us, by which algorithm comes next.
    let said = opened(der).and_then(|(inside, _)| opened(inside)).and_then(|(_, rest)| opened(rest));
    let Some((by, _)) = said else { return false };
    let all = provider().signature_verification_algorithms.all;
    let fitting: Vec<_> = all.iter().copied().filter(|one| one.signature_alg_id().as_ref() == by).collect();
    let signed = certificate.tbs_certificate.as_ref();
    holds(key, &fitting, (signed, &certificate.signature_value.data))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use ::ring::rand::SystemRandom;
    use ::ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use rustls::client::ResolvesClientCert;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::sign::CertifiedKey;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion};

    use super::*;
    use crate::trust::{AnyClient, AnyServer};

    const VERSION_THREE: &[u8] = &[0xa0, 3, 2, 1, 2];
    const ECDSA_WITH_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    const KEY_OF_P256: &[u8] =
        b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

    fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let inside = parts.concat();
        let length = u16::try_from(inside.len()).unwrap().to_be_bytes();
        let head: &[u8] = match length {
            [0, short @ ..0x80] => &[tag, short],
            [0, long] => &[tag, 0x81, long],
            [high, low] => &[tag, 0x82, high, low],
        };
        [head, &inside].concat()
    }

    struct Pair {
        pkcs8: Vec<u8>,
        certificate: CertificateDer<'static>,
    }

    /// Nobody has issued it: what it is signed with is nothing.
    fn pair(version: &[u8]) -> Pair {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let bits = value(3, &[&[0], key.public_key().as_ref()]);
        let time = value(0x17, &[b"260101000000Z"]);
        let (nobody, validity) = (value(0x30, &[]), value(0x30, &[&time, &time]));
        let spki = value(0x30, &[KEY_OF_P256, &bits]);
        let said = value(0x30, &[version, &[2, 1, 1], ECDSA_WITH_SHA256, &nobody, &validity, &nobody, &spki]);
        let whole = value(0x30, &[&said, ECDSA_WITH_SHA256, &[3, 1, 0]]);
        Pair { pkcs8: pkcs8.as_ref().to_vec(), certificate: whole.into() }
    }

    #[derive(Debug)]
    struct Shows(Arc<CertifiedKey>);

    impl ResolvesClientCert for Shows {
        fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    /// What a server says to a client that shows one's certificate and signs with another's key.
    fn shaken(shown: &Pair, signer: &Pair, version: &'static SupportedProtocolVersion) -> Result<(), Error> {
        let provider = Arc::new(provider());
        let key_of = |pair: &Pair| PrivatePkcs8KeyDer::from(pair.pkcs8.clone());
        let algorithms = provider.signature_verification_algorithms;
        let own = pair(VERSION_THREE);
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyClient(algorithms)))
            .with_single_cert(vec![own.certificate.clone()], key_of(&own).into())
            .unwrap();
        let key = provider.key_provider.load_private_key(key_of(signer).into()).unwrap();
        let identity = CertifiedKey::new(vec![shown.certificate.clone()], key);
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(algorithms)))
            .with_client_cert_resolver(Arc::new(Shows(Arc::new(identity))));
        let mut client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            server.read_tls(&mut &sent[..]).unwrap();
            server.process_new_packets()?;
            let mut sent = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut sent).unwrap();
            }
            match client.read_tls(&mut &sent[..]) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                Ok(_) => drop(client.process_new_packets().unwrap()),
            }
        }
        Ok(())
    }

    #[test]
    fn a_client_with_a_certificate_of_any_version_is_let_through_if_it_holds_the_key() {
        for kind in [&[][..], VERSION_THREE] {
            let (own, other) = (pair(kind), pair(kind));
            for version in [&TLS12, &TLS13] {
                assert_eq!(shaken(&own, &own, version), Ok(()));
                let refused = shaken(&own, &other, version);
                assert_eq!(refused, Err(CertificateError::BadSignature.into()));
            }
        }
    }
}
