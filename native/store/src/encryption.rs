//! Values that cannot be read in the file: sealed when they are written, opened when they are read.
//!
//! Form and semantics of apiserver `pkg/storage/value/encrypt`: `k8s:enc:PROVIDER:v1:KEY:`, then nonce and what was
//! sealed. The first key of the first provider seals; whatever key a value names opens it.

use std::borrow::Cow;
use std::fmt;

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm, Nonce};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use crypto_secretbox::XSalsa20Poly1305;

/// Before everything sealed. No JSON begins so.
const SEALED: &[u8] = b"k8s:enc:";
const GCM_NONCE: usize = 12;
const BOX_NONCE: usize = 24;
const CBC_BLOCK: usize = 16;

/// How values are made unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not at all.
    Identity,
    AesGcm,
    AesCbc,
    Secretbox,
}

impl Kind {
    /// None for one that does not exist.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "identity" => Some(Self::Identity),
            "aesgcm" => Some(Self::AesGcm),
            "aescbc" => Some(Self::AesCbc),
            "secretbox" => Some(Self::Secretbox),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::AesGcm => "aesgcm",
            Self::AesCbc => "aescbc",
            Self::Secretbox => "secretbox",
        }
    }
}

/// Bytes with which values are sealed under one key of a provider, made ready.
enum Seal {
    Gcm128(Box<Aes128Gcm>),
    Gcm192(Box<AesGcm<Aes192, U12>>),
    Gcm256(Box<Aes256Gcm>),
    Cbc(Vec<u8>),
    Box(XSalsa20Poly1305),
}

struct Key {
    /// `k8s:enc:PROVIDER:v1:KEY:`
    mark: Vec<u8>,
    seal: Seal,
}

impl Key {
    fn new(kind: Kind, name: &str, secret: &[u8]) -> Result<Self, String> {
        let wrong = || {
            format!("secret of key {name} is of {} bytes, which {} does not take", secret.len(), kind.name())
        };
        let seal = match (kind, secret.len()) {
            (Kind::AesGcm, 16) => Aes128Gcm::new_from_slice(secret).map(|key| Seal::Gcm128(Box::new(key))),
            (Kind::AesGcm, 24) => AesGcm::new_from_slice(secret).map(|key| Seal::Gcm192(Box::new(key))),
            (Kind::AesGcm, 32) => Aes256Gcm::new_from_slice(secret).map(|key| Seal::Gcm256(Box::new(key))),
            (Kind::AesCbc, 16 | 24 | 32) => Ok(Seal::Cbc(secret.to_vec())),
            (Kind::Secretbox, 32) => XSalsa20Poly1305::new_from_slice(secret).map(Seal::Box),
            _ => return Err(wrong()),
        };
        let mark = format!("k8s:enc:{}:v1:{name}:", kind.name()).into_bytes();
        Ok(Self { mark, seal: seal.map_err(|_| wrong())? })
    }

    /// `place` is where it is stored: a value that was put elsewhere does not open.
    fn seal(&self, place: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = self.mark.clone();
        let failed = |_| "sealing failed".to_owned();
        match &self.seal {
            Seal::Cbc(secret) => {
                let nonce: [u8; CBC_BLOCK] = rand::random();
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&encrypt_cbc(secret, &nonce, value)?);
            }
            Seal::Box(cipher) => {
                let nonce: [u8; BOX_NONCE] = rand::random();
                let sealed = cipher.encrypt(&nonce.into(), value).map_err(failed)?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&sealed);
            }
            gcm => {
                let nonce: [u8; GCM_NONCE] = rand::random();
                let payload = Payload { msg: value, aad: place };
                let sealed = with_gcm(gcm, |cipher| cipher.seal(&nonce, payload)).map_err(failed)?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&sealed);
            }
        }
        Ok(out)
    }

    /// Of what stands behind the mark.
    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        let short = || "the stored data was shorter than the required size".to_owned();
        let failed = |_| "message authentication failed".to_owned();
        match &self.seal {
            Seal::Cbc(secret) => {
                let (nonce, sealed) = sealed.split_at_checked(CBC_BLOCK).ok_or_else(short)?;
                decrypt_cbc(secret, nonce, sealed)
            }
            Seal::Box(cipher) => {
                let (nonce, sealed) = sealed.split_first_chunk::<BOX_NONCE>().ok_or_else(short)?;
                cipher.decrypt(nonce.into(), sealed).map_err(failed)
            }
            gcm => {
                let (nonce, sealed) = sealed.split_first_chunk::<GCM_NONCE>().ok_or_else(short)?;
                let payload = Payload { msg: sealed, aad: place };
                with_gcm(gcm, |cipher| cipher.open(nonce, payload)).map_err(failed)
            }
        }
    }
}

