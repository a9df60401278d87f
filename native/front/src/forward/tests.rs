use std::sync::Arc;
use std::time::Instant;

use http::Method;

use super::*;
use crate::connection::Connection;
use crate::request_info::RequestInfo;

fn exchange(headers: &[(&'static str, &'static str)]) -> Exchange {
    let path = "/api/v1/namespaces/n/pods/p/proxy/";
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    Exchange {
        method: Method::GET,
        headers: headers.into(),
        query: String::new(),
        info: RequestInfo::parse(&Method::GET, path, "").unwrap().into(),
        connection: Connection::new(([127, 0, 0, 1], 1).into(), true, None, false, Arc::default()),
        delegated: false,
        started: Instant::now(),
        audit: None,
        audit_id: None,
        seat: None,
        late_seat: std::sync::OnceLock::new(),
        lasting: parking_lot::Mutex::default(),
        sampled: std::sync::OnceLock::new(),
        apart: crate::exchange::Apart::default(),
    }
}

fn forward(prefix: Option<&str>) -> Forward {
    Forward {
        peer: Peer { host: "10.1.2.3".into(), port: 8080, tls: None, server_name: None },
        user: None,
        patience: None,
        target: "/page?x=1".into(),
        prefix: prefix.map(str::to_owned),
        rejects_redirects: false,
    }
}

#[test]
fn a_backend_sees_neither_credentials_nor_what_concerns_the_connection() {
    let exchange = exchange(&[
        ("authorization", "Bearer secret"),
        ("impersonate-user", "eve"),
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "for this connection"),
        ("x-mine", "kept"),
        ("host", "api:6443"),
        ("x-forwarded-for", "10.9.9.9"),
    ]);
    let headers = request_headers(&exchange, &forward(Some("/prefix")), false);
    let shown: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(
        shown,
        [
            ("x-mine", "kept"),
            ("host", "api:6443"),
            ("x-forwarded-for", "10.9.9.9, 127.0.0.1"),
            ("x-forwarded-uri", "/prefix/page"),
            ("x-forwarded-host", "api:6443"),
            ("x-forwarded-proto", "https"),
        ]
    );
}

#[test]
fn a_switch_of_protocols_is_asked_for_as_the_client_did() {
    let exchange = exchange(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]);
    let headers = request_headers(&exchange, &forward(None), true);
    assert_eq!(headers.get("connection").unwrap(), "Upgrade");
    assert_eq!(headers.get("upgrade").unwrap(), "SPDY/3.1");
    assert_eq!(headers.get("host").unwrap(), "10.1.2.3:8080");
}

#[test]
fn a_backend_is_known_by_where_it_is_and_we_by_how_we_are_asked() {
    let exchange = exchange(&[("host", "api:6443")]);
    let links = links("/prefix", &forward(Some("/prefix")), &exchange);
    let seen = |told: &str| links.seen(told);
    assert_eq!(seen("/login").as_deref(), Some("/prefix/login"));
    assert_eq!(seen("http://10.1.2.3:8080/login?a=b").as_deref(), Some("/prefix/login?a=b"));
    assert_eq!(seen("https://api:6443/login").as_deref(), Some("https://api:6443/prefix/login"));
}

#[test]
fn a_backend_hears_of_no_user_that_the_client_names_and_an_extension_of_no_host_but_its_own() {
    let exchange = exchange(&[
        ("x-remote-user", "root"),
        ("x-remote-uid", "0"),
        ("x-remote-group", "system:masters"),
        ("x-remote-extra-scopes", "all"),
        ("x-remotely", "kept"),
        ("host", "api:6443"),
    ]);
    let told = |forward: &Forward, switching| {
        let headers = request_headers(&exchange, forward, switching);
        let shown = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        shown.collect::<Vec<_>>()
    };
    let user = Some(Arc::new(UserInfo::new("jane", &[])));
    assert_eq!(
        told(&Forward { user, ..forward(None) }, false),
        ["x-remotely: kept", "x-forwarded-for: 127.0.0.1", "host: 10.1.2.3:8080"]
    );
    for switching in [false, true] {
        assert_eq!(
            told(&forward(None), switching),
            ["x-remotely: kept", "host: api:6443", "x-forwarded-for: 127.0.0.1"]
        );
    }
}

#[test]
fn an_extension_is_told_its_own_address_as_that_which_was_asked_for() {
    let exchange = exchange(&[("host", "api:6443"), ("te", "gzip, Trailers")]);
    let user = Some(Arc::new(UserInfo::new("jane", &[])));
    let headers = request_headers(&exchange, &Forward { user, ..forward(Some("")) }, false);
    let told = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(told("x-forwarded-host"), Some("10.1.2.3:8080"));
    assert_eq!(told("x-forwarded-proto"), Some("https"));
    assert_eq!(told("x-forwarded-uri"), Some("/page"));
    assert_eq!(told("te"), Some("trailers"));
}

#[test]
fn a_protocol_is_switched_for_who_says_so_of_the_connection() {
    let asks = |headers: &[(&'static str, &'static str)]| exchange(headers).asks_to_switch();
    assert!(asks(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
    assert!(!asks(&[("upgrade", "h2c")]));
}
