//! What a client hears whose body is no object of the kind, in Kubernetes' words.

use std::borrow::Cow;

use super::error::{Kind, Rejection, SchemaError};
use super::model::{KindId, KindInfo, Schemas};
use super::scan::check_json;
use crate::go::json_kind;

/// Kinds that are the same in all versions.
const UNVERSIONED: [&str; 5] = ["Status", "APIVersions", "APIGroup", "APIGroupList", "APIResourceList"];
/// What all versions have, for query parameters.
const OPTIONS: [&str; 5] = ["ListOptions", "GetOptions", "CreateOptions", "UpdateOptions", "PatchOptions"];
/// Of the core group, for streams and proxies, and what nobody asks for.
const OF_CORE: [&str; 11] = [
    "List",
    "NodeProxyOptions",
    "PodAttachOptions",
    "PodExecOptions",
    "PodLogOptions",
    "PodPortForwardOptions",
    "PodProxyOptions",
    "PodStatusResult",
    "RangeAllocation",
    "SerializedReference",
    "ServiceProxyOptions",
];

/// The server, of those within upstream's, that knows of this version: each knows its own kinds alone.
fn server_of(api_version: &str) -> &str {
    let group = api_version.split('/').next().unwrap_or_default();
    if matches!(group, "apiextensions.k8s.io" | "apiregistration.k8s.io") { group } else { "" }
}

impl Schemas {
    /// The refusal of a body that says it is of another kind, or of another version.
    pub(super) fn wrong_kind(
        &self,
        info: &KindInfo,
        api_version: &str,
        kind: &str,
        input: &[u8],
    ) -> Option<Rejection> {
        let api_version = if api_version.is_empty() { &*info.api_version } else { api_version };
        let kind = if kind.is_empty() { &*info.kind } else { kind };
        if api_version == &*info.api_version && kind == &*info.kind {
            return None;
        }
        if api_version.matches('/').count() > 1 {
            let problem = format!("unexpected GroupVersion string: {api_version}");
            return Some(Rejection::bad_request(unrecognizable(info, input, &problem), Vec::new()));
        }
        let version = api_version.rsplit('/').next().unwrap_or(api_version);
        let known = self.kind(&format!("{api_version}/{kind}"));
        let unconvertible = |version: &str, given: &str| {
            format!(
                "{kind} in version {given:?} cannot be handled as a {}: converting ({version}.{kind}) to ({}.{}): \
                 unknown conversion",
                info.kind,
                internal_package(&info.api_version),
                info.kind
            )
        };
        let message = match known {
            _ if UNVERSIONED.contains(&kind) => unconvertible("v1", version),
            // Options kinds are registered in every group version.
            Some(other) if self.info(other).root == info.root => return None,
            Some(_) if kind == &*info.kind => format!(
                "the API version in the data ({api_version}) does not match the expected API version ({})",
                info.api_version
            ),
            Some(_) if server_of(api_version) == server_of(&info.api_version) => {
                unconvertible(version, version)
            }
            None if self.is_only_registered(api_version, kind) => unconvertible(version, version),
            _ => format!(
                "{kind} in version {version:?} cannot be handled as a {}: no kind {kind:?} is registered for version \
                 {api_version:?} in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
                info.kind
            ),
        };
        Some(Rejection::bad_request(message, Vec::new()))
    }

    /// Whether upstream knows a kind that no object is of.
    fn is_only_registered(&self, api_version: &str, kind: &str) -> bool {
        // Those that are there for bodies, too, have a schema.
        let has_options =
            self.kind(&format!("{api_version}/DeleteOptions")).is_some() && server_of(api_version).is_empty();
        (api_version == "v1" && OF_CORE.contains(&kind)) || (has_options && OPTIONS.contains(&kind))
    }

    pub(crate) fn bad_yaml(&self, kind: KindId, input: &[u8], problem: String) -> Rejection {
        let message = unrecognizable(self.info(kind), input, &problem);
        Rejection::bad_request(message, vec![SchemaError::syntax(problem)])
    }

