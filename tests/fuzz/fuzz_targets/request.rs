//! Any method, path, query and Accept header, a line each: read, or refused, and what is read is a part of the path.
#![no_main]

use http::Method;
use kubecore_front::accept::{negotiate, wants_protobuf_status};
use kubecore_front::request_info::RequestInfo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|given: &str| {
    let mut lines = given.splitn(4, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let Ok(method) = Method::from_bytes(next().as_bytes()) else { return };
    let (path, query, accept) = (next(), next(), next());
    if let Ok(info) = RequestInfo::parse(&method, path, query) {
        for part in [info.group(), info.version(), info.namespace(), info.resource(), info.name()] {
            assert!(info.path().contains(part));
            assert!(!part.contains('/'), "one element of the path");
        }
        if !info.is_resource() {
            assert!(info.resource().is_empty() && info.namespace().is_empty());
        }
    }
    negotiate(Some(accept), true);
    wants_protobuf_status(Some(accept));
});
