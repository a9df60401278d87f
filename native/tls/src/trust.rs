//! Verifiers that ask less than usual; that the peer holds the key of the certificate it shows, they ask all the same.

use std::ops::RangeInclusive;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use x509_parser::x509::X509Version;

use crate::by_key;

/// What both traits ask of a verifier beside its judgement: whether the peer has signed with the certificate's key, as
/// webpki reads it or, of certificates that it does not read, by nothing but the key.
macro_rules! signatures_by {
    ($algorithms:tt) => {
        signatures_by!($algorithms, verify_tls12_signature, verify_tls13_signature);
    };
    ($algorithms:tt, $tls12:path, $tls13:path) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            $tls12(message, cert, dss, &self.$algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            $tls13(message, cert, dss, &self.$algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$algorithms.supported_schemes()
        }
    };
}

/// A client with any certificate that can be read, or none.
#[derive(Debug)]
pub struct AnyClient(pub WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures_by!(0, by_key::verify_tls12, by_key::verify_tls13);
}

/// Certificates that are trusted themselves, as Go trusts whatever stands among its authorities: an end entity's need not
/// be issued by anybody else of them.
#[derive(Debug)]
pub struct Trusted {
    all: Vec<CertificateDer<'static>>,
    authorities: Vec<Authority>,
}

/// One that may have issued others, within its time (Unix seconds), which webpki does not look at.
#[derive(Clone, Debug)]
struct Authority {
    anchor: TrustAnchor<'static>,
    validity: RangeInclusive<i64>,
}

impl Authority {
    /// None for one that vouches for nobody.
    fn of(certificate: &CertificateDer<'static>) -> Option<Self> {
        let mut store = RootCertStore::empty();
        store.add(certificate.clone()).ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let may = may_issue(certificate) && by_key::may_sign(&parsed);
        let anchor = store.roots.pop().filter(|_| may)?;
        Some(Self { anchor, validity: by_key::validity(&parsed) })
    }
}

impl Trusted {
    pub fn new(all: Vec<CertificateDer<'static>>) -> Self {
        let authorities = all.iter().filter_map(Authority::of).collect();
        Self { all, authorities }
    }

    /// Whether a server's certificate is one of them, or was issued by one.
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), rustls::Error> {
        if self.has(end_entity, now)? || by_key::is_authority_and_issued(end_entity, &self.all, now.as_secs())
        {
            return Ok(());
        }
        if may_issue(end_entity) {
            // No server's to webpki, whoever has issued it.
            check_time(end_entity, now)?;
            return Err(CertificateError::UnknownIssuer.into());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let by = |authorities: Vec<&Authority>| {
            let roots = authorities.into_iter().map(|authority| authority.anchor.clone()).collect();
            let roots = RootCertStore { roots };
            let algorithms = algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms)
        };
        let moment = now.as_secs().cast_signed();
        let (in_time, others): (Vec<_>, Vec<_>) =
            self.authorities.iter().partition(|authority| authority.validity.contains(&moment));
        let Err(refused) = by(in_time) else { return Ok(()) };
        match others.into_iter().find(|authority| by(vec![authority]).is_ok()) {
            Some(authority) => Err(out_of_time(now, &authority.validity)),
            None => Err(refused),
        }
    }

    /// Whether it is one of them; an error when its time is over or has not come.
    fn has(&self, end_entity: &CertificateDer<'_>, now: UnixTime) -> Result<bool, rustls::Error> {
        if !self.all.iter().any(|one| one == end_entity) {
            return Ok(false);
        }
        check_time(end_entity, now)?;
        let (_, certificate) = x509_parser::parse_x509_certificate(end_entity)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        match certificate.extended_key_usage() {
            Ok(None) => Ok(true),
            Ok(Some(usage)) if usage.value.any || usage.value.server_auth => Ok(true),
            _ => Err(CertificateError::InvalidPurpose.into()),
        }
    }
}

/// Fails for a certificate whose time is over or has not come.
fn check_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let validity = by_key::validity(&certificate);
    if validity.contains(&now.as_secs().cast_signed()) { Ok(()) } else { Err(out_of_time(now, &validity)) }
}

fn out_of_time(now: UnixTime, validity: &RangeInclusive<i64>) -> rustls::Error {
    let moment =
        |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(seconds.max(0).cast_unsigned()));
    if now.as_secs().cast_signed() < *validity.start() {
        CertificateError::NotValidYetContext { time: now, not_before: moment(*validity.start()) }.into()
    } else {
        CertificateError::ExpiredContext { time: now, not_after: moment(*validity.end()) }.into()
    }
}

/// Whether it is an authority's. webpki does not ask that of those that are trusted; Go does.
pub fn may_issue(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
        return false;
    };
    match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => certificate.version() == X509Version::V1,
        Err(_) => false,
    }
}

/// A server with a trusted certificate, or one that these have issued, for the name that is asked for.
#[derive(Debug)]
pub struct Named {
    pub trusted: Trusted,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let trusted = self.trusted.verify(end_entity, intermediates, now, &self.algorithms);
        if let Err(refused) = &trusted
            && is_of_time(refused)
        {
            return Err(refused.clone());
        }
        // As Go, which looks at the name before it asks who has issued it.
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        trusted.map(|()| ServerCertVerified::assertion())
    }

    signatures_by!(algorithms);
}

fn is_of_time(refused: &rustls::Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let rustls::Error::InvalidCertificate(why) = refused else { return false };
    matches!(why, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

/// A server with a certificate that is trusted, or that one of those has issued, for whatever name.
#[derive(Debug)]
pub struct AnyName {
    pub trusted: Trusted,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.trusted.verify(end_entity, intermediates, now, &self.algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(algorithms);
}

/// A server with any certificate.
#[derive(Debug)]
pub struct AnyServer(pub WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(0, by_key::verify_tls12, by_key::verify_tls13);
}