    /// A body that is no object of the kind: say so of the kind it claims to be, or of its syntax.
    pub(super) fn refuse(&self, info: &KindInfo, input: &[u8], error: SchemaError) -> Rejection {
        if error.kind == Kind::Syntax {
            return unrecognized(info, input, error);
        }
        if let Err(syntax) = check_json(input) {
            return unrecognized(info, input, syntax);
        }
        if let Some(problem) = no_type_meta(input) {
            return unrecognized(info, input, SchemaError::syntax(problem));
        }
        let (api_version, kind) = claimed_kind(input);
        if let Some(refusal) = self.wrong_kind(info, &api_version, &kind, input) {
            return refusal;
        }
        Rejection::bad_request(handled_as(info, &error.message), vec![error])
    }
}

pub(super) fn handled_as(info: &KindInfo, problem: &str) -> String {
    format!("{} in version {:?} cannot be handled as a {}: {problem}", info.kind, info.version, info.kind)
}

pub(super) fn strict_refusal(info: &KindInfo, strict: Vec<String>) -> Rejection {
    let message = handled_as(info, &format!("strict decoding error: {}", strict.join(", ")));
    let errors = strict
        .into_iter()
        .map(|message| SchemaError {
            kind: Kind::Strict,
            field: message.split('"').nth(1).unwrap_or_default().to_owned(),
            message,
        })
        .collect();
    Rejection::bad_request(message, errors)
}

pub(super) fn unrecognized(info: &KindInfo, input: &[u8], error: SchemaError) -> Rejection {
    let problem = format!("couldn't get version/kind; json parse error: {}", error.message);
    Rejection::bad_request(unrecognizable(info, input, &problem), vec![error])
}

pub(super) fn unrecognizable(info: &KindInfo, input: &[u8], problem: &str) -> String {
    let (kind, shown) = (&info.kind, summarize(input));
    format!("the object provided is unrecognized (must be of type {kind}): {problem} ({shown})")
}

/// The package of Kubernetes' own form of a kind, as its conversions name it.
fn internal_package(api_version: &str) -> &str {
    match api_version.split_once('/').map_or("", |(group, _)| group) {
        "" | "events.k8s.io" => "core",
        "internal.apiserver.k8s.io" => "apiserverinternal",
        group => group.split('.').next().unwrap_or(group),
    }
}

/// Why well-formed JSON does not say its kind: what Go's `json` says when it looks for that alone.
pub(super) fn no_type_meta(input: &[u8]) -> Option<String> {
    const HEAD: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let value = crate::merge::parse_value(input).ok()?;
    let Some(members) = value.as_object() else {
        return json_kind(&value)
            .map(|given| format!("json: cannot unmarshal {given} into Go value of type {HEAD}"));
    };
    members.iter().find_map(|(name, member)| {
        let given = json_kind(member).filter(|given| *given != "string")?;
        matches!(&**name, "apiVersion" | "kind")
            .then(|| format!("json: cannot unmarshal {given} into Go struct field .{name} of type string"))
    })
}

/// The beginning of a body, as upstream shows it in errors: text if it looks like JSON, else hexadecimal.
pub(crate) fn summarize(input: &[u8]) -> String {
    const SHOWN: usize = 30;
    let head = &input[..input.len().min(SHOWN)];
    let dots = if input.len() > SHOWN { " ..." } else { "" };
    match input.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(head)),
        Some(_) => head.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + dots,
    }
}

/// apiVersion and kind at the top of a well-formed body; empty where they are missing or no strings.
pub(crate) fn claimed_kind(input: &[u8]) -> (String, String) {
    #[derive(Default, serde::Deserialize)]
    struct Head<'a> {
        #[serde(borrow, default, rename = "apiVersion")]
        api_version: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        kind: Option<Cow<'a, str>>,
    }
    let head: Head<'_> = serde_json::from_slice(input).unwrap_or_default();
    let owned = |text: Option<Cow<'_, str>>| text.unwrap_or_default().into_owned();
    (owned(head.api_version), owned(head.kind))
}
