//! Any body of `application/vnd.kubernetes.protobuf`: refused, or JSON, which can be written as protobuf again.
#![no_main]

use kubecore_core::protobuf::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(decoded) = decode(body) {
        serde_json::from_slice::<serde_json::Value>(&decoded.json).expect("JSON");
        let _ = encode(&decoded.json);
    }
});
