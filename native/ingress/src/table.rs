//! Which route a request takes: by host, then by path. Pure; `T` is whatever a route leads to.
//!
//! Hosts: the exact name, else the wildcard of its first label, else rules without a host. Within the host the longest
//! path that matches, Exact before Prefix where both are equally long. Rules of networking/v1 Ingress.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathKind {
    Exact,
    /// Element by element: `/foo` is a prefix of `/foo/bar`, not of `/foobar`.
    Prefix,
}

/// One path of a host and where it leads.
#[derive(Clone, Debug)]
pub struct PathRoute<T> {
    pub kind: PathKind,
    pub path: String,
    pub target: T,
}

/// The routes of one host. The first of two with the same kind and path counts.
#[derive(Clone, Debug)]
pub struct HostRoutes<T> {
    exact: FxHashMap<Box<str>, T>,
    /// Without slashes at their ends; "" is the prefix of all.
    prefixes: FxHashMap<Box<str>, T>,
    longest_prefix: usize,
    default: Option<T>,
}

impl<T> HostRoutes<T> {
    /// `default`: where requests go whose path is none of the routes'.
    pub fn new(routes: impl IntoIterator<Item = PathRoute<T>>, default: Option<T>) -> Self {
        let mut made =
            Self { exact: FxHashMap::default(), prefixes: FxHashMap::default(), longest_prefix: 0, default };
        for route in routes {
            match route.kind {
                PathKind::Exact => {
                    made.exact.entry(path::normal(&route.path).into()).or_insert(route.target);
                }
                PathKind::Prefix => {
                    let path = path::normal(&route.path);
                    let path = path.trim_end_matches('/');
                    made.longest_prefix = made.longest_prefix.max(path.len());
                    made.prefixes.entry(path.into()).or_insert(route.target);
                }
            }
        }
        made
    }

    /// `path` in normal form (see [`path::normal`]).
    fn find(&self, path: &str) -> Option<&T> {
        // An Exact one that matches is as long as the path itself.
        self.exact.get(path).or_else(|| self.longest_match(path)).or(self.default.as_ref())
    }

    fn longest_match(&self, path: &str) -> Option<&T> {
        if self.prefixes.is_empty() {
            return None;
        }
        if path.len() <= self.longest_prefix
            && let Some(found) = self.prefixes.get(path)
        {
            return Some(found);
        }
        // Elements end where a slash follows. Those beyond the longest prefix need not be looked up.
        let mut end = path.len().min(self.longest_prefix + 1);
        while let Some(slash) = memchr::memrchr(b'/', &path.as_bytes()[..end]) {
            if let Some(found) = self.prefixes.get(&path[..slash]) {
                return Some(found);
            }
            end = slash;
        }
        // "*" of OPTIONS has no elements.
        self.prefixes.get("")
    }
}

/// All hosts. Cheap to clone: hosts are shared.
#[derive(Clone, Debug)]
pub struct RouteTable<T> {
    exact: FxHashMap<Box<str>, Arc<HostRoutes<T>>>,
    /// By what follows the `*.`.
    wildcards: FxHashMap<Box<str>, Arc<HostRoutes<T>>>,
    any: Option<Arc<HostRoutes<T>>>,
    fallback: Option<T>,
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { exact: FxHashMap::default(), wildcards: FxHashMap::default(), any: None, fallback: None }
    }
}

impl<T> RouteTable<T> {
    /// `host` in lower case: a name, `*.name`, or "" for rules without a host. None takes it out.
    pub fn set_host(&mut self, host: &str, routes: Option<HostRoutes<T>>) {
        let routes = routes.map(Arc::new);
        let (hosts, key) = match host.strip_prefix("*.") {
            _ if host.is_empty() => {
                self.any = routes;
                return;
            }
            Some(rest) => (&mut self.wildcards, rest),
            None => (&mut self.exact, host),
        };
        match routes {
            Some(routes) => hosts.insert(key.into(), routes),
            None => hosts.remove(key),
        };
    }

    /// Where requests go that no host or path is for.
    pub fn set_fallback(&mut self, fallback: Option<T>) {
        self.fallback = fallback;
    }

    /// `host` as [`host_name`] gives it.
    pub fn find(&self, host: &str, path: &str) -> Option<&T> {
        let routes = self.exact.get(host).or_else(|| self.wildcard(host)).or(self.any.as_ref());
        routes.and_then(|routes| routes.find(&path::normal(path))).or(self.fallback.as_ref())
    }

    fn wildcard(&self, host: &str) -> Option<&Arc<HostRoutes<T>>> {
        let (first, rest) = host.split_once('.')?;
        if first.is_empty() { None } else { self.wildcards.get(rest) }
    }

    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcards.len() + usize::from(self.any.is_some())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The name in a Host header or `:authority`: in lower case, without port and without the dot of the root.
pub fn host_name(authority: &str) -> std::borrow::Cow<'_, str> {
    let host = match authority.rfind(':') {
        // In brackets: an IPv6 address.
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        host.to_ascii_lowercase().into()
    } else {
        host.into()
    }
}

#[cfg(test)]
mod tests;
