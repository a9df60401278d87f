//! Any datagram: an answer is one to the query, and never longer than a resolver takes.
#![no_main]

use std::sync::LazyLock;

use kubecore_dataplane::dns::{RecordSpec, Table};
use libfuzzer_sys::fuzz_target;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::new("cluster.local").expect("a domain");
    let record = |name: &str, kind: &str, value: &str| RecordSpec {
        name: format!("{name}cluster.local"),
        kind: kind.into(),
        ttl: 30,
        value: value.into(),
    };
    let mut records = vec![
        record("web.a.svc.", "A", "10.96.0.7"),
        record("_http._tcp.web.a.svc.", "SRV", "0 100 80 web.a.svc.cluster.local."),
        record("near.a.svc.", "CNAME", "web.a.svc.cluster.local."),
        record("loop.a.svc.", "CNAME", "loop.a.svc.cluster.local."),
        record("a.pod.", "PODS", ""),
    ];
    records.extend((0..200).map(|host| record("many.a.svc.", "A", &format!("10.244.0.{host}"))));
    table.set("all", &records).expect("records");
    table
});

fuzz_target!(|query: &[u8]| {
    for (udp, longest) in [(true, 4096), (false, 65_535)] {
        if let Some(reply) = TABLE.answer(query, udp) {
            assert_eq!(reply[..2], query[..2], "the number of the query");
            assert!(reply[2] & 0x80 != 0, "a response");
            assert!(reply.len() <= longest);
        }
    }
});
