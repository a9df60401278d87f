//! Refusals in Kubernetes' words, as Status objects.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use kubecore_core::rbac::Attributes;

use crate::body::Body;

pub const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");
pub const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");

/// What went wrong, as metav1.Status tells it.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    /// (name, group, kind) of `details`; None leaves details out.
    pub details: Option<(String, String, String)>,
    pub retry_after_seconds: u32,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), ..Self::default() }
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// `reason` is what the authorizer said, often nothing.
    pub fn forbidden(username: &str, attributes: &Attributes<'_>, reason: &str) -> Self {
        let mut message = String::with_capacity(160);
        if attributes.is_resource {
            message.push_str(attributes.resource);
            if !attributes.group.is_empty() {
                message.push('.');
                message.push_str(attributes.group);
            }
            if !attributes.name.is_empty() {
                message.push_str(&format!(" {:?}", attributes.name));
            }
            message.push_str(" is ");
        }
        message.push_str("forbidden: ");
        message.push_str(&forbidden_message(username, attributes));
        if !reason.is_empty() {
            message.push_str(": ");
            message.push_str(reason);
        }
        let details = if attributes.is_resource {
            (attributes.name.to_owned(), attributes.group.to_owned(), attributes.resource.to_owned())
        } else {
            Default::default()
        };
        Self { details: Some(details), ..Self::new(403, "Forbidden", message) }
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let qualified = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        Self {
            details: Some((name.to_owned(), group.to_owned(), resource.to_owned())),
            ..Self::new(404, "NotFound", format!("{qualified} {name:?} not found"))
        }
    }

    /// The answer for a path that nothing serves.
    pub fn no_such_path() -> Self {
        Self { details: Some(Default::default()), ..Self::new(404, "NotFound", "the server could not find the requested resource") }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn body_too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    pub fn headers_too_large() -> Self {
        Self::new(431, "RequestHeaderFieldsTooLarge", "request header fields too large")
    }

    pub fn not_acceptable(accepted: &str) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {accepted}"))
    }

    pub fn body_timeout() -> Self {
        Self::new(408, "Timeout", "timed out reading the request body")
    }

    pub fn too_many_requests() -> Self {
        Self {
            retry_after_seconds: 1,
            details: Some(Default::default()),
            ..Self::new(429, "TooManyRequests", "The apiserver is overloaded, please try again later.")
        }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    pub fn shutting_down() -> Self {
        Self {
            retry_after_seconds: 1,
            ..Self::new(503, "ServiceUnavailable", "apiserver is shutting down.")
        }
    }

    /// The Status object as JSON.
    pub fn to_json(&self) -> Bytes {
        let mut out = String::with_capacity(192 + self.message.len());
        out.push_str(r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"#);
        push_json(&mut out, &self.message);
        out.push_str(r#","reason":"#);
        push_json(&mut out, self.reason);
        if let Some((name, group, kind)) = &self.details {
            out.push_str(r#","details":{"#);
            let mut comma = "";
            for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
                if !value.is_empty() {
                    out.push_str(&format!("{comma}\"{key}\":"));
                    push_json(&mut out, value);
                    comma = ",";
                }
            }
            if self.retry_after_seconds > 0 {
                out.push_str(&format!("{comma}\"retryAfterSeconds\":{}", self.retry_after_seconds));
            }
            out.push('}');
        }
        out.push_str(&format!(",\"code\":{}}}\n", self.code));
        Bytes::from(out)
    }

    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::full(self.to_json()));
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, APPLICATION_JSON);
        headers.insert(CACHE_CONTROL, NO_CACHE);
        if self.retry_after_seconds > 0 {
            headers.insert(RETRY_AFTER, HeaderValue::from(self.retry_after_seconds));
        }
        response
    }
}

/// `User "x" cannot list resource "pods" in API group "" in the namespace "default"`.
fn forbidden_message(username: &str, attributes: &Attributes<'_>) -> String {
    if !attributes.is_resource {
        return format!("User {username:?} cannot {} path {:?}", attributes.verb, attributes.path);
    }
    let resource = if attributes.subresource.is_empty() {
        attributes.resource.to_owned()
    } else {
        format!("{}/{}", attributes.resource, attributes.subresource)
    };
    let scope = if attributes.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", attributes.namespace)
    };
    format!(
        "User {username:?} cannot {} resource {resource:?} in API group {:?} {scope}",
        attributes.verb, attributes.group
    )
}

/// A JSON string literal. `serde_json` cannot fail on a str.
fn push_json(out: &mut String, text: &str) {
    match serde_json::to_string(text) {
        Ok(literal) => out.push_str(&literal),
        Err(_) => out.push_str("\"\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes<'a>() -> Attributes<'a> {
        Attributes { verb: "list", resource: "pods", namespace: "default", is_resource: true, ..Attributes::default() }
    }

    #[test]
    fn forbidden_reads_as_in_kubernetes() {
        let message = |attributes: &Attributes<'_>, reason: &str| Refusal::forbidden("x", attributes, reason).message;
        assert_eq!(
            message(&attributes(), ""),
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#
        );
        let deployment = Attributes {
            verb: "get",
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            name: "web",
            namespace: "",
            ..attributes()
        };
        assert_eq!(
            message(&deployment, "no"),
            r#"deployments.apps "web" is forbidden: User "x" cannot get resource "deployments/scale" in API group "apps" at the cluster scope: no"#
        );
        let path = Attributes { verb: "get", path: "/metrics", ..Attributes::default() };
        assert_eq!(message(&path, ""), r#"forbidden: User "x" cannot get path "/metrics""#);
    }

    #[test]
    fn the_status_object_carries_reason_code_and_details() {
        let json: serde_json::Value =
            serde_json::from_slice(&Refusal::not_found("apps", "deployments", "a\"b").to_json()).unwrap();
        assert_eq!(json["kind"], "Status");
        assert_eq!(json["code"], 404);
        assert_eq!(json["reason"], "NotFound");
        assert_eq!(json["message"], "deployments.apps \"a\\\"b\" not found");
        assert_eq!(json["details"], serde_json::json!({"name": "a\"b", "group": "apps", "kind": "deployments"}));
        let unauthorized: serde_json::Value = serde_json::from_slice(&Refusal::unauthorized().to_json()).unwrap();
        assert!(unauthorized.get("details").is_none());
    }
}
