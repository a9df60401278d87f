//! The pods on the nodes, counted by everything that pods ask of other pods.
//!
//! Pods are told apart by label set (namespace, labels, whether they are being deleted). A selector knows which sets it
//! chooses, and how many such pods each node has; domain counts sum that up by the value of a topology key. All of it
//! is kept up to date by each pod that comes or goes, so that a decision looks counts up and never goes through pods.

use rustc_hash::FxHashMap;

use super::facts::Labels;
use super::nodes::{NO_VALUE, Nodes, Slot};
use super::registry::{Id, Registry};
use super::rules::{Findings, NodeRule};
use crate::selector::LabelSelector;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelSet {
    pub namespace: String,
    pub labels: Labels,
    pub deleting: bool,
}

/// Pods of some namespaces with some labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodChoice {
    /// Sorted.
    pub namespaces: Vec<String>,
    /// Further namespaces, by their labels.
    pub namespace_selector: Option<LabelSelector>,
    pub selector: LabelSelector,
    /// Labels that a pod must have as well.
    pub same: Labels,
}

impl PodChoice {
    pub fn matches(&self, set: &LabelSet, namespaces: &FxHashMap<String, Labels>) -> bool {
        let in_namespace = self.namespaces.binary_search(&set.namespace).is_ok()
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                match namespaces.get(&set.namespace) {
                    Some(labels) => selector.matches(labels),
                    None => selector.matches(&Labels::default()),
                }
            });
        in_namespace && set.labels.include(&self.same) && self.selector.matches(&set.labels)
    }
}

/// Pods that all of the choices choose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodSelector {
    pub choices: Vec<PodChoice>,
    /// Pods that are being deleted do not count.
    pub living: bool,
}

impl PodSelector {
    pub fn matches(&self, set: &LabelSet, namespaces: &FxHashMap<String, Labels>) -> bool {
        !(self.living && set.deleting) && self.choices.iter().all(|choice| choice.matches(set, namespaces))
    }
}

/// Pods that a selector chooses, by the value of a label of their nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainKey {
    pub selector: Id,
    pub column: usize,
    /// Nodes that lack one of these labels do not count.
    pub required: Vec<usize>,
    /// Nodes that this rule does not accept do not count.
    pub accepted_by: Option<Id>,
    /// Nor those whose taints this rule does not tolerate.
    pub tolerated_by: Option<Id>,
}

