//! Nodes, the pods on them, and the compiled facts of pods: what decisions are made from.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::budgets::Budgets;
use super::facts::{Labels, NodeFacts, PodFacts};
use super::journal::Journal;
use super::nodes::{Nodes, Slot};
use super::nominations::Nominations;
use super::population::{LabelSet, Population};
use super::registry::Id;
use super::template::Template;

/// Templates without pods that are kept for the next pod of their kind.
const IDLE_TEMPLATES: usize = 1024;

/// Facts that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FactsError(pub String);

/// Of a pod in the table, as long as it is there.
pub type PodNumber = u32;

struct Placed {
    key: Arc<str>,
    template: Id,
    slot: Slot,
    /// When it started; None if it has not.
    started: Option<i64>,
}

#[derive(Default)]
pub struct Table {
    pub(super) nodes: Nodes,
    pub(super) population: Population,
    templates: Vec<Option<Template>>,
    free: Vec<Id>,
    by_facts: FxHashMap<Arc<[u8]>, Id>,
    facts_of: Vec<Arc<[u8]>>,
    idle: VecDeque<Id>,
    /// `numbers` names exactly the pods that are there; those of each node are in `on_node`, in the order of their keys.
    pods: Vec<Option<Placed>>,
    free_pods: Vec<PodNumber>,
    numbers: FxHashMap<Arc<str>, PodNumber>,
    on_node: Vec<Vec<PodNumber>>,
    pub(super) nominations: Nominations,
    pub(super) budgets: Budgets,
    pub(super) journal: Journal,
}

impl Table {
    pub fn new() -> Self {
        Self { nodes: Nodes::new(), ..Self::default() }
    }

    // ------------------------------------------------------------------ nodes
    /// A node is there, or has changed. `facts`: NodeFacts as JSON.
    pub fn set_node(&mut self, name: &str, facts: &[u8]) -> Result<(), FactsError> {
        let facts: NodeFacts = read(facts)?;
        let slot = self.slot_for(name);
        // most changes are of amounts and images only, and what is counted by labels stays
        let same = self.nodes.facts[slot].as_ref().is_some_and(|known| {
            known.labels == facts.labels
                && known.taints == facts.taints
                && known.unschedulable == facts.unschedulable
        });
        if !same {
            self.population.leave_node(slot, &self.nodes);
        }
        self.nodes.set(slot, Some(facts));
        self.journal.note(slot);
        if !same {
            self.population.enter_node(slot, &self.nodes);
        }
        Ok(())
    }

