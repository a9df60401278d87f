//! Which flow schema a request belongs to, and which flow of it. Source: apiserver `pkg/util/flowcontrol/rule.go`.

use kubecore_core::authn::UserInfo;
use kubecore_core::rbac::Attributes;

use crate::objects::{DistinguisherMethod, NonResourceRule, ResourceRule, Rule, SchemaSpec, Subject};

/// A request, as far as it is classified by, and told of.
pub trait Asked: Send + 'static {
    fn user(&self) -> &UserInfo;
    fn attributes(&self) -> Attributes<'_>;
    fn is_watch(&self) -> bool {
        self.attributes().verb == "watch"
    }
}

const ALL: &str = "*";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

impl SchemaSpec {
    pub fn matches(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(user, attributes))
    }
}

impl Rule {
    fn matches(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        self.subjects.iter().any(|subject| subject.is(user))
            && if attributes.is_resource {
                self.resource_rules.iter().any(|rule| rule.matches(attributes))
            } else {
                self.non_resource_rules.iter().any(|rule| rule.matches(attributes))
            }
    }
}

impl Subject {
    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::User { user: named } => named.name == ALL || named.name == user.username,
            Self::Group { group } => group.name == ALL || user.in_group(&group.name),
            Self::ServiceAccount { service_account: account } => {
                let Some(rest) = user.username.strip_prefix(SERVICE_ACCOUNT) else { return false };
                let Some((namespace, name)) = rest.split_once(':') else { return false };
                namespace == account.namespace && (account.name == ALL || account.name == name)
            }
        }
    }
}

/// A star stands for all, and then stands alone.
fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == wanted) || matches!(list, [star] if star == ALL)
}

impl ResourceRule {
    fn matches(&self, asked: &Attributes<'_>) -> bool {
        has(&self.verbs, asked.verb)
            && self.has_resource(asked)
            && has(&self.api_groups, asked.group)
            && if asked.namespace.is_empty() {
                self.cluster_scope
            } else {
                has(&self.namespaces, asked.namespace)
            }
    }

    fn has_resource(&self, asked: &Attributes<'_>) -> bool {
        if asked.subresource.is_empty() {
            return has(&self.resources, asked.resource);
        }
        let is = |one: &String| one.split_once('/') == Some((asked.resource, asked.subresource));
        self.resources.iter().any(is) || matches!(&self.resources[..], [star] if star == ALL)
    }
}

impl NonResourceRule {
    /// A path stands for what is below it, too, whether it ends in a star or not.
    fn matches(&self, asked: &Attributes<'_>) -> bool {
        has(&self.verbs, asked.verb)
            && self.urls.iter().any(|url| {
                let stem = url.strip_suffix(ALL).unwrap_or(url);
                let stem = stem.strip_suffix('/').unwrap_or(stem);
                url == ALL
                    || url == asked.path
                    || asked.path.strip_prefix(stem).is_some_and(|below| below.starts_with('/'))
            })
    }
}

/// What tells a request's flow from others of its schema.
pub fn distinguisher<'a>(
    method: Option<DistinguisherMethod>,
    user: &'a UserInfo,
    attributes: &Attributes<'a>,
) -> &'a str {
    match method {
        None => "",
        Some(DistinguisherMethod::ByUser) => &user.username,
        Some(DistinguisherMethod::ByNamespace) => attributes.namespace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(rules: &str) -> SchemaSpec {
        let text = format!(r#"{{"priorityLevelConfiguration":{{"name":"l"}},"rules":[{rules}]}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn pods<'a>(verb: &'a str, namespace: &'a str, subresource: &'a str) -> Attributes<'a> {
        let resource = Attributes { verb, namespace, subresource, resource: "pods", ..Attributes::default() };
        Attributes { version: "v1", is_resource: true, ..resource }
    }

    #[test]
    fn subjects_are_users_groups_and_service_accounts() {
        let user = |name: &str| UserInfo::new(name, &["devs", "system:authenticated"]);
        let is = |subject: &str, name: &str| {
            let rule = r#""nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]"#;
            let attributes = Attributes { verb: "get", path: "/x", ..Attributes::default() };
            spec(&format!(r#"{{"subjects":[{subject}],{rule}}}"#)).matches(&user(name), &attributes)
        };
        assert!(is(r#"{"kind":"User","user":{"name":"*"}}"#, "jane"));
        assert!(!is(r#"{"kind":"User","user":{"name":"bob"}}"#, "jane"));
        assert!(is(r#"{"kind":"Group","group":{"name":"devs"}}"#, "jane"));
        assert!(!is(r#"{"kind":"Group","group":{"name":"ops"}}"#, "jane"));
        let account = r#"{"kind":"ServiceAccount","serviceAccount":{"namespace":"a","name":"*"}}"#;
        assert!(is(account, "system:serviceaccount:a:x"));
        assert!(!is(account, "system:serviceaccount:ab:x"));
        assert!(!is(account, "jane"));
    }

    #[test]
    fn a_resource_rule_means_a_scope() {
        let rule = |scope: &str| {
            let common = r#""verbs":["get"],"apiGroups":[""],"resources":["pods","pods/log"]"#;
            spec(&format!(
                r#"{{"subjects":[{{"kind":"User","user":{{"name":"*"}}}}],"resourceRules":[{{{common},{scope}}}]}}"#
            ))
        };
        let user = UserInfo::new("u", &[]);
        let (named, cluster) = (rule(r#""namespaces":["a"]"#), rule(r#""clusterScope":true"#));
        assert!(named.matches(&user, &pods("get", "a", "")));
        assert!(named.matches(&user, &pods("get", "a", "log")));
        assert!(!named.matches(&user, &pods("get", "a", "status")));
        assert!(!named.matches(&user, &pods("list", "a", "")));
        assert!(!named.matches(&user, &pods("get", "b", "")));
        assert!(!named.matches(&user, &pods("get", "", "")));
        assert!(cluster.matches(&user, &pods("get", "", "")));
        assert!(!cluster.matches(&user, &pods("get", "a", "")));
    }

    #[test]
    fn a_path_means_what_is_below_it() {
        let user = UserInfo::new("u", &[]);
        let rule = spec(
            r#"{"subjects":[{"kind":"User","user":{"name":"*"}}],
                "nonResourceRules":[{"verbs":["get"],"nonResourceURLs":["/healthz","/apis/*"]}]}"#,
        );
        let asks = |path| rule.matches(&user, &Attributes { verb: "get", path, ..Attributes::default() });
        assert!(asks("/healthz") && asks("/healthz/ping") && asks("/apis/apps"));
        assert!(!asks("/healthzz") && !asks("/version"));
    }
}
