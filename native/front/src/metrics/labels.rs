//! What tells the series of requests from each other. Their values are bounded: none is made by a client alone.

use std::fmt;

use http::header::CONTENT_TYPE;

use super::key_of;
use crate::audit::LONG_RUNNING;
use crate::exchange::Exchange;
use crate::query::Query;

const APPLY: &str = "application/apply-patch+yaml";

/// Those of one request, as it tells them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Told<'e> {
    pub(super) verb: &'static str,
    dry_run: &'static str,
    group: &'e str,
    version: &'e str,
    resource: &'e str,
    subresource: &'e str,
    scope: &'static str,
}

/// As what a request is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// Of its series.
    pub(super) key: u64,
    /// How long it takes is told at its answer, as of what does not last.
    pub(super) is_timed: bool,
}

impl Counted {
    pub(super) fn of(told: &Told<'_>) -> Self {
        Self { key: key_of(told), is_timed: !matches!(told.verb, "WATCH" | "CONNECT") }
    }
}

impl<'e> Told<'e> {
    pub(super) fn of(exchange: &'e Exchange) -> Self {
        let info = &exchange.info;
        let (resource, subresource) = if info.is_resource() {
            (info.resource(), info.subresource())
        } else {
            ("", non_resource(info.path()))
        };
        Self {
            verb: verb_of(exchange),
            dry_run: dry_run_of(exchange),
            group: info.group(),
            version: info.version(),
            resource,
            subresource,
            scope: scope_of(exchange),
        }
    }
}

/// Those of what nobody serves are empty but for the verb.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels {
    verb: &'static str,
    pub(super) dry_run: &'static str,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    subresource: String,
    scope: &'static str,
}

impl Default for Labels {
    fn default() -> Self {
        let [group, version, resource, subresource] = [const { String::new() }; 4];
        Self { verb: "other", dry_run: "", group, version, resource, subresource, scope: "" }
    }
}

impl From<Told<'_>> for Labels {
    fn from(told: Told<'_>) -> Self {
        Self {
            verb: told.verb,
            dry_run: told.dry_run,
            group: told.group.to_owned(),
            version: told.version.to_owned(),
            resource: told.resource.to_owned(),
            subresource: told.subresource.to_owned(),
            scope: told.scope,
        }
    }
}

impl Labels {
    /// Only those sizes are told.
    pub(super) fn reads(&self) -> bool {
        matches!(self.verb, "GET" | "LIST")
    }

    /// Those of the kind of object alone.
    pub(super) fn kind(&self) -> String {
        let [group, resource, version] = [&self.group, &self.resource, &self.version].map(|one| escape(one));
        format!("group=\"{group}\",resource=\"{resource}\",version=\"{version}\"")
    }

    /// All, with whether it was a dry run.
    pub(super) fn with_dry_run(&self) -> String {
        format!("component=\"apiserver\",dry_run=\"{}\",{}", self.dry_run, Rest(self))
    }

    /// All but whether it was a dry run.
    pub(super) fn without_dry_run(&self) -> String {
        format!("component=\"apiserver\",{}", Rest(self))
    }
}

struct Rest<'a>(&'a Labels);

impl fmt::Display for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Labels { verb, group, version, resource, subresource, scope, .. } = self.0;
        write!(
            f,
            "group=\"{}\",resource=\"{}\",scope=\"{scope}\",subresource=\"{}\",verb=\"{verb}\",version=\"{}\"",
            escape(group),
            escape(resource),
            escape(subresource),
            escape(version)
        )
    }
}

pub(crate) fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn verb_of(exchange: &Exchange) -> &'static str {
    let info = &exchange.info;
    if info.is_resource() && LONG_RUNNING.contains(&info.subresource()) {
        return "CONNECT";
    }
    match info.verb() {
        "get" | "head" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if exchange.headers.get(CONTENT_TYPE).is_some_and(|media| media == APPLY) => "APPLY",
        "patch" => "PATCH",
        "deletecollection" => "DELETECOLLECTION",
        "delete" => "DELETE",
        _ if exchange.method == http::Method::GET => "GET",
        _ => "other",
    }
}

/// What only reads is none.
fn dry_run_of(exchange: &Exchange) -> &'static str {
    if !exchange.query.contains("dryRun") || matches!(exchange.info.verb(), "get" | "list" | "watch") {
        return "";
    }
    let query = Query::new(&exchange.query);
    let of_all = query.pairs().filter(|(key, _)| key == "dryRun").map(|(_, value)| value == "All");
    match of_all.reduce(|all, one| all && one) {
        None => "",
        Some(true) => "All",
        Some(false) => "invalid",
    }
}

/// The few paths worth a series of their own.
fn non_resource(path: &str) -> &'static str {
    const KNOWN: [&str; 6] = ["/healthz", "/livez", "/readyz", "/version", "/metrics", "/openapi"];
    KNOWN.into_iter().find(|known| path.starts_with(known)).unwrap_or("")
}

fn scope_of(exchange: &Exchange) -> &'static str {
    let info = &exchange.info;
    if !info.is_resource() {
        return "";
    }
    match (info.name().is_empty() && info.verb() != "create", info.namespace().is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    }
}
