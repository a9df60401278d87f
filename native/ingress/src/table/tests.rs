use proptest::prelude::*;

use super::*;

fn host(routes: &[(PathKind, &str)]) -> HostRoutes<String> {
    let one = |(kind, path): &(PathKind, &str)| PathRoute {
        kind: *kind,
        path: (*path).to_owned(),
        target: format!("{kind:?} {path}"),
    };
    HostRoutes::new(routes.iter().map(one), None)
}

fn found(routes: &[(PathKind, &str)], path: &str) -> String {
    host(routes).find(path).cloned().unwrap_or_default()
}

use PathKind::{Exact, Prefix};

#[test]
fn paths_match_as_the_examples_of_kubernetes_documentation_say() {
    for (kind, route, path, matches) in [
        (Prefix, "/", "/any/path", true),
        (Exact, "/foo", "/foo", true),
        (Exact, "/foo", "/bar", false),
        (Exact, "/foo", "/foo/", false),
        (Exact, "/foo/", "/foo", false),
        (Prefix, "/foo", "/foo", true),
        (Prefix, "/foo", "/foo/", true),
        (Prefix, "/foo/", "/foo", true),
        (Prefix, "/foo/", "/foo/", true),
        (Prefix, "/aaa/bb", "/aaa/bbb", false),
        (Prefix, "/aaa/bbb", "/aaa/bbb", true),
        (Prefix, "/aaa/bbb/", "/aaa/bbb", true),
        (Prefix, "/aaa/bbb", "/aaa/bbb/", true),
        (Prefix, "/aaa/bbb", "/aaa/bbb/ccc", true),
        (Prefix, "/aaa/bbb", "/aaa/bbbxyz", false),
    ] {
        assert_eq!(!found(&[(kind, route)], path).is_empty(), matches, "{kind:?} {route} {path}");
    }
}

#[test]
fn the_longest_path_wins_and_exact_comes_before_prefix() {
    let routes = [
        (Prefix, "/"),
        (Prefix, "/aaa"),
        (Prefix, "/aaa/bbb"),
        (Exact, "/aaa"),
        (Prefix, "/foo/"),
        (Exact, "/foo"),
    ];
    for (path, expected) in [
        ("/", "Prefix /"),
        ("/ccc", "Prefix /"),
        ("/aaa", "Exact /aaa"),
        ("/aaa/", "Prefix /aaa"),
        ("/aaa/ccc", "Prefix /aaa"),
        ("/aaa/bbb/ccc", "Prefix /aaa/bbb"),
        ("/aaa/bbbb", "Prefix /aaa"),
        ("/foo", "Exact /foo"),
        ("/foo/bar", "Prefix /foo/"),
    ] {
        assert_eq!(found(&routes, path), expected, "{path}");
    }
}

#[test]
fn the_first_of_two_equal_routes_counts() {
    let one = |target| PathRoute { kind: Prefix, path: "/a".to_owned(), target };
    let routes = HostRoutes::new([one(1), one(2)], None);
    assert_eq!(routes.find("/a/b"), Some(&1));
}

fn table() -> RouteTable<&'static str> {
    let mut table = RouteTable::default();
    for (host, target) in [("foo.com", "foo"), ("*.foo.com", "wildcard"), ("bar.foo.com", "bar")] {
        let route = PathRoute { kind: Prefix, path: "/p".to_owned(), target };
        table.set_host(host, Some(HostRoutes::new([route], None)));
    }
    table
}

#[test]
fn an_exact_host_comes_before_a_wildcard_which_stands_for_one_label() {
    let table = table();
    for (host, expected) in [
        ("foo.com", Some("foo")),
        ("bar.foo.com", Some("bar")),
        ("baz.foo.com", Some("wildcard")),
        ("baz.bar.foo.com", None),
        (".foo.com", None),
        ("com", None),
        ("", None),
    ] {
        assert_eq!(table.find(host, "/p").copied(), expected, "{host}");
    }
}

#[test]
fn what_no_host_or_path_is_for_goes_to_the_default_backends() {
    let mut table = table();
    assert_eq!(table.find("foo.com", "/other"), None);
    table.set_fallback(Some("fallback"));
    assert_eq!(table.find("foo.com", "/other"), Some(&"fallback"));
    assert_eq!(table.find("unknown", "/p"), Some(&"fallback"));
    table.set_host("foo.com", Some(HostRoutes::new([], Some("of the host"))));
    assert_eq!(table.find("foo.com", "/other"), Some(&"of the host"));
    table.set_host("", Some(HostRoutes::new([], Some("of any host"))));
    assert_eq!(table.find("unknown", "/p"), Some(&"of any host"));
    table.set_host("", None);
    assert_eq!(table.find("unknown", "/p"), Some(&"fallback"));
}

#[test]
fn a_host_is_compared_without_port_case_and_the_dot_of_the_root() {
    for (authority, expected) in [
        ("foo.com", "foo.com"),
        ("Foo.COM:8080", "foo.com"),
        ("foo.com.", "foo.com"),
        ("foo.com.:80", "foo.com"),
        ("[::1]", "[::1]"),
        ("[::1]:80", "[::1]"),
        ("", ""),
    ] {
        assert_eq!(host_name(authority), expected, "{authority}");
    }
}

/// What the specification says, word for word: elements compared one by one, the longest match, Exact first.
fn by_the_book(routes: &[(PathKind, String)], path: &str) -> Option<(PathKind, String)> {
    fn elements(path: &str) -> Vec<&str> {
        path.trim_end_matches('/').split('/').collect()
    }
    let matches = |(kind, route): &&(PathKind, String)| match kind {
        Exact => route == path,
        Prefix => elements(path).starts_with(&elements(route)),
    };
    let length = |(kind, route): &(PathKind, String)| match kind {
        Exact => (route.trim_end_matches('/').len(), 1),
        Prefix => (route.trim_end_matches('/').len(), 0),
    };
    let mut best: Option<&(PathKind, String)> = None;
    for route in routes.iter().filter(matches) {
        if best.is_none_or(|held| length(route) > length(held)) {
            best = Some(route);
        }
    }
    best.cloned()
}

fn paths() -> impl Strategy<Value = String> {
    ("(/(a|b|ab|c)){0,4}", prop::bool::ANY).prop_map(|(path, slash)| match (path.is_empty(), slash) {
        (true, _) => "/".to_owned(),
        (false, true) => format!("{path}/"),
        (false, false) => path,
    })
}

proptest! {
    #[test]
    fn the_table_finds_what_the_specification_says(
        routes in prop::collection::vec((prop_oneof![Just(Exact), Just(Prefix)], paths()), 0..12),
        path in paths(),
    ) {
        let table = HostRoutes::new(
            routes.iter().map(|(kind, path)| PathRoute { kind: *kind, path: path.clone(), target: (*kind, path.clone()) }),
            None,
        );
        // Prefixes that differ in their last slash only are one; the first stands for both.
        let same = |(kind, path): (PathKind, String)| match kind {
            Exact => (kind, path),
            Prefix => (kind, path.trim_end_matches('/').to_owned()),
        };
        prop_assert_eq!(table.find(&path).cloned().map(same), by_the_book(&routes, &path).map(same));
    }

    #[test]
    fn any_path_whatever_finds_its_way(path in "/[ -~]{0,40}") {
        let table = HostRoutes::new([PathRoute { kind: Prefix, path: "/".to_owned(), target: () }], None);
        prop_assert!(table.find(&path::normal(&path)).is_some());
    }
}
