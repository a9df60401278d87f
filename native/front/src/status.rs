//! Refusals of the front, and Status objects as responses.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use kubecore_core::go::quote;
use kubecore_core::protobuf;
use kubecore_core::rbac::Attributes;
use kubecore_core::status::Status;

use crate::accept::wants_protobuf_status;
use crate::body::Body;
use crate::connection::MOST_FIELDS;
use crate::exchange::Exchange;

pub const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");
pub const PROTOBUF: HeaderValue = HeaderValue::from_static(protobuf::CONTENT_TYPE);
pub const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");

/// What ends JSON that is not indented, as Go's encoder has it.
pub const NEWLINE: &[u8] = b"\n";

/// What answers in JSON have.
pub(crate) fn put_usual(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, APPLICATION_JSON);
    headers.insert(CACHE_CONTROL, NO_CACHE);
}

/// A refusal as the answer to a request.
pub fn refusal(status: &Status) -> Response<Body> {
    let mut json = status.to_json();
    json.push(b'\n');
    let mut response = Response::new(Body::full(json));
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    put_usual(headers);
    if let Some(seconds) = status.details.as_ref().map(|details| details.retry_after_seconds)
        && seconds > 0
    {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A refusal in the form that the client asked for.
pub fn refusal_to(exchange: &Exchange, status: &Status) -> Response<Body> {
    let mut response = refusal(status);
    if wants_protobuf_status(exchange.accept()) {
        if let Some(trail) = exchange.trail() {
            trail.responded(&status.to_json());
        }
        *response.body_mut() = Body::full(protobuf::status_body(status));
        response.headers_mut().insert(CONTENT_TYPE, PROTOBUF);
    }
    response
}

/// Who is nobody, told in a word instead of by an object.
pub fn unauthorized_in_text() -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from_static(b"Unauthorized")));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// What is wrong with `Host`.
#[derive(Clone, Copy)]
pub enum BadHost {
    Missing,
    Several,
    Malformed,
}

/// A request of HTTP/1 that names no host, several, or none that could be one: in the words of Go's server, which says it
/// before the request is anybody's.
pub fn bad_host(fault: BadHost) -> Response<Body> {
    let text = match fault {
        BadHost::Missing => "400 Bad Request: missing required Host header",
        BadHost::Several => "400 Bad Request",
        BadHost::Malformed => "400 Bad Request: malformed Host header",
    };
    let mut response = Response::new(Body::full(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.extensions_mut().insert(ReasonPhrase::from_static(text.split_at(4).1.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A 403 in the form that the client asked for. It repeats what was sent, and is never to be taken for a page.
pub fn forbidden_to(exchange: &Exchange, status: &Status) -> Response<Body> {
    let mut response = refusal_to(exchange, status);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// 403; `reason` is what the authorizer said, often nothing.
pub fn forbidden(username: &str, attributes: &Attributes<'_>, reason: &str) -> Status {
    let mut why = without_markup(&cannot(username, attributes));
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    Status::forbidden(attributes.group, attributes.resource, attributes.name, &why)
}

/// `User "x" cannot list resource "pods" in API group "" in the namespace "default"`.
fn cannot(username: &str, attributes: &Attributes<'_>) -> String {
    let (username, verb) = (quote(username), attributes.verb);
    if !attributes.is_resource {
        return format!("User {username} cannot {verb} path {}", quote(attributes.path));
    }
    let resource = if attributes.subresource.is_empty() {
        attributes.resource.to_owned()
    } else {
        format!("{}/{}", attributes.resource, attributes.subresource)
    };
    let scope = if attributes.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {}", quote(attributes.namespace))
    };
    let (resource, group) = (quote(&resource), quote(attributes.group));
    format!("User {username} cannot {verb} resource {resource} in API group {group} {scope}")
}

/// What looks like HTML, which upstream's authorization keeps out of its messages.
fn without_markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// An error that upstream has no reason for.
pub fn unknown(message: &str) -> Status {
    Status::failure(500, "", message)
}

pub fn body_too_large(limit: usize) -> Status {
    Status::too_large_body(format_args!("limit is {limit}"))
}

/// Of HTTP/1.1; that HTTP/2 answers by itself.
pub fn headers_too_large(limit: usize) -> Status {
    let message = format!(
        "the header of the request is too large: limit is {limit} bytes, in at most {MOST_FIELDS} fields"
    );
    Status::failure(431, "RequestHeaderFieldsTooLarge", message)
}

/// Source: Go `net/http` `server.go` (expectsContinue), which says no more than the code.
pub fn expects_otherwise() -> Status {
    Status::failure(417, "ExpectationFailed", "nothing can be expected but \"100-continue\"")
}

pub fn body_timeout() -> Status {
    Status::failure(408, "Timeout", "the body of the request did not arrive in time")
}

pub fn overloaded() -> Status {
    Status::too_many_requests("The apiserver is overloaded, please try again later.", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_reads_as_in_kubernetes() {
        let message = |attributes: &Attributes<'_>, reason: &str| forbidden("x", attributes, reason).message;
        let pods = Attributes {
            verb: "list",
            resource: "pods",
            namespace: "default",
            is_resource: true,
            ..Attributes::default()
        };
        assert_eq!(
            message(&pods, ""),
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#
        );
        let scale = Attributes {
            verb: "get",
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            name: "web",
            is_resource: true,
            ..Attributes::default()
        };
        let expected = "deployments.apps \"web\" is forbidden: User \"x\" cannot get resource \"deployments/scale\" \
             in API group \"apps\" at the cluster scope: no";
        assert_eq!(message(&scale, "no"), expected);
        let path = Attributes { verb: "get", path: "/metrics", ..Attributes::default() };
        assert_eq!(message(&path, ""), r#"forbidden: User "x" cannot get path "/metrics""#);
        let markup = Attributes { verb: "get", path: "/<b>&", ..Attributes::default() };
        assert_eq!(message(&markup, "<x>"), r#"forbidden: User "x" cannot get path "/&lt;b&gt;&amp;": <x>"#);
    }

    #[test]
    fn retry_after_becomes_a_header() {
        let response = refusal(&overloaded());
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
