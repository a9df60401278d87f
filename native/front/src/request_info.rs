//! What a request asks for, read from method, path and query as Kubernetes reads it.
//!
//! Source: apiserver `pkg/endpoints/request/requestinfo.go`. The path is split after percent-decoding, as Go does.

mod recalled;

use std::borrow::Cow;
use std::sync::OnceLock;

use http::Method;
use kubecore_core::selector::FieldSelector;
use percent_encoding::percent_decode_str;

use crate::metrics::Counted;
use crate::query::Query;

/// A part of the path, by byte offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

/// The attributes of a request. Empty strings stand for what the path does not name.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    path: String,
    verb: Cow<'static, str>,
    is_resource: bool,
    group: Span,
    version: Span,
    namespace: Span,
    resource: Span,
    name: Span,
    subresource: Span,
    rest: Span,
    selected: Option<Box<str>>,
    /// As `key` tells it, once somebody has asked.
    key: OnceLock<Box<str>>,
    /// Of what only reads, once one has been counted.
    counted: OnceLock<Counted>,
}

/// A path that cannot be decoded into UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub struct BadPath;

impl RequestInfo {
    pub fn parse(method: &Method, raw_path: &str, query: &str) -> Result<Self, BadPath> {
        let path = decode(raw_path)?;
        let mut info = Self {
            verb: Cow::Borrowed(""),
            is_resource: false,
            group: Span::default(),
            version: Span::default(),
            namespace: Span::default(),
            resource: Span::default(),
            name: Span::default(),
            subresource: Span::default(),
            rest: Span::default(),
            selected: None,
            key: OnceLock::new(),
            counted: OnceLock::new(),
            path,
        };
        if !info.read_resource(method, query) {
            info.verb = lower_case(method);
        }
        Ok(info)
    }

    /// Fills in the resource attributes; false when the path names no resource.
    fn read_resource(&mut self, method: &Method, query: &str) -> bool {
        let mut parts = Parts::of(&self.path);
        let groupless = match parts.next_str(&self.path) {
            Some("api") => true,
            Some("apis") => false,
            _ => return false,
        };
        if parts.remaining() < if groupless { 2 } else { 3 } {
            return false;
        }
        if !groupless {
            self.group = parts.next().unwrap_or_default();
        }
        self.version = parts.next().unwrap_or_default();
        let Some(mut first) = parts.next() else { return false };
        self.is_resource = true;
        self.verb = Cow::Borrowed(verb_of(method));
        if let special @ ("watch" | "proxy") = slice(&self.path, first)
            && parts.remaining() > 0
        {
            self.verb = Cow::Borrowed(if special == "watch" { "watch" } else { "proxy" });
            first = parts.next().unwrap_or_default();
        }
        if slice(&self.path, first) == "namespaces"
            && let Some(namespace) = parts.peek(0)
        {
            self.namespace = namespace;
            let below = parts.peek(1).map(|span| slice(&self.path, span));
            if below.is_some_and(|part| part != "status" && part != "finalize") {
                parts.next();
                first = parts.next().unwrap_or_default();
            }
        }
        self.resource = first;
        self.name = parts.next().unwrap_or_default();
        if self.verb != "proxy" {
            self.subresource = parts.next().unwrap_or_default();
        }
        self.rest = parts.rest();
        self.refine_verb(query);
        true
    }

    /// A nameless get is a list or a watch, a nameless delete means the collection.
    fn refine_verb(&mut self, query: &str) {
        if !self.name().is_empty() {
            return;
        }
        match &*self.verb {
            "get" => {
                self.verb = Cow::Borrowed(if asks_watch(query) { "watch" } else { "list" });
                self.selected = selected_name(query);
            }
            "delete" => self.verb = Cow::Borrowed("deletecollection"),
            _ => {}
        }
    }

