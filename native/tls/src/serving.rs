//! The certificate that a server shows, which may be replaced while it serves.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::{TlsError, certificates, private_key, provider};

/// Handshakes that begin after `replace` are shown the new one; connections go on with what they began with.
#[derive(Debug)]
pub struct ServingCertificate(ArcSwap<CertifiedKey>);

impl ServingCertificate {
    /// Errors: broken PEM, a key of an unknown kind, a key that is another certificate's.
    pub fn new(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::new(read(certificate_pem, key_pem)?)))
    }

    /// Errors as of `new`; then the one there was stays.
    pub fn replace(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), TlsError> {
        self.0.store(read(certificate_pem, key_pem)?);
        Ok(())
    }
}

fn read(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = (certificates(certificate_pem)?, private_key(key_pem)?);
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider())?))
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}
