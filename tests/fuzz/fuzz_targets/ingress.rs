//! Any Host header and path, a line each: whatever the spelling, nothing gets to a route that is not its own.
#![no_main]

use std::sync::LazyLock;

use kubecore_ingress::table::{HostRoutes, PathKind, PathRoute, RouteTable, host_name};
use libfuzzer_sys::fuzz_target;

static TABLE: LazyLock<RouteTable<&'static str>> = LazyLock::new(|| {
    let route = |kind, path: &str, target| PathRoute { kind, path: path.into(), target };
    let mut table = RouteTable::default();
    let routes = [route(PathKind::Prefix, "/public", "public"), route(PathKind::Exact, "/one", "one")];
    table.set_host("a.example", Some(HostRoutes::new(routes, None)));
    table.set_host("*.example", Some(HostRoutes::new([route(PathKind::Prefix, "/", "wildcard")], None)));
    table
});

/// As a server sees it that decodes everything.
fn understood(path: &str) -> Vec<String> {
    let mut elements: Vec<String> = Vec::new();
    for element in path.split('/').skip(1) {
        match element.to_ascii_lowercase().replace("%2e", ".").as_str() {
            ".." => drop(elements.pop()),
            "." => {}
            _ => elements.push(element.into()),
        }
    }
    elements
}

fuzz_target!(|given: &str| {
    let (host, path) = given.split_once('\n').unwrap_or((given, "/"));
    let host = host_name(host);
    let path = format!("/{path}");
    let escapes = path.matches('%').count();
    match TABLE.find(&host, &path) {
        // other letters than dots may be spelled by their number, too
        Some(&"public") if escapes == 0 => {
            assert_eq!(host, "a.example");
            assert_eq!(understood(&path).first().map(String::as_str), Some("public"), "{path}");
        }
        Some(&"public" | &"one") => assert_eq!(host, "a.example"),
        Some(_) => {
            assert!(host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == "example"))
        }
        None => {}
    }
});
