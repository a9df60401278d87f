//! Policies of a file: a user or a group may do something, to read or at all.
//!
//! Source: kubernetes `pkg/auth/authorizer/abac`.

use kubecore_core::authn::UserInfo;
use kubecore_core::rbac::Attributes;
use serde::Deserialize;

const ANY: &str = "*";

/// One policy, as v1beta1 has it after conversion: empty means nothing but an empty value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Policy {
    pub user: String,
    pub group: String,
    pub readonly: bool,
    pub api_group: String,
    pub resource: String,
    pub namespace: String,
    pub non_resource_path: String,
}

impl Policy {
    pub fn allows(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        self.means(user)
            && (!self.readonly || matches!(attributes.verb, "get" | "list" | "watch"))
            && (if attributes.is_resource {
                self.has_resource(attributes)
            } else {
                self.has_path(attributes.path)
            })
    }

    /// Both must fit where both are named; one must be.
    fn means(&self, user: &UserInfo) -> bool {
        let named = !self.user.is_empty() || !self.group.is_empty();
        named
            && (self.user.is_empty() || fits(&self.user, &user.username))
            && (self.group.is_empty() || self.group == ANY || user.in_group(&self.group))
    }

    fn has_resource(&self, attributes: &Attributes<'_>) -> bool {
        fits(&self.namespace, attributes.namespace)
            && fits(&self.resource, attributes.resource)
            && fits(&self.api_group, attributes.group)
    }

    fn has_path(&self, path: &str) -> bool {
        fits(&self.non_resource_path, path)
            || (self.non_resource_path.ends_with('*')
                && path.starts_with(self.non_resource_path.trim_end_matches('*')))
    }
}

fn fits(pattern: &str, value: &str) -> bool {
    pattern == ANY || pattern == value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Policy {
        serde_json::from_str(json).unwrap()
    }

    fn pods(verb: &'static str, namespace: &'static str) -> Attributes<'static> {
        Attributes { verb, resource: "pods", namespace, is_resource: true, ..Attributes::default() }
    }

    #[test]
    fn a_policy_is_for_its_user_and_its_group() {
        let jane = UserInfo::new("jane", &["dev"]);
        for (who, allowed) in [
            (r#""user":"jane""#, true),
            (r#""user":"john""#, false),
            (r#""group":"dev""#, true),
            (r#""user":"jane","group":"ops""#, false),
            (r#""group":"*""#, true),
            (r#""readonly":false"#, false),
        ] {
            let one = policy(&format!(r#"{{{who},"namespace":"*","resource":"*","apiGroup":"*"}}"#));
            assert_eq!(one.allows(&jane, &pods("delete", "a")), allowed, "{who}");
        }
    }

    #[test]
    fn what_is_for_reading_allows_no_writing() {
        let jane = UserInfo::new("jane", &[]);
        let one = policy(r#"{"user":"jane","namespace":"a","resource":"pods","readonly":true}"#);
        assert!(one.allows(&jane, &pods("watch", "a")));
        assert!(!one.allows(&jane, &pods("create", "a")));
        assert!(!one.allows(&jane, &pods("get", "b")));
    }

    #[test]
    fn paths_are_exact_or_begin_so() {
        let jane = UserInfo::new("jane", &[]);
        let at = |pattern: &str, path| {
            let one = policy(&format!(r#"{{"user":"jane","nonResourcePath":"{pattern}"}}"#));
            one.allows(&jane, &Attributes { verb: "get", path, ..Attributes::default() })
        };
        assert!(at("/logs/*", "/logs/x") && at("*", "/x") && at("/x", "/x"));
        assert!(!at("/logs/*", "/metrics") && !at("/x", "/x/y"));
    }
}
