//! What a user holds, for SelfSubjectRulesReview, and whether that covers what it wants to grant.

use std::collections::BTreeSet;
use std::mem::take;

use indexmap::{IndexMap, IndexSet};
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

/// So many permissions are more than can be checked while others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany(pub u64);

/// A thousand verbs of a thousand resources of a thousand groups are said in a few kilobytes. Upstream's largest role has
/// some two hundred.
const MOST_PERMISSIONS: u64 = 20_000;
/// Of one permission with one rule: some ten nanoseconds each.
const MOST_COMPARISONS: u64 = 50_000_000;

/// The atoms of `wanted` that no rule of `held` covers; empty when all are covered.
///
/// Source: kubernetes `pkg/registry/rbac/validation` and `component-helpers/auth/rbac/validation`.
pub fn covers(held: &[PolicyRule], wanted: &[PolicyRule]) -> Result<Vec<PolicyRule>, TooMany> {
    let is_held = |wanted: &PolicyRule| held.iter().any(|rule| rule_covers(rule, wanted));
    let is_affordable = |count: u64| count.saturating_mul(held.len() as u64) <= MOST_COMPARISONS;
    let looks_at_wholes = is_affordable(wanted.len() as u64);
    // What one rule covers as a whole is not broken down; of URLs it is asked one by one.
    let is_held_whole =
        |wanted: &PolicyRule| looks_at_wholes && wanted.non_resource_urls.is_empty() && is_held(wanted);
    let open: Vec<_> = wanted.iter().filter(|wanted| !is_held_whole(wanted)).collect();
    let count = open.iter().fold(0, |sum: u64, rule| sum.saturating_add(permissions(rule)));
    if count > MOST_PERMISSIONS || !is_affordable(count) {
        return Err(TooMany(count));
    }
    Ok(open.into_iter().flat_map(atoms).filter(|atom| !is_held(atom)).collect())
}

/// What is lacking, in order: a line for each resource, with all of its verbs, and for each URL and verb.
///
/// Source: kubernetes `pkg/registry/rbac/validation` (ConfirmNoEscalation, CompactRules).
pub fn described(lacking: Vec<PolicyRule>) -> Vec<String> {
    let mut lines = BTreeSet::new();
    let mut of_resources = IndexMap::<_, Vec<String>, FxBuildHasher>::default();
    for mut atom in lacking {
        if atom.non_resource_urls.is_empty() {
            let verbs = take(&mut atom.verbs);
            of_resources.entry(atom).or_default().extend(verbs);
        } else {
            lines.insert(atom.compact());
        }
    }
    lines.extend(of_resources.into_iter().map(|(rule, verbs)| PolicyRule { verbs, ..rule }.compact()));
    lines.into_iter().collect()
}

/// How many atoms a rule has.
fn permissions(rule: &PolicyRule) -> u64 {
    let product =
        |lists: &[usize]| lists.iter().fold(1, |sum: u64, length| sum.saturating_mul(*length as u64));
    let (verbs, names) = (rule.verbs.len(), rule.resource_names.len().max(1));
    product(&[verbs, rule.api_groups.len(), rule.resources.len(), names])
        .saturating_add(product(&[verbs, rule.non_resource_urls.len()]))
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
        fn a_rule_has_as_many_permissions_as_parts(rule in rule()) {
            prop_assert_eq!(permissions(&rule), atoms(&rule).len() as u64);
        }

        #[test]
        fn a_rule_is_covered_when_each_of_its_parts_is(
            held in prop::collection::vec(rule(), 0..4),
            wanted in prop::collection::vec(rule(), 0..3),
        ) {
            let parts: Vec<_> = wanted.iter().flat_map(atoms).collect();
            let lacking: Vec<_> =
                parts.into_iter().filter(|part| !held.iter().any(|rule| rule_covers(rule, part))).collect();
            prop_assert_eq!(covers(&held, &wanted), Ok(lacking));
        }
    }

    fn words(count: usize) -> Vec<String> {
        (0..count).map(|number| number.to_string()).collect()
    }

    #[test]
    fn what_cannot_be_checked_in_a_moment_is_refused_unless_one_rule_covers_it() {
        let large = PolicyRule {
            verbs: words(100),
            api_groups: words(100),
            resources: words(100),
            ..PolicyRule::default()
        };
        assert_eq!(covers(&[], std::slice::from_ref(&large)), Err(TooMany(1_000_000)));
        assert_eq!(covers(std::slice::from_ref(&large), std::slice::from_ref(&large)), Ok(Vec::new()));
        let small = PolicyRule { verbs: words(20), ..large };
        let many = vec![PolicyRule::default(); 10_000];
        assert_eq!(covers(&many, &[PolicyRule { resources: words(10), ..small }]), Err(TooMany(20_000)));
    }
}
