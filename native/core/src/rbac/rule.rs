//! One rule: as it is written, and compiled for matching.

use serde::{Deserialize, Serialize};

use super::Attributes;
use crate::go::quote;

/// rbac/v1 PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub resource_names: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub non_resource_urls: Vec<String>,
}

impl PolicyRule {
    /// As an escalation refusal prints it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    pub fn compact(&self) -> String {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let texts = fields.iter().filter(|(_, values)| !values.is_empty()).map(|(name, values)| {
            let quoted: Vec<String> = values.iter().map(|value| quote(value)).collect();
            format!("{name}:[{}]", quoted.join(" "))
        });
        format!("{{{}}}", texts.collect::<Vec<_>>().join(", "))
    }
}

/// Go writes nil slices as null.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The verbs that most rules name, as bits; the rest is compared as text.
const COMMON_VERBS: [&str; 8] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

fn verb_bit(verb: &str) -> u16 {
    COMMON_VERBS.iter().position(|common| *common == verb).map_or(0, |at| 1 << at)
}

/// The verb of a request, looked up once for all rules.
#[derive(Clone, Copy)]
pub struct Verb<'a> {
    text: &'a str,
    bit: u16,
}

impl<'a> Verb<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, bit: verb_bit(text) }
    }
}

/// A list of names one of which may be `*`.
#[derive(Clone, Debug)]
struct Names {
    all: bool,
    names: Box<[Box<str>]>,
}

impl Names {
    fn new(names: &[String]) -> Self {
        Self {
            all: names.iter().any(|name| name == "*"),
            names: names.iter().map(|name| name.as_str().into()).collect(),
        }
    }

    fn matches(&self, wanted: &str) -> bool {
        self.all || self.names.iter().any(|name| **name == *wanted)
    }
}

/// A resource pattern: `pods`, `pods/log` or `*/scale`.
#[derive(Clone, Debug)]
struct ResourcePattern {
    /// None stands for `*` before the slash.
    resource: Option<Box<str>>,
    subresource: Box<str>,
}

impl ResourcePattern {
    fn new(text: &str) -> Self {
        let (resource, subresource) = text.split_once('/').unwrap_or((text, ""));
        let any = resource == "*" && !subresource.is_empty();
        Self { resource: (!any).then(|| resource.into()), subresource: subresource.into() }
    }

    fn matches(&self, resource: &str, subresource: &str) -> bool {
        *self.subresource == *subresource && self.resource.as_deref().is_none_or(|own| own == resource)
    }
}

/// A rule made ready for matching.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    source: PolicyRule,
    verb_bits: u16,
    all_verbs: bool,
    other_verbs: Box<[Box<str>]>,
    groups: Names,
    all_resources: bool,
    resources: Box<[ResourcePattern]>,
}

impl CompiledRule {
    pub fn new(source: PolicyRule) -> Self {
        Self {
            verb_bits: source.verbs.iter().fold(0, |bits, verb| bits | verb_bit(verb)),
            all_verbs: source.verbs.iter().any(|verb| verb == "*"),
            other_verbs: source
                .verbs
                .iter()
                .filter(|verb| verb_bit(verb) == 0)
                .map(|verb| verb.as_str().into())
                .collect(),
            groups: Names::new(&source.api_groups),
            all_resources: source.resources.iter().any(|resource| resource == "*"),
            resources: source.resources.iter().map(|resource| ResourcePattern::new(resource)).collect(),
            source,
        }
    }

    pub fn source(&self) -> &PolicyRule {
        &self.source
    }

    pub fn allows(&self, attributes: &Attributes<'_>, verb: Verb<'_>) -> bool {
        if !self.verb_matches(verb) {
            return false;
        }
        if !attributes.is_resource {
            return self.source.non_resource_urls.iter().any(|rule| url_matches(rule, attributes.path));
        }
        self.groups.matches(attributes.group)
            && self.resource_matches(attributes.resource, attributes.subresource)
            && self.name_matches(attributes.name)
    }

    fn verb_matches(&self, verb: Verb<'_>) -> bool {
        self.all_verbs
            || self.verb_bits & verb.bit != 0
            || (verb.bit == 0 && self.other_verbs.iter().any(|own| **own == *verb.text))
    }

    fn resource_matches(&self, resource: &str, subresource: &str) -> bool {
        self.all_resources || self.resources.iter().any(|pattern| pattern.matches(resource, subresource))
    }

    fn name_matches(&self, name: &str) -> bool {
        self.source.resource_names.is_empty() || self.source.resource_names.iter().any(|own| own == name)
    }
}

/// `*`, the path itself, or a prefix that ends in `*`.
pub(super) fn url_matches(rule: &str, path: &str) -> bool {
    rule == "*" || rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: serde_json::Value) -> CompiledRule {
        CompiledRule::new(serde_json::from_value(json).unwrap())
    }

    fn asks<'a>(verb: &'a str, group: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes { verb, group, resource, subresource, name, is_resource: true, ..Attributes::default() }
    }

    fn allows(rule: &CompiledRule, attributes: &Attributes<'_>) -> bool {
        rule.allows(attributes, Verb::new(attributes.verb))
    }

    #[test]
    fn subresources_are_named_apart_or_starred() {
        let logs = rule(
            serde_json::json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log", "*/scale"]}),
        );
        assert!(allows(&logs, &asks("get", "", "pods/log", "p")));
        assert!(allows(&logs, &asks("get", "", "anything/scale", "p")));
        assert!(!allows(&logs, &asks("get", "", "pods", "p")));
        assert!(!allows(&logs, &asks("get", "", "pods/exec", "p")));
        let pods = rule(serde_json::json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        assert!(!allows(&pods, &asks("get", "", "pods/log", "p")));
        let all = rule(serde_json::json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        assert!(allows(&all, &asks("frobnicate", "x.io", "pods/log", "")));
        assert!(
            !all.allows(&Attributes { verb: "get", path: "/", ..Attributes::default() }, Verb::new("get"))
        );
    }

    #[test]
    fn resource_names_restrict_and_never_match_nameless_requests() {
        let one = rule(
            serde_json::json!({"verbs": ["get", "list", "impersonate"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}),
        );
        assert!(allows(&one, &asks("get", "", "secrets", "a")));
        assert!(allows(&one, &asks("impersonate", "", "secrets", "a")));
        assert!(!allows(&one, &asks("get", "", "secrets", "b")));
        assert!(!allows(&one, &asks("list", "", "secrets", "")));
        assert!(!allows(&one, &asks("get", "apps", "secrets", "a")));
    }

    #[test]
    fn non_resource_urls_match_exactly_or_by_prefix() {
        for (rule, path, expected) in [
            ("*", "/x", true),
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/ping", false),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz/*", "/healthz", false),
            ("/api*", "/apis/apps", true),
            ("", "/", false),
        ] {
            assert_eq!(url_matches(rule, path), expected, "{rule} {path}");
        }
    }

    #[test]
    fn null_lists_read_as_empty() {
        let rule: PolicyRule =
            serde_json::from_str(r#"{"verbs":["get"],"apiGroups":null,"resources":null}"#).unwrap();
        assert!(rule.resources.is_empty());
        assert_eq!(serde_json::to_string(&rule).unwrap(), r#"{"verbs":["get"]}"#);
    }
}
