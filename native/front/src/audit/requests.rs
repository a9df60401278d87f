//! The audit's share in the chain of a request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::uri::PathAndQuery;
use http::{Response, StatusCode};
use kubecore_core::authn::{SYSTEM_MASTERS, UserInfo};
use kubecore_core::status::Status;

use super::{Asked, Draft, Ending, Layer, Sources, Stage, Text, Trail};
use crate::body::Body;
use crate::exchange::Exchange;
use crate::handoff::Reply;
use crate::headers::{Headers, Name};
use crate::request_info::RequestInfo;
use crate::server::Server;

/// Subresources whose requests last as long as somebody wants them to.
pub(crate) const LONG_RUNNING: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

impl Server {
    /// What an audit needs to know of a request from its head; None while nothing is audited.
    pub(crate) fn draft(
        &self,
        headers: &Headers,
        audit_id: Option<&HeaderValue>,
        uri: &http::Uri,
        remote: IpAddr,
        info: &Arc<RequestInfo>,
        started: Instant,
    ) -> Option<Draft> {
        let auditing = self.audit.current()?;
        let agent = Text::Header(headers.first(Name::UserAgent).cloned());
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let (audit_id, asked) = (Text::Header(audit_id.cloned()), Asked::Read(info.clone()));
        let sources = sources(headers, remote);
        let received = auditing.clock.unix_at(started);
        Some(Draft::new(auditing, audit_id, Text::Path(path), sources, agent, asked, received))
    }

    /// The user may, or may not: `reason` is told where the answer is no.
    pub(crate) fn audit_decision(&self, exchange: &Exchange, user: &UserInfo, refusal: Option<&str>) {
        let Some(trail) = exchange.trail() else { return };
        match refusal {
            Some(reason) => trail.decided("forbid", reason.to_owned()),
            None if user.in_group(SYSTEM_MASTERS) => trail.decided("allow", ""),
            None => {
                let policy = self.authorizer.policy().current();
                trail.decided("allow", policy.explain(user, &exchange.attributes()).1);
            }
        }
    }

    /// Tells how a request is answered, now or when its body has ended.
    pub(crate) fn audited(
        &self,
        exchange: &Exchange,
        mut response: Response<Body>,
        now: Instant,
    ) -> Response<Body> {
        let Some(trail) = exchange.trail() else { return response };
        let code = response.status();
        if trail.wants_response() || code.is_client_error() || code.is_server_error() || is_delete(exchange) {
            hear_of(trail, &response);
        }
        trail.coded(code.as_u16());
        if trail.is_nobodys() {
            trail.tell_at(Stage::ResponseStarted, now);
            return response;
        }
        if lasts(&exchange.info) {
            trail.tell_at(Stage::ResponseStarted, now);
        }
        if code == StatusCode::SWITCHING_PROTOCOLS {
            // Told by whoever serves the connection.
            return response;
        }
        if response.body().is_whole() {
            trail.tell_at(Stage::ResponseComplete, now);
        } else {
            response.body_mut().tell_at_end(Ending(trail.clone()));
        }
        response
    }
}

fn is_delete(exchange: &Exchange) -> bool {
    exchange.method == http::Method::DELETE
}

pub(crate) fn lasts(info: &RequestInfo) -> bool {
    matches!(info.verb(), "watch" | "proxy") || LONG_RUNNING.contains(&info.subresource())
}

/// An answer that nobody has told before it was rendered.
fn hear_of(trail: &Trail, response: &Response<Body>) {
    let headers = response.headers();
    let is_json =
        headers.get(CONTENT_TYPE).is_some_and(|media| media.as_bytes().starts_with(b"application/json"));
    if is_json
        && !headers.contains_key(CONTENT_ENCODING)
        && !trail.is_answered()
        && let Some(bytes) = response.body().gathered()
    {
        trail.responded(&bytes);
    }
}

impl Exchange {
    /// None where the audit does not want to hear of the request, or not yet.
    pub fn trail(&self) -> Option<&Arc<Trail>> {
        self.audit.as_ref()?.trail()
    }

