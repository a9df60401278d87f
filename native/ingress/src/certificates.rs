//! Which certificate is shown: by the name a client asks for (SNI), exact first, then the wildcard of its first label,
//! then the default one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use kubecore_tls::{TlsError, certificates, private_key, provider};
use rustc_hash::FxHashMap;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};

/// A chain and its key, which belong together.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<CertifiedKey>);

impl Certificate {
    /// Errors: broken PEM, a key of an unknown kind, a key that is another certificate's.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let provider = provider();
        Ok(Self(Arc::new(CertifiedKey::from_der(certificates(chain)?, private_key(key)?, &provider)?)))
    }
}

#[derive(Debug, Default)]
struct Names {
    exact: FxHashMap<Box<str>, Certificate>,
    /// By what follows the `*.`.
    wildcards: FxHashMap<Box<str>, Certificate>,
    default: Option<Certificate>,
}

/// Replaced as a whole; handshakes under way end with what they began with.
#[derive(Debug, Default)]
pub struct Certificates {
    names: ArcSwap<Names>,
}

impl Certificates {
    /// `hosts` in lower case, with wildcards; the first of two for the same host counts.
    pub fn replace(&self, hosts: Vec<(String, Certificate)>, default: Option<Certificate>) {
        let mut names = Names { default, ..Names::default() };
        for (host, certificate) in hosts {
            let (map, key) = match host.strip_prefix("*.") {
                Some(rest) => (&mut names.wildcards, rest),
                None => (&mut names.exact, host.as_str()),
            };
            map.entry(key.into()).or_insert(certificate);
        }
        self.names.store(Arc::new(names));
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let names = self.names.load();
        let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
        let wildcard = || name.split_once('.').and_then(|(_, rest)| names.wildcards.get(rest));
        let found = names.exact.get(name.as_str()).or_else(wildcard).or(names.default.as_ref())?;
        Some(found.0.clone())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

/// HTTP/2 and HTTP/1.1, TLS 1.2 and 1.3, sessions resumed by tickets.
pub fn server_config(certificates: Arc<Certificates>) -> Result<ServerConfig, TlsError> {
    let provider: Arc<crypto::CryptoProvider> = Arc::new(provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}