    /// The decoded path.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// The name of what is asked for: that of the path, or the one that a list or watch selects.
    pub fn named(&self) -> &str {
        self.selected.as_deref().unwrap_or_else(|| self.name())
    }
    /// `get`, `list`, `watch`, `create`, ... or the method in lower case.
    pub fn verb(&self) -> &str {
        &self.verb
    }
    pub fn is_resource(&self) -> bool {
        self.is_resource
    }
    pub fn group(&self) -> &str {
        slice(&self.path, self.group)
    }
    pub fn version(&self) -> &str {
        slice(&self.path, self.version)
    }
    pub fn namespace(&self) -> &str {
        slice(&self.path, self.namespace)
    }
    pub fn resource(&self) -> &str {
        slice(&self.path, self.resource)
    }
    pub fn name(&self) -> &str {
        slice(&self.path, self.name)
    }
    /// What a namespaced object is kept by: `namespace/name`.
    pub fn key(&self) -> &str {
        let joined = || [self.namespace(), "/", self.name()].concat().into();
        self.key.get_or_init(joined)
    }
    /// As what metrics count such a request, which only reads.
    pub(crate) fn counted(&self, as_what: impl FnOnce() -> Counted) -> Counted {
        *self.counted.get_or_init(as_what)
    }
    pub fn subresource(&self) -> &str {
        slice(&self.path, self.subresource)
    }
    /// What follows the subresource, as in proxy paths.
    pub fn rest(&self) -> &str {
        slice(&self.path, self.rest)
    }
    /// Nothing can be at such a path; Python says why.
    pub fn is_odd(&self) -> bool {
        let (namespace, name) = (self.namespace(), self.name());
        matches!(namespace, "." | "..")
            || matches!(name, "." | "..")
            || name.contains('%')
            || self.path.starts_with("//")
    }
    /// The legacy `/watch/` prefix was used.
    pub fn is_legacy_watch(&self) -> bool {
        self.path.get(self.version.end as usize..).is_some_and(|rest| rest.starts_with("/watch/"))
    }
}

fn slice(path: &str, span: Span) -> &str {
    path.get(span.start as usize..span.end as usize).unwrap_or("")
}

fn decode(raw: &str) -> Result<String, BadPath> {
    if !raw.contains('%') {
        return Ok(raw.to_owned());
    }
    let escapes_hold = raw.split('%').skip(1).all(|after| {
        let bytes = after.as_bytes();
        bytes.len() >= 2 && bytes[0].is_ascii_hexdigit() && bytes[1].is_ascii_hexdigit()
    });
    if !escapes_hold {
        return Err(BadPath);
    }
    percent_decode_str(raw).decode_utf8().map(Cow::into_owned).map_err(|_| BadPath)
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn lower_case(method: &Method) -> Cow<'static, str> {
    match *method {
        Method::GET => Cow::Borrowed("get"),
        Method::HEAD => Cow::Borrowed("head"),
        Method::POST => Cow::Borrowed("post"),
        Method::PUT => Cow::Borrowed("put"),
        Method::PATCH => Cow::Borrowed("patch"),
        Method::DELETE => Cow::Borrowed("delete"),
        Method::OPTIONS => Cow::Borrowed("options"),
        _ => Cow::Owned(method.as_str().to_ascii_lowercase()),
    }
}