/// What ciphers of any key length have in common.
trait Gcm {
    fn seal(&self, nonce: &[u8; GCM_NONCE], payload: Payload<'_, '_>) -> Result<Vec<u8>, aes_gcm::Error>;
    fn open(&self, nonce: &[u8; GCM_NONCE], payload: Payload<'_, '_>) -> Result<Vec<u8>, aes_gcm::Error>;
}

impl<T: Aead<NonceSize = U12>> Gcm for T {
    fn seal(&self, nonce: &[u8; GCM_NONCE], payload: Payload<'_, '_>) -> Result<Vec<u8>, aes_gcm::Error> {
        self.encrypt(Nonce::from_slice(nonce), payload)
    }

    fn open(&self, nonce: &[u8; GCM_NONCE], payload: Payload<'_, '_>) -> Result<Vec<u8>, aes_gcm::Error> {
        self.decrypt(Nonce::from_slice(nonce), payload)
    }
}

fn with_gcm<T>(
    seal: &Seal,
    use_it: impl FnOnce(&dyn Gcm) -> Result<T, aes_gcm::Error>,
) -> Result<T, aes_gcm::Error> {
    match seal {
        Seal::Gcm128(cipher) => use_it(&**cipher),
        Seal::Gcm192(cipher) => use_it(&**cipher),
        Seal::Gcm256(cipher) => use_it(&**cipher),
        Seal::Cbc(_) | Seal::Box(_) => Err(aes_gcm::Error),
    }
}

fn encrypt_cbc(secret: &[u8], nonce: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = |_| "sealing failed".to_owned();
    Ok(match secret.len() {
        16 => cbc::Encryptor::<Aes128>::new_from_slices(secret, nonce)
            .map_err(wrong)?
            .encrypt_padded_vec_mut::<Pkcs7>(value),
        24 => cbc::Encryptor::<Aes192>::new_from_slices(secret, nonce)
            .map_err(wrong)?
            .encrypt_padded_vec_mut::<Pkcs7>(value),
        _ => cbc::Encryptor::<Aes256>::new_from_slices(secret, nonce)
            .map_err(wrong)?
            .encrypt_padded_vec_mut::<Pkcs7>(value),
    })
}

fn decrypt_cbc(secret: &[u8], nonce: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = |_| "invalid padding on input".to_owned();
    let broken = |_| "invalid padding on input".to_owned();
    match secret.len() {
        16 => cbc::Decryptor::<Aes128>::new_from_slices(secret, nonce)
            .map_err(wrong)?
            .decrypt_padded_vec_mut::<Pkcs7>(sealed),
        24 => cbc::Decryptor::<Aes192>::new_from_slices(secret, nonce)
            .map_err(wrong)?
            .decrypt_padded_vec_mut::<Pkcs7>(sealed),
        _ => cbc::Decryptor::<Aes256>::new_from_slices(secret, nonce)
            .map_err(wrong)?
            .decrypt_padded_vec_mut::<Pkcs7>(sealed),
    }
    .map_err(broken)
}

