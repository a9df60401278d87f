//! `metav1.Status`: how every refusal looks on the wire, in Kubernetes' words.
//!
//! The constructors follow k8s.io/apimachinery `pkg/api/errors/errors.go`.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::go::quote;

/// A refusal (or, with `Status::success`, the answer to a deletion).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// metadata.continue, empty for most.
    continue_token: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural resource for most errors, the kind for Invalid; as upstream has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(rename = "retryAfterSeconds", skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cause {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Cause {
    pub fn new(reason: &str, message: impl Into<String>, field: &str) -> Self {
        Self { reason: reason.into(), message: message.into(), field: field.into() }
    }
}

/// "deployments.apps", or "pods" for the core group.
pub fn qualified_resource(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    pub fn failure(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continue_token: Box::default() }
    }

    pub fn success(details: Details) -> Self {
        Self::failure(200, "", "").with_details(details)
    }

    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// A token in `metadata.continue`, for a list that may go on inconsistently.
    pub fn with_continue(mut self, token: String) -> Self {
        self.continue_token = token.into();
        self
    }

    pub fn continue_token(&self) -> Option<&str> {
        Some(&*self.continue_token).filter(|token| !token.is_empty())
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// `why` as the authorizer words it; `name` may be empty.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let qualified = qualified_resource(group, resource);
        let message = match (qualified.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{qualified} is forbidden: {why}"),
            (false, false) => format!("{qualified} {} is forbidden: {why}", quote(name)),
        };
        Self::failure(403, "Forbidden", message).with_details(named(group, resource, name))
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualified_resource(group, resource), quote(name));
        Self::failure(404, "NotFound", message).with_details(named(group, resource, name))
    }

    /// A path that no resource is served at.
    pub fn unknown_path() -> Self {
        Self::failure(404, "NotFound", "the server could not find the requested resource")
            .with_details(Details::default())
    }

    pub fn method_not_allowed() -> Self {
        Self::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with_details(Details::default())
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, "NotAcceptable", message)
    }

    /// No media type the client takes is made at all.
    pub fn no_representation(made: &[&str]) -> Self {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {}", made.join(", "));
        let details = Some(Box::default());
        Self { details, ..Self::failure(406, "NotAcceptable", message) }
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// The history asked for is gone: a new list is needed.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    pub fn too_large_body(message: impl fmt::Display) -> Self {
        Self::failure(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    /// 422 with one cause each; the message lists them as field.ErrorList does.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let words = causes.iter().map(worded).collect::<Vec<_>>();
        let summary = match words.as_slice() {
            [] => String::new(),
            [one] => format!(": {one}"),
            many => format!(": [{}]", many.join(", ")),
        };
        let message = format!("{} {} is invalid{summary}", qualified_resource(group, kind), quote(name));
        let details = Details { causes, ..named(group, kind, name) };
        Self::failure(422, "Invalid", message).with_details(details)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details = Details { retry_after_seconds, ..Details::default() };
        Self::failure(429, "TooManyRequests", message).with_details(details)
    }

    pub fn internal(error: impl fmt::Display) -> Self {
        let causes = vec![Cause::new("", error.to_string(), "")];
        Self::failure(500, "InternalError", format!("Internal error occurred: {error}"))
            .with_details(Details { causes, ..Details::default() })
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        let details = Details { retry_after_seconds, ..Details::default() };
        Self::failure(504, "Timeout", format!("Timeout: {message}")).with_details(details)
    }

    /// A resourceVersion that has not been reached; as storage.NewTooLargeResourceVersionError.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let causes = vec![Cause::new("ResourceVersionTooLarge", "Too large resource version", "")];
        Self::timeout(format_args!("Too large resource version: {asked}, current: {current}"), 1)
            .with_details(Details { causes, retry_after_seconds: 1, ..Details::default() })
    }

    /// The object as JSON, without a newline.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut metadata = std::collections::BTreeMap::new();
        metadata.extend(self.continue_token().map(|token| ("continue", token)));
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", "Status")?;
        map.serialize_entry("apiVersion", "v1")?;
        map.serialize_entry("metadata", &metadata)?;
        map.serialize_entry("status", if self.code < 300 { "Success" } else { "Failure" })?;
        if !self.message.is_empty() {
            map.serialize_entry("message", &self.message)?;
        }
        if !self.reason.is_empty() {
            map.serialize_entry("reason", self.reason)?;
        }
        if let Some(details) = &self.details {
            map.serialize_entry("details", details)?;
        }
        // A Status of success tells no code: HTTP has.
        if self.code >= 300 {
            map.serialize_entry("code", &self.code)?;
        }
        map.end()
    }
}

fn named(group: &str, resource: &str, name: &str) -> Details {
    Details { group: group.into(), kind: resource.into(), name: name.into(), ..Details::default() }
}

fn worded(cause: &Cause) -> String {
    if cause.field.is_empty() { cause.message.clone() } else { format!("{}: {}", cause.field, cause.message) }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(status: &Status) -> String {
        String::from_utf8(status.to_json()).expect("JSON is UTF-8")
    }

    #[test]
    fn not_found_reads_as_kubernetes_words_it() {
        let expected = concat!(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
            r#""message":"deployments.apps \"web\" not found","reason":"NotFound","#,
            r#""details":{"name":"web","group":"apps","kind":"deployments"},"code":404}"#
        );
        assert_eq!(json(&Status::not_found("apps", "deployments", "web")), expected);
    }

    #[test]
    fn invalid_lists_one_cause_plainly_and_several_in_brackets() {
        let cause = |field| Cause::new("FieldValueRequired", "Required value", field);
        let one = Status::invalid("", "Pod", "p", vec![cause("spec")]);
        assert_eq!(one.message, r#"Pod "p" is invalid: spec: Required value"#);
        let two = Status::invalid("apps", "Deployment", "d", vec![cause("a"), cause("b")]);
        assert_eq!(two.message, r#"Deployment.apps "d" is invalid: [a: Required value, b: Required value]"#);
    }

    #[test]
    fn a_resource_version_of_the_future_is_a_timeout_with_its_cause() {
        let status = Status::too_large_resource_version(9, 3);
        assert_eq!((status.code, status.reason), (504, "Timeout"));
        assert_eq!(status.message, "Timeout: Too large resource version: 9, current: 3");
        assert!(json(&status).contains(
            r#""causes":[{"reason":"ResourceVersionTooLarge","message":"Too large resource version"}],"retryAfterSeconds":1"#
        ));
    }

    #[test]
    fn an_expired_list_may_carry_a_token_to_go_on_with() {
        let status = Status::expired("too old").with_continue("abc".into());
        assert!(json(&status).contains(r#""metadata":{"continue":"abc"}"#));
        assert_eq!(status.continue_token(), Some("abc"));
    }
}