/// Any value but `0` and `false` means true, an empty one too.
pub fn is_true(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

fn asks_watch(query: &str) -> bool {
    Query::new(query).first("watch").is_some_and(|value| is_true(&value))
}

/// The one object that a field selector asks for by name.
fn selected_name(query: &str) -> Option<Box<str>> {
    if !query.contains("metadata.name") {
        return None;
    }
    let selector = FieldSelector::parse(&Query::new(query).first("fieldSelector")?).ok()?;
    let term =
        selector.requirements().iter().find(|term| &*term.field == "metadata.name" && !term.negated)?;
    let name = &*term.value;
    let is_segment = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%']);
    is_segment.then(|| name.into())
}

/// The path's parts between slashes, outer slashes trimmed.
struct Parts {
    spans: [Span; 10],
    next: usize,
    count: usize,
    end: u32,
}

impl Parts {
    fn of(path: &str) -> Self {
        let trimmed_start = path.len() - path.trim_start_matches('/').len();
        let trimmed = path.trim_matches('/');
        let mut parts = Self {
            spans: [Span::default(); 10],
            next: 0,
            count: 0,
            end: (trimmed_start + trimmed.len()) as u32,
        };
        if trimmed.is_empty() {
            return parts;
        }
        let mut start = trimmed_start;
        for piece in trimmed.split('/').take(parts.spans.len()) {
            parts.spans[parts.count] = Span { start: start as u32, end: (start + piece.len()) as u32 };
            parts.count += 1;
            start += piece.len() + 1;
        }
        parts
    }

    fn next(&mut self) -> Option<Span> {
        let span = self.peek(0)?;
        self.next += 1;
        Some(span)
    }

    fn next_str<'p>(&mut self, path: &'p str) -> Option<&'p str> {
        self.next().map(|span| slice(path, span))
    }

    fn peek(&self, ahead: usize) -> Option<Span> {
        let at = self.next + ahead;
        (at < self.count).then(|| self.spans[at])
    }

    fn remaining(&self) -> usize {
        self.count - self.next
    }

    fn rest(&self) -> Span {
        self.peek(0).map(|span| Span { start: span.start, end: self.end }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> RequestInfo {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        RequestInfo::parse(&Method::GET, path, query).unwrap()
    }

    /// (verb, group, version, namespace, resource, name, subresource)
    fn attributes(info: &RequestInfo) -> [&str; 7] {
        [
            info.verb(),
            info.group(),
            info.version(),
            info.namespace(),
            info.resource(),
            info.name(),
            info.subresource(),
        ]
    }

    #[test]
    fn resource_paths_are_taken_apart_as_kubernetes_does() {
        let table = [
            ("/api/v1/pods", ["list", "", "v1", "", "pods", "", ""]),
            ("/api/v1/pods/", ["list", "", "v1", "", "pods", "", ""]),
            ("/api/v1/namespaces", ["list", "", "v1", "", "namespaces", "", ""]),
            ("/api/v1/namespaces/a", ["get", "", "v1", "a", "namespaces", "a", ""]),
            ("/api/v1/namespaces/a/status", ["get", "", "v1", "a", "namespaces", "a", "status"]),
            ("/api/v1/namespaces/a/finalize", ["get", "", "v1", "a", "namespaces", "a", "finalize"]),
            ("/api/v1/namespaces/a/pods", ["list", "", "v1", "a", "pods", "", ""]),
            ("/api/v1/namespaces/a/pods/p", ["get", "", "v1", "a", "pods", "p", ""]),
            ("/api/v1/namespaces/a/pods/p/log", ["get", "", "v1", "a", "pods", "p", "log"]),
            ("/apis/apps/v1/deployments", ["list", "apps", "v1", "", "deployments", "", ""]),
            (
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                ["get", "apps", "v1", "a", "deployments", "d", "scale"],
            ),
            ("/api/v1/nodes/n", ["get", "", "v1", "", "nodes", "n", ""]),
            ("/api/v1/pods?watch=true", ["watch", "", "v1", "", "pods", "", ""]),
            ("/api/v1/pods?watch=", ["watch", "", "v1", "", "pods", "", ""]),
            ("/api/v1/pods?watch=0", ["list", "", "v1", "", "pods", "", ""]),
            ("/api/v1/pods?watch=False", ["list", "", "v1", "", "pods", "", ""]),
            ("/api/v1/watch/pods", ["watch", "", "v1", "", "pods", "", ""]),
            ("/api/v1/watch/namespaces/a/pods", ["watch", "", "v1", "a", "pods", "", ""]),
            ("/api/v1/proxy/nodes/n/x", ["proxy", "", "v1", "", "nodes", "n", ""]),
        ];
        for (path, expected) in table {
            let info = get(path);
            assert!(info.is_resource(), "{path}");
            assert_eq!(attributes(&info), expected, "{path}");
        }
    }

    #[test]
    fn short_paths_are_no_resources() {
        for path in
            ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/version", "//", ""]
        {
            let info = get(path);
            assert!(!info.is_resource(), "{path}");
            assert_eq!(info.verb(), "get");
            assert_eq!(info.path(), path);
        }
    }

    #[test]
    fn methods_become_verbs() {
        let verb =
            |method: Method, path: &str| RequestInfo::parse(&method, path, "").unwrap().verb().to_owned();
        assert_eq!(verb(Method::POST, "/api/v1/namespaces/a/pods"), "create");
        assert_eq!(verb(Method::PUT, "/api/v1/namespaces/a/pods/p"), "update");
        assert_eq!(verb(Method::PATCH, "/api/v1/namespaces/a/pods/p"), "patch");
        assert_eq!(verb(Method::DELETE, "/api/v1/namespaces/a/pods/p"), "delete");
        assert_eq!(verb(Method::DELETE, "/api/v1/namespaces/a/pods"), "deletecollection");
        assert_eq!(verb(Method::HEAD, "/api/v1/namespaces/a/pods"), "list");
        assert_eq!(verb(Method::POST, "/foo"), "post");
        assert_eq!(verb(Method::from_bytes(b"PURGE").unwrap(), "/foo"), "purge");
    }

    #[test]
    fn a_proxy_path_keeps_its_rest() {
        assert_eq!(get("/api/v1/namespaces/a/services/s:80/proxy/x/y").rest(), "x/y");
        assert_eq!(get("/api/v1/namespaces/a/pods/p/proxy/a/b/c/d/e/f/g/h/i").rest(), "a/b/c/d/e/f/g/h/i");
        assert_eq!(get("/api/v1/namespaces/a/pods/p").rest(), "");
    }

    #[test]
    fn percent_escapes_are_decoded_before_splitting() {
        assert_eq!(get("/api/v1/namespaces/a/pods/p%2Fstatus").subresource(), "status");
        assert_eq!(
            get("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode").name(),
            "system:node"
        );
    }

    #[test]
    fn broken_escapes_and_invalid_utf8_are_refused() {
        for path in ["/api/%zz", "/api/%", "/api/%4", "/api/%ff%fe"] {
            assert_eq!(RequestInfo::parse(&Method::GET, path, "").unwrap_err(), BadPath, "{path}");
        }
    }

    #[test]
    fn a_list_of_one_object_is_asked_for_by_its_name() {
        assert_eq!(get("/api/v1/secrets?fieldSelector=metadata.name%3Da,type!=b").named(), "a");
        assert_eq!(get("/api/v1/secrets?watch=1&fieldSelector=metadata.name==a").named(), "a");
        for odd in [
            "metadata.name!=a",
            "metadata.name=a%2fb",
            "metadata.name=..",
            "metadata.name=",
            "metadata.names=a",
        ] {
            assert_eq!(get(&format!("/api/v1/secrets?fieldSelector={odd}")).named(), "", "{odd}");
        }
        assert_eq!(get("/api/v1/namespaces/n/secrets/b?fieldSelector=metadata.name%3Da").named(), "b");
    }

    #[test]
    fn paths_at_which_nothing_can_be_are_told_from_those_of_what_is_not_there() {
        for odd in ["pods/.", "pods/%2e%2e", "pods/a%25b", "pods/./log"] {
            assert!(get(&format!("/api/v1/namespaces/a/{odd}")).is_odd(), "{odd}");
        }
        assert!(get("/api/v1/namespaces/./pods").is_odd());
        assert!(get("/api/v1/namespaces/..").is_odd());
        assert!(get("//api/v1/pods").is_odd());
        for plain in ["/api/v1/namespaces/a/pods/a.b", "/api/v1/namespaces/a%25/pods", "/api/v1/pods//"] {
            assert!(!get(plain).is_odd(), "{plain}");
        }
    }

    #[test]
    fn the_legacy_watch_prefix_is_seen() {
        assert!(get("/api/v1/watch/pods").is_legacy_watch());
        assert!(get("/apis/apps/v1/watch/deployments").is_legacy_watch());
        assert!(!get("/api/v1/pods?watch=1").is_legacy_watch());
    }
}
