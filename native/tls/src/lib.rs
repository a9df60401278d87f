//! TLS as every part of kubecore sets it up: what is made of PEM, and whom servers and clients trust.

mod by_key;
mod provider;
mod serving;
mod trust;

use std::sync::Arc;

pub use rustls::ServerConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

pub use crate::by_key::is_plain_and_issued;
pub use crate::provider::provider;
pub use crate::serving::ServingCertificate;
use crate::trust::{AnyClient, AnyName, AnyServer, Named, Trusted};

/// Why certificates or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no certificate, or a broken one, in the PEM")]
    Certificate,
    #[error("no private key, or a broken one, in the PEM")]
    Key,
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// Which certificates of a server will do; authorities are in PEM, and may be the server's own certificate. In any case
/// the server must hold its key.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    Anyone,
    /// Issued by these, for whatever name: kubelets serve under the name of their node whichever address is used.
    Issued(&'a [u8]),
    /// Issued by these for the name that is asked for.
    Named(&'a [u8]),
    /// Issued for that name by one of the authorities that this machine trusts (`SSL_CERT_FILE`, `SSL_CERT_DIR`, or where
    /// its distribution keeps them).
    System,
}

/// Certificates of a PEM text, of which there must be one at least.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    certificates.ok().filter(|list| !list.is_empty()).ok_or(TlsError::Certificate)
}

/// The first private key of a PEM text.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::Key)
}

/// Authorities of a PEM text.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// A server configuration that offers HTTP/2 and HTTP/1.1 and asks for a client certificate. Every one is let through
/// and for the authenticator to judge, so that a bad one gets a 401.
pub fn server_config(certificate: Arc<ServingCertificate>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider());
    let clients = Arc::new(AnyClient(provider.signature_verification_algorithms));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// `identity`: certificate and key to show, in PEM.
pub fn client_config(trust: Trust<'_>, identity: Option<(&[u8], &[u8])>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(provider());
    let verifier = verifier(trust, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => Ok(builder.with_client_auth_cert(certificates(chain)?, private_key(key)?)?),
    }
}

fn verifier(
    trust: Trust<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let algorithms = provider.signature_verification_algorithms;
    let named =
        |all| -> Arc<dyn ServerCertVerifier> { Arc::new(Named { trusted: Trusted::new(all), algorithms }) };
    Ok(match trust {
        Trust::Anyone => Arc::new(AnyServer(algorithms)),
        Trust::Issued(pem) => Arc::new(AnyName { trusted: Trusted::new(certificates(pem)?), algorithms }),
        Trust::Named(pem) => named(certificates(pem)?),
        Trust::System => named(rustls_native_certs::load_native_certs().certs),
    })
}
