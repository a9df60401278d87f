//! Any bearer token: nothing but a signature by the key makes its claims known.
#![no_main]

use std::sync::LazyLock;

use kubecore_front::authn::{PublicKey, claims};
use libfuzzer_sys::fuzz_target;

/// Nobody has the private key: it was thrown away.
const KEY: &[u8] = include_bytes!("../seeds/public.pem");
static ISSUERS: LazyLock<Vec<String>> = LazyLock::new(|| vec!["https://kubernetes.default.svc".to_owned()]);
static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| vec![PublicKey::from_pem(KEY).expect("a key")]);

fuzz_target!(|token: &str| {
    assert!(claims::<serde_json::Value>(token, &ISSUERS, &KEYS).is_err());
});