/// What a pod that is there asks of others that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    KeepOff,
    ComeHere,
    /// Negative: rather keep off.
    Preferably(i64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CarriedTerm {
    pub choice: PodChoice,
    pub column: usize,
    pub claim: Claim,
}

#[derive(Default)]
pub struct SetState {
    /// How many pods of the set each node has.
    nodes: FxHashMap<Slot, u32>,
    /// Selectors that choose it.
    pub chosen_by: Vec<Id>,
    /// Terms of other pods that choose it.
    pub wanted_by: Vec<Id>,
}

#[derive(Default)]
pub struct SelectorState {
    pub on_node: Vec<u32>,
    domains: Vec<Id>,
}

/// By the number of the value.
#[derive(Default)]
pub struct DomainCounts {
    pub pods: Vec<u32>,
    /// Nodes that count: a value without any is no domain.
    pub nodes: Vec<u32>,
    pub domains: usize,
    pub total: u64,
}

#[derive(Default)]
pub struct Carriers {
    on_node: FxHashMap<Slot, u32>,
    pub pods: Vec<u32>,
    pub total: u64,
}

#[derive(Default)]
pub struct Population {
    namespaces: FxHashMap<String, Labels>,
    pub sets: Registry<LabelSet, SetState>,
    pub selectors: Registry<PodSelector, SelectorState>,
    pub domains: Registry<DomainKey, DomainCounts>,
    pub carried: Registry<CarriedTerm, Carriers>,
    pub rules: Registry<NodeRule, Findings>,
}

impl Population {
    // ------------------------------------------------------------------ acquiring
    pub fn acquire_set(&mut self, key: LabelSet) -> Id {
        let Self { namespaces, sets, selectors, carried, .. } = self;
        sets.acquire(key, |set| SetState {
            nodes: FxHashMap::default(),
            chosen_by: selectors
                .iter()
                .filter(|(_, one, _)| one.matches(set, namespaces))
                .map(|one| one.0)
                .collect(),
            wanted_by: wanted_by(carried, set, namespaces),
        })
        .0
    }

    pub fn acquire_rule(&mut self, key: NodeRule, nodes: &Nodes) -> Id {
        self.rules.acquire(key, |rule| Findings::new(rule, nodes.len())).0
    }

    pub fn acquire_selector(&mut self, key: PodSelector, nodes: &Nodes) -> Id {
        let Self { namespaces, sets, selectors, .. } = self;
        let mut on_node = vec![0; nodes.len()];
        let mut chosen = Vec::new();
        let (id, is_new) = selectors.acquire(key, |selector| {
            for (id, _, state) in sets.iter().filter(|(_, set, _)| selector.matches(set, namespaces)) {
                chosen.push(id);
                state.nodes.iter().for_each(|(&slot, &count)| on_node[slot] += count);
            }
            SelectorState { on_node, domains: Vec::new() }
        });
        if is_new {
            chosen.into_iter().for_each(|set| sets[set].chosen_by.push(id));
        }
        id
    }

    /// Takes over the caller's use of `key.selector` and of its rules.
    pub fn acquire_domain(&mut self, key: DomainKey, nodes: &Nodes) -> Id {
        let (id, is_new) = self.domains.acquire(key.clone(), |_| DomainCounts::default());
        if !is_new {
            self.release_parts(&key);
            return id;
        }
        self.selectors[key.selector].domains.push(id);
        for slot in 0..nodes.len() {
            self.enter(id, slot, nodes);
        }
        id
    }

    pub fn acquire_term(&mut self, key: CarriedTerm) -> Id {
        let Self { namespaces, sets, carried, .. } = self;
        let (id, is_new) = carried.acquire(key, |_| Carriers::default());
        if is_new {
            let choice = &carried.key(id).choice;
            for (_, _, state) in sets.iter_mut().filter(|(_, set, _)| choice.matches(set, namespaces)) {
                state.wanted_by.push(id);
            }
        }
        id
    }

    pub fn chooses(&self, selector: &PodSelector, set: &LabelSet) -> bool {
        selector.matches(set, &self.namespaces)
    }

    // ------------------------------------------------------------------ releasing
    pub fn release_domain(&mut self, id: Id) {
        if let Some((key, _)) = self.domains.release(id) {
            self.selectors[key.selector].domains.retain(|&one| one != id);
            self.release_parts(&key);
        }
    }

    fn release_parts(&mut self, key: &DomainKey) {
        self.release_selector(key.selector);
        for rule in [key.accepted_by, key.tolerated_by].into_iter().flatten() {
            self.rules.release(rule);
        }
    }

    pub fn release_selector(&mut self, id: Id) {
        if self.selectors.release(id).is_some() {
            self.sets.iter_mut().for_each(|(_, _, set)| set.chosen_by.retain(|&one| one != id));
        }
    }

    pub fn release_term(&mut self, id: Id) {
        if self.carried.release(id).is_some() {
            self.sets.iter_mut().for_each(|(_, _, set)| set.wanted_by.retain(|&one| one != id));
        }
    }

    // ------------------------------------------------------------------ pods
    /// A pod of the set, carrying the terms, has come to the node (`by` is 1) or has gone from it (-1).
    pub fn count(&mut self, set: Id, terms: &[Id], slot: Slot, by: i32, nodes: &Nodes) {
        let Self { sets, selectors, domains, carried, rules, .. } = self;
        let state = &mut sets[set];
        let count = state.nodes.entry(slot).or_default();
        shift(count, by);
        if *count == 0 {
            state.nodes.remove(&slot);
        }
        for &selector in &state.chosen_by {
            shift_selector(&mut selectors[selector], domains, rules, slot, by, nodes);
        }
        for &term in terms {
            let column = carried.key(term).column;
            let carriers = &mut carried[term];
            let count = carriers.on_node.entry(slot).or_default();
            shift(count, by);
            if *count == 0 {
                carriers.on_node.remove(&slot);
            }
            carriers.shift(nodes.columns[column].of[slot], by, nodes.columns[column].width());
        }
    }

    /// The labels of a namespace, which some terms choose by.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>, nodes: &Nodes) {
        let before = self.namespaces.get(name);
        if before == labels.as_ref() {
            return;
        }
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
        let Self { namespaces, sets, selectors, domains, carried, rules } = self;
        for (_, set, state) in sets.iter_mut().filter(|(_, set, _)| set.namespace == name) {
            let now: Vec<Id> = selectors
                .iter()
                .filter(|(_, one, _)| one.matches(set, namespaces))
                .map(|one| one.0)
                .collect();
            for (&slot, &count) in &state.nodes {
                for &id in now.iter().filter(|id| !state.chosen_by.contains(id)) {
                    shift_selector(&mut selectors[id], domains, rules, slot, count as i32, nodes);
                }
                for &id in state.chosen_by.iter().filter(|id| !now.contains(id)) {
                    shift_selector(&mut selectors[id], domains, rules, slot, -(count as i32), nodes);
                }
            }
            state.chosen_by = now;
            state.wanted_by = wanted_by(carried, set, namespaces);
        }
    }

    // ------------------------------------------------------------------ nodes
    /// There are more slots than before.
    pub fn resize(&mut self, nodes: &Nodes) {
        self.rules.iter_mut().for_each(|(_, rule, findings)| findings.resize(rule, nodes.len()));
        self.selectors.iter_mut().for_each(|(_, _, state)| state.on_node.resize(nodes.len(), 0));
    }

    /// Called before a node's labels or taints change, or it goes: takes what it has out of all sums.
    pub fn leave_node(&mut self, slot: Slot, nodes: &Nodes) {
        let Self { selectors, domains, carried, rules, .. } = self;
        for (_, key, state) in domains.iter_mut().filter(|(_, key, _)| counts(key, rules, slot, nodes)) {
            let value = nodes.columns[key.column].of[slot] as usize;
            let pods = selectors[key.selector].on_node[slot];
            state.pods[value] -= pods;
            state.total -= u64::from(pods);
            state.nodes[value] -= 1;
            state.domains -= usize::from(state.nodes[value] == 0);
        }
        for (_, term, carriers) in carried.iter_mut() {
            if let Some(&count) = carriers.on_node.get(&slot) {
                let column = &nodes.columns[term.column];
                carriers.shift(column.of[slot], -(count as i32), column.width());
            }
        }
    }

    /// The other half of `leave_node`.
    pub fn enter_node(&mut self, slot: Slot, nodes: &Nodes) {
        self.rules.iter_mut().for_each(|(_, _, findings)| findings.forget(slot));
        let ids: Vec<Id> = self.domains.iter().map(|one| one.0).collect();
        ids.into_iter().for_each(|id| self.enter(id, slot, nodes));
        for (_, term, carriers) in self.carried.iter_mut() {
            if let Some(&count) = carriers.on_node.get(&slot) {
                let column = &nodes.columns[term.column];
                carriers.shift(column.of[slot], count as i32, column.width());
            }
        }
    }

    fn enter(&mut self, domain: Id, slot: Slot, nodes: &Nodes) {
        let key = self.domains.key(domain);
        if !counts(key, &self.rules, slot, nodes) {
            return;
        }
        let (column, pods) = (&nodes.columns[key.column], self.selectors[key.selector].on_node[slot]);
        let value = column.of[slot] as usize;
        let state = &mut self.domains[domain];
        if state.pods.len() < column.width() {
            state.pods.resize(column.width(), 0);
            state.nodes.resize(column.width(), 0);
        }
        state.pods[value] += pods;
        state.total += u64::from(pods);
        state.domains += usize::from(state.nodes[value] == 0);
        state.nodes[value] += 1;
    }
}

