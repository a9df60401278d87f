//! One request on its way through the chain, without its body.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::header::{self, AsHeaderName};
use http::{HeaderMap, HeaderValue, Method};
use kubecore_core::authn::UserInfo;
use kubecore_core::rbac::Attributes;
use parking_lot::Mutex;

use crate::audit::Draft;
use crate::authz::Selectors;
use crate::connection::Connection;
use crate::flow::Seat;
use crate::headers::{Headers, Name};
use crate::metrics::Lasting;
use crate::query::Query;
use crate::request_info::RequestInfo;

/// What the client said.
pub struct Exchange {
    pub method: Method,
    pub headers: Headers,
    pub query: String,
    pub info: Arc<RequestInfo>,
    pub connection: Arc<Connection>,
    /// Another server answers it.
    pub delegated: bool,
    pub started: Instant,
    /// None while nothing is audited.
    pub audit: Option<Draft>,
    /// The name that was made for the request; among its headers once it is handed over.
    pub audit_id: Option<HeaderValue>,
    /// Of the flow control; None while it has not been asked, or does not limit the request.
    pub seat: Option<Seat>,
    /// One that was taken when Python had said who asks.
    pub late_seat: OnceLock<Seat>,
    /// Of a request that lasts, until whoever goes on with it takes it.
    pub(crate) lasting: Mutex<Option<Lasting>>,
    /// Whether it is kept in a trace, where that has been decided already.
    pub sampled: OnceLock<bool>,
    pub apart: Apart,
}

/// How long others were waited for, which metrics tell apart.
#[derive(Default)]
pub struct Apart(AtomicU64);

impl Apart {
    pub fn add(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Nobody has been waited for.
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// What was found out about who asks and whether they may.
#[derive(Clone, Default)]
pub struct Decisions {
    pub user: Option<Arc<UserInfo>>,
    /// None: Python must judge the token.
    pub authenticated: Option<bool>,
    /// None: Python must decide.
    pub authorized: Option<bool>,
    /// Python has said whom the request goes on as: what asks for another user is done with.
    pub resumed: bool,
    /// When it was known here who asks.
    pub known_at: Option<Instant>,
}

impl Exchange {
    /// A header's value as text; None when it is absent or no ASCII.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        text(self.headers.get(name)?)
    }

    pub fn accept(&self) -> Option<&str> {
        text(self.headers.first(Name::Accept)?)
    }

    pub fn user_agent(&self) -> Option<&str> {
        text(self.headers.first(Name::UserAgent)?)
    }

    pub fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref().or_else(|| self.late_seat.get())
    }

    /// What is to be authorized.
    pub fn attributes(&self) -> Attributes<'_> {
        attributes_of(&self.info)
    }

    /// What is selected of a collection, as the client wrote it.
    pub fn selectors(&self) -> Selectors {
        if !self.info.is_resource() || !matches!(self.info.verb(), "list" | "watch" | "deletecollection") {
            return Selectors::default();
        }
        let query = Query::new(&self.query);
        let given = |name| query.first(name).map(|text| text.into_owned()).unwrap_or_default();
        Selectors { field: given("fieldSelector"), label: given("labelSelector") }
    }

    /// Asks to act as somebody else.
    pub fn impersonates(&self) -> bool {
        self.headers.has(Name::Impersonate)
    }

    /// Asks for another protocol on this connection in the way that proxies heed.
    pub fn asks_to_switch(&self) -> bool {
        asks_to_switch(&self.headers)
    }

    /// Asks for the answer as messages of a WebSocket, as browsers do who watch.
    pub fn asks_for_websocket(&self) -> bool {
        asks_for_websocket(&self.headers)
    }

    /// Asks for another protocol on this connection.
    pub fn wants_upgrade(&self) -> bool {
        self.headers.has(Name::Upgrade)
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// Go's `httpstream.IsUpgradeRequest`.
fn asks_to_switch(headers: &HeaderMap) -> bool {
    let told = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    headers.contains_key(header::UPGRADE)
        && told.into_iter().any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

/// Go's `wsstream.IsWebSocketRequest`.
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let wanted = headers.get(header::UPGRADE);
    wanted.is_some_and(|told| told.as_bytes().eq_ignore_ascii_case(b"websocket")) && asks_to_switch(headers)
}

/// What is to be authorized of a request.
#[inline]
pub fn attributes_of(info: &RequestInfo) -> Attributes<'_> {
    if !info.is_resource() {
        return Attributes { verb: info.verb(), path: info.path(), ..Attributes::default() };
    }
    Attributes {
        verb: info.verb(),
        group: info.group(),
        version: info.version(),
        resource: info.resource(),
        subresource: info.subresource(),
        namespace: info.namespace(),
        name: info.named(),
        path: info.path(),
        is_resource: true,
    }
}