    /// Its pods stay known until they are gone themselves.
    pub fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.nodes.existing(name) else { return };
        self.population.leave_node(slot, &self.nodes);
        self.nodes.set(slot, None);
        self.journal.note(slot);
        self.population.enter_node(slot, &self.nodes);
        self.nodes.forget_if_unused(slot);
    }

    /// None: the namespace is gone.
    pub fn set_namespace(&mut self, name: &str, labels: Option<&[u8]>) -> Result<(), FactsError> {
        let labels: Option<Labels> = labels.map(read).transpose()?;
        self.population.set_namespace(name, labels, &self.nodes);
        Ok(())
    }

    fn slot_for(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.nodes.slot(name) {
            return slot;
        }
        let before = self.nodes.len();
        let slot = self.nodes.slot_for(name);
        if self.nodes.len() > before {
            self.population.resize(&self.nodes);
            self.on_node.push(Vec::new());
        }
        self.nominations.settle(slot, name);
        self.journal.note(slot);
        slot
    }

    // ------------------------------------------------------------------ pods
    /// The pod is on the node, or is about to be; it may have been elsewhere, or different, before.
    pub fn put_pod(&mut self, key: &str, node: &str, facts: &[u8]) -> Result<(), FactsError> {
        let template = self.template(facts).or_else(|error| self.simplified(facts).ok_or(error))?;
        let slot = self.slot_for(node);
        self.place(key, slot, template);
        Ok(())
    }

    fn place(&mut self, key: &str, slot: Slot, template: Id) {
        let known = self.numbers.get(key).map(|&number| self.pod(number));
        if known.is_some_and(|placed| placed.slot == slot && placed.template == template) {
            return;
        }
        self.at_mut(template).pods += 1;
        self.count(template, slot, 1);
        self.journal.note(slot);
        let before = self.take_out(key);
        let started = before.as_ref().and_then(|one| one.started);
        let key: Arc<str> = before.as_ref().map_or_else(|| key.into(), |one| Arc::clone(&one.key));
        let placed = Some(Placed { key: Arc::clone(&key), template, slot, started });
        let number = self.free_pods.pop().unwrap_or_else(|| {
            self.pods.push(None);
            (self.pods.len() - 1) as PodNumber
        });
        self.pods[number as usize] = placed;
        let index = self.on_node[slot].partition_point(|&one| *self.pod(one).key < *key);
        self.on_node[slot].insert(index, number);
        self.numbers.insert(key, number);
        if let Some(before) = before {
            self.let_go_of(&before);
        }
    }

    /// When the pod started, in any unit; None if it has not.
    pub fn set_started(&mut self, key: &str, started: Option<i64>) {
        if let Some(&number) = self.numbers.get(key)
            && let Some(placed) = &mut self.pods[number as usize]
        {
            placed.started = started;
            self.journal.note(placed.slot);
        }
    }

    pub fn drop_pod(&mut self, key: &str) {
        if let Some(placed) = self.take_out(key) {
            self.let_go_of(&placed);
        }
    }

    fn take_out(&mut self, key: &str) -> Option<Placed> {
        let number = self.numbers.remove(key)?;
        let placed = self.pods[number as usize].take()?;
        self.free_pods.push(number);
        self.journal.note(placed.slot);
        self.on_node[placed.slot].retain(|&one| one != number);
        Some(placed)
    }

    fn let_go_of(&mut self, placed: &Placed) {
        self.count(placed.template, placed.slot, -1);
        self.nodes.forget_if_unused(placed.slot);
        self.let_go(placed.template);
    }

    /// In the order of their keys.
    pub fn pods_on(&self, slot: Slot) -> &[PodNumber] {
        &self.on_node[slot]
    }

    fn pod(&self, number: PodNumber) -> &Placed {
        self.pods[number as usize].as_ref().expect("a pod has its number as long as it is there")
    }

    pub fn key_of(&self, number: PodNumber) -> &str {
        &self.pod(number).key
    }

    pub fn template_of(&self, number: PodNumber) -> Id {
        self.pod(number).template
    }

    pub fn started(&self, number: PodNumber) -> Option<i64> {
        self.pod(number).started
    }

    /// Namespace and labels.
    pub fn set_of(&self, number: PodNumber) -> &LabelSet {
        self.population.sets.key(self.at(self.template_of(number)).set)
    }

    /// One pod less is of the template.
    fn let_go(&mut self, id: Id) {
        let template = self.at_mut(id);
        template.pods -= 1;
        if template.pods == 0 && !template.idle {
            self.keep(id);
        }
    }

    // ------------------------------------------------------------------ nominations
    /// A node is being made free for the pod, or for a newer version of it.
    pub fn nominate(&mut self, uid: &str, node: &str, priority: i64, facts: &[u8]) -> Result<(), FactsError> {
        let template = self.template(facts).or_else(|error| self.simplified(facts).ok_or(error))?;
        self.at_mut(template).pods += 1;
        self.withdraw(uid);
        self.nominations.put(uid, node, priority, template, &self.nodes);
        if let Some(slot) = self.nodes.slot(node) {
            self.journal.note(slot);
        }
        Ok(())
    }

    pub fn withdraw(&mut self, uid: &str) {
        if let Some((template, node)) = self.nominations.take(uid, &self.nodes) {
            self.let_go(template);
            if let Some(slot) = node {
                self.journal.note(slot);
            }
        }
    }

    /// PodDisruptionBudgets as a JSON array of `{"namespace", "selector", "allowed", "disrupted": [names]}`.
    pub fn set_budgets(&mut self, facts: &[u8]) -> Result<(), FactsError> {
        self.budgets = Budgets::read(facts)?;
        Ok(())
    }

    /// Adds to (`by` is 1) or takes from (-1) all sums what one pod of the template is to the node.
    pub fn count(&mut self, template: Id, slot: Slot, by: i32) {
        let Self { nodes, population, templates, .. } = self;
        let Some(template) = &templates[template as usize] else { return };
        nodes.pods[slot] = nodes.pods[slot].wrapping_add_signed(by);
        let sign = i64::from(by);
        for &(resource, amount) in &template.requests {
            let requested = &mut nodes.resources[resource].requested[slot];
            *requested = requested.wrapping_add(amount.wrapping_mul(sign));
        }
        let (cpu, memory) = template.used;
        nodes.used_cpu[slot] = nodes.used_cpu[slot].wrapping_add(cpu.wrapping_mul(sign));
        nodes.used_memory[slot] = nodes.used_memory[slot].wrapping_add(memory.wrapping_mul(sign));
        for port in &template.ports {
            if by > 0 {
                nodes.take_port(slot, port);
            } else {
                nodes.free_port(slot, port);
            }
        }
        population.count(template.set, &template.carries, slot, by, nodes);
    }

    // ------------------------------------------------------------------ templates
    /// The template of these facts (PodFacts as JSON). Pods with the same bytes share one.
    pub fn template(&mut self, facts: &[u8]) -> Result<Id, FactsError> {
        if let Some(&id) = self.by_facts.get(facts) {
            return Ok(id);
        }
        self.compiled(facts, &read(facts)?)
    }

    fn compiled(&mut self, bytes: &[u8], facts: &PodFacts) -> Result<Id, FactsError> {
        let template = Template::compile(facts, &mut self.population, &mut self.nodes);
        let template = template.map_err(|error| FactsError(error.to_string()))?;
        let bytes: Arc<[u8]> = bytes.into();
        let id = self.free.pop().unwrap_or_else(|| {
            self.templates.push(None);
            self.facts_of.push(Arc::clone(&bytes));
            (self.templates.len() - 1) as Id
        });
        self.templates[id as usize] = Some(template);
        self.facts_of[id as usize] = Arc::clone(&bytes);
        self.by_facts.insert(bytes, id);
        self.keep(id);
        Ok(id)
    }

    /// For a pod that is there although its selectors cannot be read: what it takes counts, what it asks does not.
    fn simplified(&mut self, bytes: &[u8]) -> Option<Id> {
        let mut facts: PodFacts = read(bytes).ok()?;
        facts.affinity = Default::default();
        facts.spread = Vec::new();
        facts.defaults = None;
        self.compiled(bytes, &facts).ok()
    }

    fn keep(&mut self, id: Id) {
        self.at_mut(id).idle = true;
        self.idle.push_back(id);
        while self.idle.len() > IDLE_TEMPLATES {
            let Some(oldest) = self.idle.pop_front() else { return };
            self.at_mut(oldest).idle = false;
            if self.at(oldest).pods == 0 {
                self.discard(oldest);
            }
        }
    }

    fn discard(&mut self, id: Id) {
        if let Some(template) = self.templates[id as usize].take() {
            template.release(&mut self.population);
            self.by_facts.remove(&self.facts_of[id as usize]);
            self.free.push(id);
        }
    }

    pub fn at(&self, id: Id) -> &Template {
        self.templates[id as usize].as_ref().expect("the template of a pod is there as long as the pod")
    }

    /// What pods share that have this template, which is what tells it from others that had its number before.
    pub fn facts_of(&self, id: Id) -> &Arc<[u8]> {
        &self.facts_of[id as usize]
    }

    fn at_mut(&mut self, id: Id) -> &mut Template {
        self.templates[id as usize].as_mut().expect("the template of a pod is there as long as the pod")
    }

    // ------------------------------------------------------------------ counting
    pub fn pods(&self) -> usize {
        self.numbers.len()
    }

    pub fn templates(&self) -> usize {
        self.by_facts.len()
    }

    pub fn name(&self, slot: Slot) -> &str {
        &self.nodes.names[slot]
    }

    /// The slot of a node that exists.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.nodes.existing(name)
    }
}

fn read<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FactsError> {
    serde_json::from_slice(bytes).map_err(|error| FactsError(error.to_string()))
}
