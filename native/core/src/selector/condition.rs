//! What the requirements of a selector come to, key by key: so that neither many of them nor many values make an object
//! cost more than a look-up for each of its labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Pairs;
use super::label::{Operator, Requirement};

/// Up to so many keys are looked up in the labels, more of them the other way round.
const FEW: usize = 8;

/// All that is required of one label.
#[derive(Clone, Debug, Default)]
struct Condition {
    key: Box<str>,
    must_be: bool,
    must_not_be: bool,
    /// In order; None: any value will do.
    allowed: Option<Vec<Box<str>>>,
    /// In order.
    denied: Vec<Box<str>>,
    above: Option<i64>,
    below: Option<i64>,
}

/// Conditions in the order of their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    each: Arc<[Condition]>,
    /// How many of them need the label to be there.
    needed: usize,
}

impl Conditions {
    pub fn of(requirements: &[Requirement]) -> Self {
        let mut by_key: BTreeMap<&str, Condition> = BTreeMap::new();
        for requirement in requirements {
            by_key.entry(requirement.key()).or_default().add(requirement);
        }
        let each: Arc<[Condition]> =
            by_key.into_iter().map(|(key, condition)| condition.finished(key)).collect();
        let needed = each.iter().filter(|condition| condition.must_be).count();
        Self { each, needed }
    }

    pub fn hold<L: Pairs + ?Sized>(&self, labels: &L) -> bool {
        if self.each.len() <= FEW {
            return self.each.iter().all(|condition| match labels.lookup(&condition.key) {
                Some(value) => condition.allows(value),
                None => !condition.must_be,
            });
        }
        let mut there = 0;
        let all_hold = labels.all(|key, value| {
            let Ok(found) = self.each.binary_search_by(|condition| (*condition.key).cmp(key)) else {
                return true;
            };
            there += usize::from(self.each[found].must_be);
            self.each[found].allows(value)
        });
        all_hold && there == self.needed
    }
}

impl Condition {
    fn add(&mut self, requirement: &Requirement) {
        let operator = requirement.operator();
        self.must_be |= !matches!(operator, Operator::NotEquals | Operator::NotIn | Operator::DoesNotExist);
        match operator {
            Operator::Exists => {}
            Operator::DoesNotExist => self.must_not_be = true,
            Operator::NotEquals | Operator::NotIn => self.denied.extend(requirement.values().map(Into::into)),
            Operator::Equals | Operator::DoubleEquals | Operator::In => {
                let mut given: Vec<Box<str>> = requirement.values().map(Into::into).collect();
                given.sort_unstable();
                if let Some(before) = &self.allowed {
                    given.retain(|value| has(before, value));
                }
                self.allowed = Some(given);
            }
            Operator::GreaterThan => self.above = self.above.max(Some(requirement.bound())),
            Operator::LessThan => {
                let bound = requirement.bound();
                self.below = Some(self.below.map_or(bound, |before| before.min(bound)));
            }
        }
    }

    fn finished(mut self, key: &str) -> Self {
        self.key = key.into();
        self.denied.sort_unstable();
        self
    }

    fn allows(&self, value: &str) -> bool {
        !self.must_not_be
            && self.allowed.as_ref().is_none_or(|allowed| has(allowed, value))
            && !has(&self.denied, value)
            && (self.above.is_none() && self.below.is_none() || self.is_within(value))
    }

    fn is_within(&self, value: &str) -> bool {
        value.parse().is_ok_and(|number: i64| {
            self.above.is_none_or(|bound| number > bound) && self.below.is_none_or(|bound| number < bound)
        })
    }
}

fn has(sorted: &[Box<str>], value: &str) -> bool {
    sorted.binary_search_by(|known| (**known).cmp(value)).is_ok()
}
