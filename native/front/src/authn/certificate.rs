//! X.509 client certificates: common name is the user, organizations are its groups.

use std::sync::Arc;
use std::time::Duration;

use kubecore_core::authn::UserInfo;
use kubecore_tls::{authorities, certificates, is_plain_and_issued, provider};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::der_parser::asn1_rs::{Oid, Tag};
use x509_parser::der_parser::oid;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate};

use super::front_proxy::FrontProxy;

/// The attribute of a subject that holds the user's uid (KEP-4317, AllowParsingUserUIDFromCertAuth).
const UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);

/// The certificate is foreign, expired, not for clients, or broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// The authorities whose client certificates are accepted.
#[derive(Debug)]
pub struct ClientCa {
    verifier: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl ClientCa {
    /// From PEM with one or more certificates.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let roots = authorities(pem).map_err(|error| error.to_string())?;
        let provider = Arc::new(provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?;
        let authorities = certificates(pem).map_err(|error| error.to_string())?;
        Ok(Self { verifier, authorities })
    }

    fn verify(&self, chain: &[CertificateDer<'static>], now: f64) -> Result<(), Refused> {
        let (leaf, intermediates) = chain.split_first().ok_or(Refused)?;
        let now = UnixTime::since_unix_epoch(Duration::try_from_secs_f64(now).map_err(|_| Refused)?);
        let is_good = self.verifier.verify_client_cert(leaf, intermediates, now).is_ok()
            || is_plain_and_issued(leaf, &self.authorities, now.as_secs());
        is_good.then_some(()).ok_or(Refused)
    }
}

/// Unix seconds from and until which a certificate holds.
type Validity = (f64, f64);

/// What was found out about a chain under one generation of authorities.
#[derive(Clone)]
struct Verified {
    generation: u64,
    validity: Validity,
    user: Option<Arc<UserInfo>>,
}

/// The chain a client showed, and what is remembered of it for the connection.
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    verified: Mutex<Option<Verified>>,
    /// Generation, and until when it may speak for others.
    proxy: Mutex<Option<(u64, Validity)>>,
}

impl ClientIdentity {
    /// `chain` starts with the client's own certificate.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain, verified: Mutex::new(None), proxy: Mutex::new(None) }
    }

    /// Whether this is a proxy whose word about users is taken.
    pub(super) fn speaks_for(&self, proxy: &FrontProxy, generation: u64, now: f64) -> Result<(), Refused> {
        let mut slot = self.proxy.lock();
        if let Some((known, (from, until))) = &*slot
            && *known == generation
        {
            return if *from <= now && now <= *until { Ok(()) } else { Err(Refused) };
        }
        proxy.ca.verify(&self.chain, now)?;
        let leaf = self.chain.first().ok_or(Refused)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Refused)?;
        if !proxy.believes(&common_name(&parsed)?.unwrap_or_default()) {
            return Err(Refused);
        }
        *slot = Some((generation, span(&parsed)));
        Ok(())
    }

    /// The user, or None for a good certificate without a common name; and how many seconds it still holds.
    pub(super) fn user(
        &self,
        ca: &ClientCa,
        generation: u64,
        now: f64,
    ) -> Result<(Option<Arc<UserInfo>>, f64), Refused> {
        let mut slot = self.verified.lock();
        if let Some(verified) = &*slot
            && verified.generation == generation
        {
            let (from, until) = verified.validity;
            let holds = from <= now && now <= until;
            return if holds { Ok((verified.user.clone(), until - now)) } else { Err(Refused) };
        }
        // What is refused is not kept: a certificate that is not valid yet may become so.
        let (validity, user) = self.judge(ca, now)?;
        *slot = Some(Verified { generation, validity, user: user.clone() });
        Ok((user, validity.1 - now))
    }

    fn judge(&self, ca: &ClientCa, now: f64) -> Result<(Validity, Option<Arc<UserInfo>>), Refused> {
        ca.verify(&self.chain, now)?;
        let leaf = self.chain.first().ok_or(Refused)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Refused)?;
        let span = span(&parsed);
        let name = parsed.subject();
        let Some(username) = common_name(&parsed)? else {
            return Ok((span, None));
        };
        if username.is_empty() {
            return Ok((span, None));
        }
        let groups: Result<_, _> = name.iter_organization().map(text_of).collect();
        let user = UserInfo {
            username,
            uid: uid(&parsed)?,
            groups: groups?,
            extra: vec![("authentication.kubernetes.io/credential-id".to_owned(), vec![fingerprint(leaf)])],
        };
        Ok((span, Some(Arc::new(user.with_authenticated_group()))))
    }
}

/// The last one of several, as in Go.
fn common_name(certificate: &X509Certificate<'_>) -> Result<Option<String>, Refused> {
    certificate.subject().iter_common_name().last().map(text_of).transpose()
}

/// Empty where the certificate says none. One that says several, or one that is empty, is nobody's.
fn uid(certificate: &X509Certificate<'_>) -> Result<String, Refused> {
    let mut told = certificate.subject().iter_by_oid(&UID);
    let Some(uid) = told.next() else { return Ok(String::new()) };
    text_of(uid).and_then(|uid| if uid.is_empty() || told.next().is_some() { Err(Refused) } else { Ok(uid) })
}

/// Of the types of text that Go reads. Whoever is named by another one is not taken for somebody who is named less.
fn text_of(attribute: &AttributeTypeAndValue<'_>) -> Result<String, Refused> {
    let value = attribute.attr_value();
    match value.tag() {
        Tag::BmpString => {
            let pairs = value.data.chunks(2).map(|pair| <[u8; 2]>::try_from(pair).map(u16::from_be_bytes));
            let units: Result<Vec<_>, _> = pairs.collect();
            String::from_utf16(&units.map_err(|_| Refused)?).map_err(|_| Refused)
        }
        Tag::TeletexString => str::from_utf8(value.data).map(str::to_owned).map_err(|_| Refused),
        _ => attribute.as_str().map(str::to_owned).map_err(|_| Refused),
    }
}

fn span(certificate: &X509Certificate<'_>) -> Validity {
    let validity = certificate.validity();
    (validity.not_before.timestamp() as f64, validity.not_after.timestamp() as f64)
}

fn fingerprint(der: &[u8]) -> String {
    let hex: String = digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X509SHA256={hex}")
}
