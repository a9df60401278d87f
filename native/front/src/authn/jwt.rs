//! JSON Web Tokens: signature and the registered claims (RFC 7519).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

/// Clocks may differ by this much, as in go-jose.
pub const LEEWAY_SECONDS: f64 = 60.0;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Of another issuer, or no token of ours at all: somebody else may know it.
    Foreign,
    /// Ours, and bad.
    Bad,
}

/// Why a public key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("no SubjectPublicKeyInfo in the PEM")]
    Pem,
    #[error("keys must be RSA, P-256 or P-384")]
    Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
}

/// A key that signatures are checked with.
#[derive(Clone, Debug)]
pub struct PublicKey {
    kind: KeyKind,
    /// RSAPublicKey in DER, or the uncompressed point.
    bytes: Vec<u8>,
}

impl PublicKey {
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError::Pem)?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| KeyError::Pem)?;
        let curve = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|any| any.as_oid().ok())
            .map(|oid| oid.to_id_string());
        let kind = match (info.algorithm.algorithm.to_id_string().as_str(), curve.as_deref()) {
            ("1.2.840.113549.1.1.1", _) => KeyKind::Rsa,
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => KeyKind::P256,
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => KeyKind::P384,
            _ => return Err(KeyError::Kind),
        };
        Ok(Self { kind, bytes: info.subject_public_key.data.to_vec() })
    }

    /// The key decides which algorithms are possible, never the token alone.
    fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match (self.kind, algorithm) {
            (KeyKind::Rsa, "RS256") => &RSA_PKCS1_2048_8192_SHA256,
            (KeyKind::Rsa, "RS384") => &RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa, "RS512") => &RSA_PKCS1_2048_8192_SHA512,
            (KeyKind::P256, "ES256") => &ECDSA_P256_SHA256_FIXED,
            (KeyKind::P384, "ES384") => &ECDSA_P384_SHA384_FIXED,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, &self.bytes).verify(message, signature).is_ok()
    }
}

/// `aud` is one string or a list.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Many(Vec<String>),
    #[default]
    None,
}

impl Audience {
    pub fn contains(&self, wanted: &str) -> bool {
        match self {
            Self::One(own) => own == wanted,
            Self::Many(own) => own.iter().any(|own| own == wanted),
            Self::None => false,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Issuer {
    #[serde(default)]
    iss: String,
}

/// The claims of a token of one of `issuers` with a good signature by one of `keys`. Times are not looked at.
pub fn claims<T: for<'de> Deserialize<'de>>(
    token: &str,
    issuers: &[String],
    keys: &[PublicKey],
) -> Result<T, Refused> {
    let (message, signature) = token.rsplit_once('.').ok_or(Refused::Foreign)?;
    let (header, payload) = message.split_once('.').ok_or(Refused::Foreign)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Refused::Foreign)?;
    let named: Issuer = serde_json::from_slice(&payload).map_err(|_| Refused::Foreign)?;
    if !issuers.contains(&named.iss) {
        return Err(Refused::Foreign);
    }
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Refused::Bad)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| Refused::Bad)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refused::Bad)?;
    if !keys.iter().any(|key| key.verifies(&header.alg, message.as_bytes(), &signature)) {
        return Err(Refused::Bad);
    }
    serde_json::from_slice(&payload).map_err(|_| Refused::Bad)
}