    /// The request is about to wait for something: that it came is told now.
    pub(crate) fn tell_arrival(&self) {
        if let Some(trail) = self.trail() {
            trail.release();
        }
    }

    /// For others to go on first.
    pub(crate) fn waited_for_seat(&self, time: Duration) {
        self.apart.add(time);
        if let Some(trail) = self.trail() {
            trail.took(Layer::ApfQueueWait, time);
        }
    }

    /// Who asks is known, or that nobody knows. The refusal of a request that must not go on, since it cannot be told.
    pub fn begin_audit(&self, user: Option<&Arc<UserInfo>>) -> Option<Status> {
        let trail = self.audit.as_ref()?.begin(user)?;
        trail.is_rejected().then(|| Status::internal("failed to store audit event"))
    }

    /// The request is refused whoever asks (apiserver's withFailedRequestAudit).
    pub(crate) fn begin_audit_of(&self, refused: &Status) {
        if let Some(trail) = self.audit.as_ref().and_then(|draft| draft.begin(None)) {
            trail.responded(&refused.to_json());
        }
    }

    /// Nobody has begun, because Python was to say who asks.
    pub(crate) fn is_unaudited(&self) -> bool {
        self.audit.as_ref().is_some_and(Draft::is_unbegun)
    }

    /// Tells the end of a request when it is dropped.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.trail().cloned().map(Ending)
    }

    /// A whole answer before it is rendered.
    pub(crate) fn answered_with(&self, pieces: &[Bytes]) {
        if let Some(trail) = self.trail().filter(|trail| trail.wants_response()) {
            trail.responded(&pieces.concat());
        }
    }

    /// Python's answer, for which nobody waits any more.
    pub fn answered_to_nobody(&self, reply: &Reply) {
        let (Some(trail), Reply::Full { status, headers, body }) = (self.trail(), reply) else { return };
        let is_json = headers
            .iter()
            .any(|(name, value)| *name == CONTENT_TYPE && value.as_bytes().starts_with(b"application/json"));
        if is_json && !trail.is_answered() && (trail.wants_response() || *status >= 400 || is_delete(self)) {
            trail.responded(body);
        }
        trail.coded(*status);
        trail.tell(Stage::ResponseComplete);
    }

    pub(crate) fn tells_answers(&self) -> bool {
        self.trail().is_some_and(|trail| trail.wants_response())
    }
}

/// Those that proxies tell, then the one that the connection has (apimachinery `pkg/util/net`, SourceIPs).
fn sources(headers: &Headers, remote: IpAddr) -> Sources {
    let remote = remote.to_canonical();
    let [forwarded, real] = [Name::ForwardedFor, Name::RealIp].map(|name| headers.first(name));
    if forwarded.is_none() && real.is_none() {
        return Sources::Direct(remote);
    }
    let text = |value: Option<&HeaderValue>| {
        value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let mut found: Vec<IpAddr> =
        text(forwarded).split(',').filter_map(|part| part.trim().parse().ok()).collect();
    if let Ok(real) = text(real).trim().parse()
        && !found.contains(&real)
    {
        found.push(real);
    }
    if found.last() != Some(&remote) {
        found.push(remote);
    }
    Sources::Through(found.into())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn told(headers: &HeaderMap, remote: [u8; 4]) -> Vec<String> {
        sources(&headers.clone().into(), remote.into()).as_slice().iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn addresses_are_those_of_proxies_and_of_the_connection() {
        let mut headers = HeaderMap::new();
        assert_eq!(told(&headers, [127, 0, 0, 1]), ["127.0.0.1"]);
        headers.insert("x-forwarded-for", HeaderValue::from_static("10.0.0.1, nonsense, 10.0.0.2"));
        headers.insert("x-real-ip", HeaderValue::from_static("10.0.0.1"));
        assert_eq!(told(&headers, [10, 0, 0, 2]), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(told(&headers, [127, 0, 0, 1]), ["10.0.0.1", "10.0.0.2", "127.0.0.1"]);
    }
}
