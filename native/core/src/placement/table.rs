//! Nodes, the pods on them, and the compiled facts of pods: what decisions are made from.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::facts::{Labels, NodeFacts, PodFacts};
use super::nodes::{Nodes, Slot};
use super::placing::Wish;
use super::population::Population;
use super::registry::Id;
use super::template::Template;

/// Templates without pods that are kept for the next pod of their kind.
const IDLE_TEMPLATES: usize = 1024;

/// Facts that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FactsError(pub String);

struct Placed {
    template: Id,
    slot: Slot,
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
    pods: FxHashMap<Box<str>, Placed>,
    /// By uid.
    nominated: FxHashMap<Box<str>, Nominated>,
}

/// A pod for which a node is being made free.
struct Nominated {
    node: Box<str>,
    template: Id,
    priority: i64,
}

/// Templates of the pods that are nominated to run on a node.
pub type Coming = FxHashMap<Slot, Vec<Id>>;

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
        let before = self.nodes.len();
        let slot = self.nodes.slot_for(name);
        if self.nodes.len() > before {
            self.population.resize(&self.nodes);
        }
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

    /// Like `put_pod`, of a node that exists.
    pub fn place(&mut self, key: &str, slot: Slot, template: Id) {
        if self.pods.get(key).is_some_and(|placed| placed.slot == slot && placed.template == template) {
            return;
        }
        self.at_mut(template).pods += 1;
        self.count(template, slot, 1);
        let before = self.pods.insert(key.into(), Placed { template, slot });
        if let Some(before) = before {
            self.take_away(&before);
        }
    }

    pub fn drop_pod(&mut self, key: &str) {
        if let Some(placed) = self.pods.remove(key) {
            self.take_away(&placed);
        }
    }

    fn take_away(&mut self, placed: &Placed) {
        self.count(placed.template, placed.slot, -1);
        self.nodes.forget_if_unused(placed.slot);
        self.let_go(placed.template);
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
        self.nominated.insert(uid.into(), Nominated { node: node.into(), template, priority });
        Ok(())
    }

    pub fn withdraw(&mut self, uid: &str) {
        if let Some(known) = self.nominated.remove(uid) {
            self.let_go(known.template);
        }
    }

    /// Those that the pod has to yield to: others of the same or a higher priority.
    pub fn coming(&self, wish: &Wish<'_>) -> Coming {
        let mut coming = Coming::default();
        for (uid, one) in &self.nominated {
            if one.priority >= wish.priority
                && &**uid != wish.uid
                && let Some(slot) = self.slot(&one.node)
            {
                coming.entry(slot).or_default().push(one.template);
            }
        }
        coming
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

    fn at_mut(&mut self, id: Id) -> &mut Template {
        self.templates[id as usize].as_mut().expect("the template of a pod is there as long as the pod")
    }

    // ------------------------------------------------------------------ counting
    pub fn pods(&self) -> usize {
        self.pods.len()
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
