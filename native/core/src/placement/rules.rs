//! What pods say of nodes (selector, node affinity, tolerations), and what was found of each node so far.

use std::cell::Cell;

use super::facts::{Labels, NodeAffinity, NodeFacts, NodeRequirement, NodeTerm, Taint, Toleration};
use super::nodes::{Nodes, Slot};
use crate::selector::Lookup;

/// The part of a pod that chooses among nodes by what they are. Pods of one controller share one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeRule {
    pub selector: Labels,
    pub affinity: NodeAffinity,
    pub tolerations: Vec<Toleration>,
}

impl NodeRule {
    /// Whether selector and required affinity let the pod run there. (Nothing asked for: everywhere.)
    pub fn accepts(&self, name: &str, node: &NodeFacts) -> bool {
        if !node.labels.include(&self.selector) {
            return false;
        }
        let Some(required) = &self.affinity.required else { return true };
        required.node_selector_terms.iter().any(|term| term.matches(name, node))
    }

    pub fn chooses(&self) -> bool {
        !self.selector.0.is_empty() || self.affinity.required.is_some()
    }

    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|one| one.tolerates(taint))
    }

    pub fn tolerates_node(&self, node: &NodeFacts) -> bool {
        let keeps_off = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        node.taints.iter().filter(keeps_off).all(|taint| self.tolerates(taint))
    }

    pub fn tolerates_cordon(&self) -> bool {
        self.tolerates(&Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            value: String::new(),
            effect: "NoSchedule".into(),
        })
    }

    /// How many taints would rather keep the pod off.
    pub fn intolerable(&self, node: &NodeFacts) -> i64 {
        let soft = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        soft.filter(|taint| !self.tolerates(taint)).count() as i64
    }

    fn preference(&self, name: &str, node: &NodeFacts) -> i64 {
        let preferred = self.affinity.preferred.iter();
        preferred.filter(|one| one.preference.matches(name, node)).map(|one| one.weight).sum()
    }

    /// The only nodes that can match, when each required term names some (as those of a DaemonSet's pods do).
    pub fn named(&self) -> Option<Vec<String>> {
        let terms = &self.affinity.required.as_ref()?.node_selector_terms;
        let mut names = Vec::new();
        for term in terms {
            let by_name = |one: &&NodeRequirement| one.key == "metadata.name" && one.operator == "In";
            let mut given = term.match_fields.iter().filter(by_name);
            let mut of_term = given.next()?.values.clone();
            given.for_each(|other| of_term.retain(|name| other.values.contains(name)));
            names.append(&mut of_term);
        }
        if terms.is_empty() {
            return None;
        }
        names.sort();
        names.dedup();
        Some(names)
    }
}

impl NodeTerm {
    /// All expressions and fields; a term without any matches nothing.
    fn matches(&self, name: &str, node: &NodeFacts) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        self.match_expressions.iter().all(|one| one.matches(node.labels.lookup(&one.key)))
            && self.match_fields.iter().all(|one| one.matches((one.key == "metadata.name").then_some(name)))
    }
}

impl NodeRequirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|value| self.values.iter().any(|one| one == value));
        match self.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => self.compared(value).is_some_and(|(left, right)| left > right),
            "Lt" => self.compared(value).is_some_and(|(left, right)| left < right),
            _ => false,
        }
    }

    fn compared(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

/// What a rule says of each node, worked out when first asked for. By slot.
pub struct Findings {
    accepts: Vec<Cell<Option<bool>>>,
    tolerates: Vec<Cell<Option<bool>>>,
    preference: Vec<Cell<Option<i64>>>,
}

impl Findings {
    pub fn new(rule: &NodeRule, nodes: usize) -> Self {
        let mut made = Self { accepts: Vec::new(), tolerates: Vec::new(), preference: Vec::new() };
        made.resize(rule, nodes);
        made
    }

    pub fn resize(&mut self, rule: &NodeRule, nodes: usize) {
        if rule.chooses() {
            self.accepts.resize(nodes, Cell::new(None));
        }
        self.tolerates.resize(nodes, Cell::new(None));
        if !rule.affinity.preferred.is_empty() {
            self.preference.resize(nodes, Cell::new(None));
        }
    }

    /// The node has changed.
    pub fn forget(&mut self, slot: Slot) {
        for memo in [&self.accepts, &self.tolerates] {
            if let Some(cell) = memo.get(slot) {
                cell.set(None);
            }
        }
        if let Some(cell) = self.preference.get(slot) {
            cell.set(None);
        }
    }

    pub fn accepts(&self, rule: &NodeRule, nodes: &Nodes, slot: Slot) -> bool {
        remembered(&self.accepts, slot, || {
            nodes.facts[slot].as_ref().map(|node| rule.accepts(&nodes.names[slot], node))
        })
        .unwrap_or(!rule.chooses())
    }

    pub fn tolerates(&self, rule: &NodeRule, nodes: &Nodes, slot: Slot) -> bool {
        if !nodes.guarded[slot] {
            return true;
        }
        remembered(&self.tolerates, slot, || nodes.facts[slot].as_ref().map(|node| rule.tolerates_node(node)))
            .unwrap_or(false)
    }

    pub fn preference(&self, rule: &NodeRule, nodes: &Nodes, slot: Slot) -> i64 {
        let found = || nodes.facts[slot].as_ref().map(|node| rule.preference(&nodes.names[slot], node));
        remembered(&self.preference, slot, found).unwrap_or_default()
    }
}

fn remembered<T: Copy>(memo: &[Cell<Option<T>>], slot: Slot, find: impl FnOnce() -> Option<T>) -> Option<T> {
    let cell = memo.get(slot)?;
    if cell.get().is_none() {
        cell.set(find());
    }
    cell.get()
}
