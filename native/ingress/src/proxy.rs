//! One request: judged, routed, sent to a destination, answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;

use crate::answers;
use crate::backend::{Protocol, Terms};
use crate::body::{AnswerBody, RequestBody};
use crate::client::{Busy, Client};
use crate::forward::Forwarding;
use crate::headers;
use crate::record::{Asked, Record};
use crate::shared::{Shared, Target};
use crate::switch;
use crate::table::host_name;

const NO_ROUTE: &str = "no Ingress has a rule for this host and path";

/// The chain, top to bottom.
pub async fn answer(
    shared: Arc<Shared>,
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let began = Instant::now();
    let busy = Busy::begin(&client);
    let mut record = Record::new(&shared, &client, began, || Asked::of(&request));
    let refused = match judge(&client, &request) {
        Ok(host) => {
            let host = host_name(host);
            record.target = shared.table.load().find(&host, request.uri().path()).cloned();
            None
        }
        Err(refused) => Some(refused),
    };
    if let Some(head) = &client.head {
        head.lock().understood(!request.body().is_end_stream());
    }
    if let Some((status, why)) = refused {
        return Ok(answers::own(status, why, true, record, busy));
    }
    let Some(target) = record.target.clone() else {
        return Ok(answers::own(StatusCode::NOT_FOUND, NO_ROUTE, false, record, busy));
    };
    Ok(pass_on(shared, client, target, request, record, busy).await)
}

/// The authority a well-formed request is for; else what is wrong with it. The connection cannot be trusted then.
fn judge<'a>(client: &Client, request: &'a Request<Incoming>) -> Result<&'a str, (StatusCode, &'static str)> {
    let bad = |why| Err((StatusCode::BAD_REQUEST, why));
    if let Some(head) = &client.head
        && request.headers().contains_key(TRANSFER_ENCODING)
        && head.lock().is_ambiguous(request.method().as_str(), &request.uri().to_string())
    {
        return bad("both Content-Length and Transfer-Encoding");
    }
    // Only the chunks are taken off here: another coding would be lost on the way.
    if !headers::is_at_most_chunked(request.headers()) {
        return Err((StatusCode::NOT_IMPLEMENTED, "a Transfer-Encoding other than chunked"));
    }
    if request.method() == Method::CONNECT {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not served"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return bad("more than one Host header");
    }
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.as_str());
    }
    match host.map(|host| host.to_str()) {
        Some(Ok(host)) if host.bytes().all(headers::is_of_authority) => Ok(host),
        Some(_) => bad("malformed Host header"),
        None if request.version() == Version::HTTP_11 => bad("missing Host header"),
        None => Ok(""),
    }
}

async fn pass_on(
    shared: Arc<Shared>,
    client: Arc<Client>,
    target: Arc<Target>,
    mut request: Request<Incoming>,
    record: Record,
    busy: Busy,
) -> Response<AnswerBody> {
    let upgrade =
        (request.version() == Version::HTTP_11).then(|| headers::wanted_upgrade(request.headers())).flatten();
    let switched = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    let terms = target.backend.terms();
    prepare(&mut parts, &client, &terms);
    let forwarding = Forwarding { shared, client, backend: target.backend.clone(), terms, record, busy };
    if let (Some(protocol), Some(on_client)) = (upgrade, switched) {
        return switch::answer(forwarding, parts, protocol, on_client).await;
    }
    let body = if body.is_end_stream() {
        RequestBody::empty()
    } else {
        RequestBody::new(body, forwarding.client.head.clone())
    };
    forwarding.answer(parts, body).await
}

/// Makes of the head that came the one that is sent.
fn prepare(parts: &mut Parts, client: &Client, terms: &Terms) {
    headers::strip_request(&mut parts.headers);
    // The target's authority is what counts where there is one (RFC 9112, 3.2.2).
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = authority.as_str().parse()
    {
        parts.headers.insert(HOST, host);
    }
    let host = parts.headers.get(HOST).cloned();
    client.forwarded.tell(&mut parts.headers, host);
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    match terms.protocol {
        Protocol::Http1 => {
            parts.version = Version::HTTP_11;
            if parts.uri.authority().is_some() {
                parts.uri = Uri::from(path);
            }
        }
        Protocol::Http2 => {
            parts.version = Version::HTTP_2;
            let host = parts.headers.remove(HOST);
            let authority = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("");
            let scheme = if terms.tls.is_some() { "https" } else { "http" };
            let whole =
                Uri::builder().scheme(scheme).authority(authority).path_and_query(path.clone()).build();
            parts.uri = whole.unwrap_or_else(|_| Uri::from(path));
        }
    }
    parts.extensions.clear();
}
