//! Which requests the audit hears of, and how much: rules, of which the first that matches counts.
//!
//! Source: apiserver `pkg/audit/policy/checker.go`. The policy comes validated.

use kubecore_core::authn::UserInfo;
use kubecore_core::rbac::Attributes;
use serde::Deserialize;

/// How much of a request is told; each one tells what those before it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Request, Self::RequestResponse];

    pub fn name(self) -> &'static str {
        ["None", "Metadata", "Request", "RequestResponse"][self as usize]
    }
}

/// When an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    RequestReceived,
    /// Of requests that last: the head of the answer is out, the body follows.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub fn name(self) -> &'static str {
        ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"][self as usize]
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    level: Level,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What a policy says of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    omitted: [bool; 4],
    pub omit_managed_fields: bool,
}

impl Verdict {
    pub fn tells(&self, stage: Stage) -> bool {
        !self.omitted[stage as usize]
    }
}

impl Policy {
    /// `user` is None where nobody could be authenticated.
    pub fn judge(&self, user: Option<&UserInfo>, attributes: &Attributes<'_>) -> Verdict {
        let mut verdict = Verdict { omit_managed_fields: self.omit_managed_fields, ..Verdict::default() };
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, attributes)) else {
            return verdict;
        };
        verdict.level = rule.level;
        if let Some(omit) = rule.omit_managed_fields {
            verdict.omit_managed_fields = omit;
        }
        for stage in self.omit_stages.iter().chain(&rule.omit_stages) {
            verdict.omitted[*stage as usize] = true;
        }
        verdict
    }
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|one| one == value)
}

impl Rule {
    fn matches(&self, user: Option<&UserInfo>, attributes: &Attributes<'_>) -> bool {
        if !self.users.is_empty() && !user.is_some_and(|user| has(&self.users, &user.username)) {
            return false;
        }
        if !self.user_groups.is_empty()
            && !user.is_some_and(|user| user.groups.iter().any(|group| has(&self.user_groups, group)))
        {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, attributes.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return attributes.is_resource && self.matches_resource(attributes);
        }
        if !self.paths.is_empty() {
            return !attributes.is_resource && self.paths.iter().any(|path| is_path(path, attributes.path));
        }
        true
    }

    fn matches_resource(&self, attributes: &Attributes<'_>) -> bool {
        (self.namespaces.is_empty() || has(&self.namespaces, attributes.namespace))
            && (self.resources.is_empty() || self.resources.iter().any(|one| one.matches(attributes)))
    }
}

fn is_path(pattern: &str, path: &str) -> bool {
    pattern == "*"
        || pattern == path
        || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

impl Resources {
    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        if self.group != attributes.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        (self.resource_names.is_empty() || has(&self.resource_names, attributes.name))
            && self.resources.iter().any(|pattern| is_resource(pattern, attributes))
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/log` or `*`, which is all of them.
fn is_resource(pattern: &str, attributes: &Attributes<'_>) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => pattern == attributes.resource && attributes.subresource.is_empty(),
        Some((resource, "*")) => resource == attributes.resource,
        Some(("*", subresource)) => !subresource.is_empty() && subresource == attributes.subresource,
        Some((resource, subresource)) => {
            resource == attributes.resource && subresource == attributes.subresource
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(policy: &str, user: Option<&UserInfo>, attributes: &Attributes<'_>) -> Level {
        serde_json::from_str::<Policy>(policy).unwrap().judge(user, attributes).level
    }

    fn pod(subresource: &'static str) -> Attributes<'static> {
        Attributes {
            verb: "get",
            version: "v1",
            resource: "pods",
            subresource,
            namespace: "a",
            name: "p",
            is_resource: true,
            ..Attributes::default()
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let policy = r#"{"rules":[{"level":"None","users":["a"]},{"level":"Request","userGroups":["g"]},{"level":"Metadata"}]}"#;
        assert_eq!(level(policy, Some(&UserInfo::new("a", &["g"])), &pod("")), Level::None);
        assert_eq!(level(policy, Some(&UserInfo::new("b", &["g"])), &pod("")), Level::Request);
        assert_eq!(level(policy, None, &pod("")), Level::Metadata);
        assert_eq!(level(r#"{"rules":[{"level":"Request","verbs":["list"]}]}"#, None, &pod("")), Level::None);
    }

    #[test]
    fn resources_are_named_with_their_subresource() {
        for (pattern, subresource, expected) in [
            ("pods", "", true),
            ("pods", "log", false),
            ("pods/log", "log", true),
            ("pods/*", "log", true),
            ("pods/*", "", true),
            ("*/log", "log", true),
            ("*/log", "", false),
            ("*", "log", true),
        ] {
            let policy = format!(
                r#"{{"rules":[{{"level":"Metadata","resources":[{{"resources":["{pattern}"]}}]}}]}}"#
            );
            assert_eq!(
                level(&policy, None, &pod(subresource)) == Level::Metadata,
                expected,
                "{pattern} {subresource}"
            );
        }
        let named =
            r#"{"rules":[{"level":"Metadata","resources":[{"resources":["pods"],"resourceNames":["q"]}]}]}"#;
        assert_eq!(level(named, None, &pod("")), Level::None);
        let elsewhere = r#"{"rules":[{"level":"Metadata","namespaces":["b"]}]}"#;
        assert_eq!(level(elsewhere, None, &pod("")), Level::None);
    }

    #[test]
    fn paths_may_end_in_a_star() {
        let policy = r#"{"rules":[{"level":"Metadata","nonResourceURLs":["/healthz*","/version"]}]}"#;
        let asked = |path| Attributes { verb: "get", path, ..Attributes::default() };
        assert_eq!(level(policy, None, &asked("/healthz/ping")), Level::Metadata);
        assert_eq!(level(policy, None, &asked("/version")), Level::Metadata);
        assert_eq!(level(policy, None, &asked("/versions")), Level::None);
        assert_eq!(level(policy, None, &pod("")), Level::None);
    }

    #[test]
    fn stages_are_left_out_for_all_and_for_a_rule() {
        let policy: Policy = serde_json::from_str(
            r#"{"omitStages":["RequestReceived"],"rules":[{"level":"Metadata","omitStages":["Panic"]}]}"#,
        )
        .unwrap();
        let verdict = policy.judge(None, &pod(""));
        let told = |stage| verdict.tells(stage);
        assert_eq!(
            [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic].map(told),
            [false, true, true, false]
        );
    }
}
