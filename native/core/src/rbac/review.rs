//! What a user holds, for SelfSubjectRulesReview, and whether that covers what it wants to grant.

use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;

use super::policy::Policy;
use super::rule::{PolicyRule, url_matches};
use crate::authn::UserInfo;

/// The rules of the user in the namespace and the errors met while resolving them.
pub fn rules_for(policy: &Policy, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
    // Whoever may write roles decides how many there are.
    let (mut rules, mut errors) = (IndexSet::<PolicyRule, FxBuildHasher>::default(), Vec::new());
    policy.visit(user, namespace, |_, found| match found {
        Ok(found) => {
            for rule in found.iter().map(|rule| rule.source()) {
                if !rules.contains(rule) {
                    rules.insert(rule.clone());
                }
            }
        }
        Err(error) => errors.push(error),
    });
    (rules.into_iter().collect(), errors)
}

/// The atoms of `wanted` that no rule of `held` covers; empty when all are covered.
///
/// Source: kubernetes `pkg/registry/rbac/validation` and `component-helpers/auth/rbac/validation`.
pub fn covers(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let is_held = |wanted: &PolicyRule| held.iter().any(|rule| rule_covers(rule, wanted));
    // What one rule covers as a whole is not broken down; of URLs it is asked one by one.
    let is_held_whole = |wanted: &PolicyRule| wanted.non_resource_urls.is_empty() && is_held(wanted);
    let open = wanted.iter().filter(|wanted| !is_held_whole(wanted));
    open.flat_map(atoms).filter(|atom| !is_held(atom)).collect()
}

/// A rule broken down into one verb, group, resource and name (or URL) each.
fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut atoms = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let atom = PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    atoms.push(atom);
                    continue;
                }
                for name in &rule.resource_names {
                    atoms.push(PolicyRule { resource_names: vec![name.clone()], ..atom.clone() });
                }
            }
        }
    }
    for url in &rule.non_resource_urls {
        for verb in &rule.verbs {
            atoms.push(PolicyRule {
                verbs: vec![verb.clone()],
                non_resource_urls: vec![url.clone()],
                ..PolicyRule::default()
            });
        }
    }
    atoms
}

/// Whether one rule covers one atom.
fn rule_covers(rule: &PolicyRule, atom: &PolicyRule) -> bool {
    let has = |list: &[String], wanted: &[String]| {
        list.iter().any(|item| item == "*") || wanted.iter().all(|item| list.contains(item))
    };
    if !has(&rule.verbs, &atom.verbs) {
        return false;
    }
    if let [url] = atom.non_resource_urls.as_slice() {
        return rule.non_resource_urls.iter().any(|own| url_matches(own, url));
    }
    let names = rule.resource_names.is_empty()
        || (!atom.resource_names.is_empty()
            && atom.resource_names.iter().all(|name| rule.resource_names.contains(name)));
    has(&rule.api_groups, &atom.api_groups)
        && atom.resources.iter().all(|resource| resource_covers(&rule.resources, resource))
        && names
}

fn resource_covers(held: &[String], wanted: &str) -> bool {
    held.iter().any(|own| {
        own == "*"
            || own == wanted
            || own
                .strip_prefix("*/")
                .is_some_and(|sub| wanted.split_once('/').is_some_and(|(_, own)| own == sub))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(prop::sample::select(words), 0..3)
            .prop_map(|chosen| chosen.into_iter().map(str::to_owned).collect())
    }

    fn rule() -> impl Strategy<Value = PolicyRule> {
        let verbs = some_of(&["get", "list", "*"]);
        let groups = some_of(&["", "apps", "*"]);
        let resources = some_of(&["pods", "pods/log", "*/log", "*"]);
        let (names, urls) = (some_of(&["a", "b"]), some_of(&["/metrics", "/metrics/*", "*"]));
        (verbs, groups, resources, names, urls).prop_map(
            |(verbs, api_groups, resources, resource_names, non_resource_urls)| PolicyRule {
                verbs,
                api_groups,
                resources,
                resource_names,
                non_resource_urls,
            },
        )
    }

    proptest! {
        #[test]
        fn a_rule_is_covered_when_each_of_its_parts_is(
            held in prop::collection::vec(rule(), 0..4),
            wanted in prop::collection::vec(rule(), 0..3),
        ) {
            let parts: Vec<_> = wanted.iter().flat_map(atoms).collect();
            let lacking: Vec<_> =
                parts.into_iter().filter(|part| !held.iter().any(|rule| rule_covers(rule, part))).collect();
            prop_assert_eq!(covers(&held, &wanted), lacking);
        }
    }
}