/// A provider with its keys, as text and bytes.
pub type ProviderSpec = (Kind, Vec<(String, Vec<u8>)>);

/// What is done with the keys under one prefix.
struct Rule {
    prefix: Vec<u8>,
    /// The first key of the first provider; None: what is written stays readable.
    writes: Option<usize>,
    keys: Vec<Key>,
    /// Whether what is not sealed may be read.
    reads_plain: bool,
}

/// Rules by prefixes of keys: the first whose prefix a key has is its own.
#[derive(Default)]
pub struct Encryption {
    rules: Vec<Rule>,
}

impl fmt::Debug for Encryption {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of secrets nothing is told.
        out.debug_list().entries(self.rules.iter().map(|rule| String::from_utf8_lossy(&rule.prefix))).finish()
    }
}

impl Encryption {
    /// `rules` are prefixes with their providers in order. Fails for secrets that do not do.
    pub fn new(rules: Vec<(String, Vec<ProviderSpec>)>) -> Result<Self, String> {
        let made = rules.into_iter().map(|(prefix, providers)| {
            let writes = providers.first().is_some_and(|(kind, _)| *kind != Kind::Identity).then_some(0);
            let reads_plain = providers.iter().any(|(kind, _)| *kind == Kind::Identity);
            let mut keys = Vec::new();
            for (kind, named) in providers {
                for (name, secret) in named {
                    keys.push(Key::new(kind, &name, &secret)?);
                }
            }
            Ok(Rule { prefix: prefix.into_bytes(), writes, keys, reads_plain })
        });
        Ok(Self { rules: made.collect::<Result<_, String>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn rule(&self, place: &[u8]) -> Option<&Rule> {
        self.rules.iter().find(|rule| place.starts_with(&rule.prefix))
    }

    /// The value as it is to be stored.
    pub fn seal<'a>(&self, place: &[u8], value: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        let key = self.rule(place).and_then(|rule| rule.keys.get(rule.writes?));
        key.map_or(Ok(Cow::Borrowed(value)), |key| key.seal(place, value).map(Cow::Owned))
    }

    /// The value that was stored. Fails for one that no key opens, or that should have been sealed.
    pub fn open<'a>(&self, place: &[u8], stored: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        let rule = self.rule(place);
        if !stored.starts_with(SEALED) {
            return match rule {
                Some(rule) if !rule.reads_plain => Err("no matching prefix found".into()),
                _ => Ok(Cow::Borrowed(stored)),
            };
        }
        let keys = rule.map_or(&[][..], |rule| &rule.keys);
        let mut why = String::from("no key of its name is known");
        for key in keys {
            let Some(sealed) = stored.strip_prefix(&key.mark[..]) else { continue };
            match key.open(place, sealed) {
                Ok(value) => return Ok(Cow::Owned(value)),
                Err(failed) => why = failed,
            }
        }
        Err(format!("unable to decrypt: {why}"))
    }

    /// Whether it is stored as it would be now.
    pub fn is_current(&self, place: &[u8], stored: &[u8]) -> bool {
        let key = self.rule(place).and_then(|rule| rule.keys.get(rule.writes?));
        key.map_or(!stored.starts_with(SEALED), |key| stored.starts_with(&key.mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &[u8] = b"/registry/core/secrets/default/a";
    const VALUE: &[u8] = b"{\"data\":{\"password\":\"c2VjcmV0\"}}";

    fn provider(kind: &str, name: &str, length: u8) -> ProviderSpec {
        let secret = (0..length).collect();
        let keys = if kind == "identity" { Vec::new() } else { vec![(name.to_owned(), secret)] };
        (Kind::named(kind).unwrap(), keys)
    }

    fn encryption(providers: &[ProviderSpec]) -> Encryption {
        Encryption::new(vec![("/registry/core/secrets/".to_owned(), providers.to_vec())]).unwrap()
    }

    #[test]
    fn what_is_sealed_cannot_be_read_and_opens_again() {
        for (kind, length) in [
            ("aesgcm", 16),
            ("aesgcm", 24),
            ("aesgcm", 32),
            ("aescbc", 16),
            ("aescbc", 24),
            ("aescbc", 32),
            ("secretbox", 32),
        ] {
            let encryption = encryption(&[provider(kind, "one", length)]);
            let sealed = encryption.seal(PLACE, VALUE).unwrap();
            assert!(sealed.starts_with(format!("k8s:enc:{kind}:v1:one:").as_bytes()));
            assert!(!sealed.windows(8).any(|part| part == b"password"), "{kind}");
            assert_ne!(sealed, encryption.seal(PLACE, VALUE).unwrap());
            assert_eq!(&*encryption.open(PLACE, &sealed).unwrap(), VALUE);
            assert!(encryption.is_current(PLACE, &sealed));
            let mut torn = sealed.to_vec();
            torn.pop();
            assert!(encryption.open(PLACE, &torn).is_err());
        }
    }

    #[test]
    fn a_value_that_was_put_elsewhere_does_not_open() {
        let encryption = encryption(&[provider("aesgcm", "one", 32)]);
        let sealed = encryption.seal(PLACE, VALUE).unwrap();
        assert!(encryption.open(b"/registry/core/secrets/default/b", &sealed).is_err());
    }

    #[test]
    fn the_first_key_seals_and_each_one_opens() {
        let old = encryption(&[provider("aesgcm", "one", 32)]);
        let sealed = old.seal(PLACE, VALUE).unwrap();
        let new = encryption(&[provider("secretbox", "two", 32), provider("aesgcm", "one", 32)]);
        assert_eq!(&*new.open(PLACE, &sealed).unwrap(), VALUE);
        assert!(!new.is_current(PLACE, &sealed));
        assert!(new.seal(PLACE, VALUE).unwrap().starts_with(b"k8s:enc:secretbox:v1:two:"));
        let gone = encryption(&[provider("secretbox", "two", 32)]);
        assert_eq!(gone.open(PLACE, &sealed).unwrap_err(), "unable to decrypt: no key of its name is known");
    }

    #[test]
    fn what_is_not_sealed_is_read_with_identity_only() {
        let strict = encryption(&[provider("aesgcm", "one", 32)]);
        assert_eq!(strict.open(PLACE, VALUE).unwrap_err(), "no matching prefix found");
        let both = encryption(&[provider("aesgcm", "one", 32), provider("identity", "", 0)]);
        assert_eq!(&*both.open(PLACE, VALUE).unwrap(), VALUE);
        assert!(!both.is_current(PLACE, VALUE));
        let back = encryption(&[provider("identity", "", 0), provider("aesgcm", "one", 32)]);
        assert_eq!(&*back.seal(PLACE, VALUE).unwrap(), VALUE);
        assert!(!back.is_current(PLACE, &both.seal(PLACE, VALUE).unwrap()));
    }

    #[test]
    fn other_keys_stay_as_they_are_and_nothing_sealed_is_taken_for_a_value() {
        let encryption = encryption(&[provider("aesgcm", "one", 32)]);
        let pod = b"/registry/core/pods/default/a";
        assert_eq!(&*encryption.seal(pod, VALUE).unwrap(), VALUE);
        assert!(encryption.is_current(pod, VALUE));
        let sealed = encryption.seal(PLACE, VALUE).unwrap();
        assert!(Encryption::default().open(PLACE, &sealed).is_err());
        assert_eq!(&*Encryption::default().open(PLACE, VALUE).unwrap(), VALUE);
    }

    #[test]
    fn secrets_have_the_length_that_their_provider_takes() {
        for (kind, length) in [("aesgcm", 31), ("aescbc", 0), ("secretbox", 16)] {
            let spec = vec![("/".to_owned(), vec![provider(kind, "one", length)])];
            assert!(Encryption::new(spec).unwrap_err().contains("does not take"));
        }
    }
}
