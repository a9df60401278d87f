//! The cryptography of all TLS of ours: ring's, and signatures by keys on P-521, which Go reads and ring does not.

use std::sync::LazyLock;

use p521::ecdsa::signature::hazmat::PrehashVerifier;
use p521::ecdsa::{DerSignature, VerifyingKey};
use rustls::SignatureScheme;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};

/// A key on P-521 over a hash.
#[derive(Debug)]
struct OnP521 {
    signature: AlgorithmIdentifier,
    hash: &'static ring::digest::Algorithm,
}

impl SignatureVerificationAlgorithm for OnP521 {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(key).map_err(|_| InvalidSignature)?;
        let signature = DerSignature::try_from(signature).map_err(|_| InvalidSignature)?;
        let digest = ring::digest::digest(self.hash, message);
        // As long as the order of the curve: a shorter number begins with zeros, and p521 takes none that is too short.
        let mut number = [0; 66];
        number[66 - digest.as_ref().len()..].copy_from_slice(digest.as_ref());
        key.verify_prehash(&number, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

static WITH_SHA512: &dyn SignatureVerificationAlgorithm =
    &OnP521 { signature: alg_id::ECDSA_SHA512, hash: &ring::digest::SHA512 };
static WITH_SHA384: &dyn SignatureVerificationAlgorithm =
    &OnP521 { signature: alg_id::ECDSA_SHA384, hash: &ring::digest::SHA384 };

static WITH_SHA256: &dyn SignatureVerificationAlgorithm =
    &OnP521 { signature: alg_id::ECDSA_SHA256, hash: &ring::digest::SHA256 };

/// By what TLS calls them: until its version 1.2 the hash alone counts, after that the first one.
static SCHEMES: [(SignatureScheme, &[&dyn SignatureVerificationAlgorithm]); 3] = [
    (SignatureScheme::ECDSA_NISTP521_SHA512, &[WITH_SHA512]),
    (SignatureScheme::ECDSA_NISTP384_SHA384, &[WITH_SHA384]),
    (SignatureScheme::ECDSA_NISTP256_SHA256, &[WITH_SHA256]),
];

static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let known = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let all = [known.all, &[WITH_SHA512, WITH_SHA384, WITH_SHA256]].concat();
    let mut mapping = known.mapping.to_vec();
    for (scheme, own) in SCHEMES {
        match mapping.iter_mut().find(|(one, _)| *one == scheme) {
            // Once, for as long as the process lasts: what rustls asks for.
            Some((_, fitting)) => *fitting = [*fitting, own].concat().leak(),
            None => mapping.push((scheme, own)),
        }
    }
    WebPkiSupportedAlgorithms { all: all.leak(), mapping: mapping.leak() }
});

pub fn provider() -> CryptoProvider {
    CryptoProvider {
        signature_verification_algorithms: *ALGORITHMS,
        ..rustls::crypto::ring::default_provider()
    }
}
