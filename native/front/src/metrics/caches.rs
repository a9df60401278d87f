//! What lists have read from the watch cache, and what has come into it, by resource.

use std::fmt::Write;

use kubecore_core::watch_cache::ResourceCache;

use super::labels::escape;

type Series = (&'static str, &'static str, &'static str, fn(&ResourceCache) -> u64);

/// Which index has helped is nobody's business but ours: upstream's are others.
const LISTS: [Series; 3] = [
    ("apiserver_cache_list_total", "counter", "Number of LIST requests served from watch cache", |cache| {
        cache.reads.lists()
    }),
    (
        "apiserver_cache_list_fetched_objects_total",
        "counter",
        "Number of objects read from watch cache in the course of serving a LIST request",
        |cache| cache.reads.fetched(),
    ),
    (
        "apiserver_cache_list_returned_objects_total",
        "counter",
        "Number of objects returned for a LIST request from watch cache",
        |cache| cache.reads.returned(),
    ),
];
const CHANGES: [Series; 5] = [
    (
        "apiserver_storage_events_received_total",
        "counter",
        "Number of etcd events received split by kind.",
        |cache| cache.events(),
    ),
    (
        "apiserver_watch_cache_events_received_total",
        "counter",
        "Counter of events received in watch cache broken by resource type.",
        |cache| cache.events(),
    ),
    (
        "apiserver_watch_cache_events_dispatched_total",
        "counter",
        "Counter of events dispatched in watch cache broken by resource type.",
        |cache| cache.events(),
    ),
    (
        "apiserver_watch_cache_resource_version",
        "gauge",
        "Current resource version of watch cache broken by resource type.",
        |cache| cache.reached(),
    ),
    (
        "apiserver_resource_size_estimate_bytes",
        "gauge",
        "Estimated size of stored objects in database. Estimate is based on sum of last observed sizes of serialized objects. In case of a fetching error, the value will be -1.",
        bytes_of,
    ),
];

fn bytes_of(cache: &ResourceCache) -> u64 {
    cache.snapshot().iter().map(|object| object.json().len() as u64).sum()
}

/// Prometheus text. Lists are told of resources that were listed, as far as they go.
pub(crate) fn render_caches<'a>(caches: &[(&'a str, &'a str, &'a ResourceCache)]) -> String {
    let mut out = String::new();
    for (all, index, needs) in [(&LISTS[..], "index=\"\",", true), (&CHANGES[..], "", false)] {
        for (name, kind, help, of) in all {
            let _ = writeln!(out, "# HELP {name} [ALPHA] {help}\n# TYPE {name} {kind}");
            for (group, plural, cache) in caches {
                if needs && cache.reads.lists() == 0 {
                    continue;
                }
                let (group, plural) = (escape(group), escape(plural));
                let _ =
                    writeln!(out, "{name}{{group=\"{group}\",{index}resource=\"{plural}\"}} {}", of(cache));
            }
        }
    }
    out
}