impl Carriers {
    fn shift(&mut self, value: Id, by: i32, width: usize) {
        if value == NO_VALUE {
            return;
        }
        if self.pods.len() < width {
            self.pods.resize(width, 0);
        }
        shift(&mut self.pods[value as usize], by);
        self.total = self.total.wrapping_add_signed(i64::from(by));
    }
}

fn shift(count: &mut u32, by: i32) {
    *count = count.wrapping_add_signed(by);
}

fn shift_selector(
    selector: &mut SelectorState,
    domains: &mut Registry<DomainKey, DomainCounts>,
    rules: &Registry<NodeRule, Findings>,
    slot: Slot,
    by: i32,
    nodes: &Nodes,
) {
    shift(&mut selector.on_node[slot], by);
    for &domain in &selector.domains {
        let key = domains.key(domain);
        if counts(key, rules, slot, nodes) {
            let value = nodes.columns[key.column].of[slot] as usize;
            let state = &mut domains[domain];
            shift(&mut state.pods[value], by);
            state.total = state.total.wrapping_add_signed(i64::from(by));
        }
    }
}

/// Whether pods on this node count for the domains.
fn counts(key: &DomainKey, rules: &Registry<NodeRule, Findings>, slot: Slot, nodes: &Nodes) -> bool {
    let has = |&column: &usize| nodes.columns[column].of[slot] != NO_VALUE;
    has(&key.column)
        && key.required.iter().all(has)
        && key.accepted_by.is_none_or(|id| rules[id].accepts(rules.key(id), nodes, slot))
        && key.tolerated_by.is_none_or(|id| rules[id].tolerates(rules.key(id), nodes, slot))
}

fn wanted_by(
    carried: &Registry<CarriedTerm, Carriers>,
    set: &LabelSet,
    namespaces: &FxHashMap<String, Labels>,
) -> Vec<Id> {
    carried.iter().filter(|(_, term, _)| term.choice.matches(set, namespaces)).map(|one| one.0).collect()
}
