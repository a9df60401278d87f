//! The nodes as a structure of arrays: a column per resource and per topology key, a slot per node.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::facts::{HostPort, NodeFacts};
use super::registry::Id;

/// Where a node's values are in every column. Used anew once the node and its pods are gone.
pub type Slot = usize;

pub const CPU: usize = 0;
pub const MEMORY: usize = 1;

/// The label is missing, or the node does not exist.
pub const NO_VALUE: Id = Id::MAX;

/// Amounts of one resource. Sums wrap, as upstream's int64 do.
#[derive(Default)]
pub struct Resource {
    pub name: String,
    pub allocatable: Vec<i64>,
    pub requested: Vec<i64>,
}

/// The values of one label key that tells topology domains apart, interned.
#[derive(Default)]
pub struct Column {
    pub key: String,
    values: FxHashMap<Arc<str>, Id>,
    names: Vec<Arc<str>>,
    users: Vec<u32>,
    free: Vec<Id>,
    pub of: Vec<Id>,
}

impl Column {
    /// How many numbers of values there are; some may be free.
    pub fn width(&self) -> usize {
        self.names.len()
    }

    fn set(&mut self, slot: Slot, value: Option<&str>) {
        let before = std::mem::replace(&mut self.of[slot], NO_VALUE);
        if let Some(value) = value {
            let id = self.id(value);
            self.users[id as usize] += 1;
            self.of[slot] = id;
        }
        if before != NO_VALUE {
            self.users[before as usize] -= 1;
            if self.users[before as usize] == 0 {
                self.values.remove(&self.names[before as usize]);
                self.free.push(before);
            }
        }
    }

    fn id(&mut self, value: &str) -> Id {
        if let Some(&id) = self.values.get(value) {
            return id;
        }
        let name: Arc<str> = value.into();
        let id = self.free.pop().unwrap_or_else(|| {
            self.names.push(Arc::clone(&name));
            self.users.push(0);
            (self.names.len() - 1) as Id
        });
        self.names[id as usize] = Arc::clone(&name);
        self.values.insert(name, id);
        id
    }
}

/// A host port that pods of a node have taken, and how many have.
pub type TakenPort = (HostPort, u32);

#[derive(Default)]
pub struct Nodes {
    by_name: FxHashMap<Arc<str>, Slot>,
    pub names: Vec<Arc<str>>,
    /// The node as the API knows it; None for one that is known by its pods only.
    pub facts: Vec<Option<NodeFacts>>,
    arrived: Vec<u64>,
    arrivals: u64,
    free: Vec<Slot>,
    pub resources: Vec<Resource>,
    pub columns: Vec<Column>,
    pub pods: Vec<u32>,
    pub most_pods: Vec<i64>,
    pub used_cpu: Vec<i64>,
    pub used_memory: Vec<i64>,
    pub ports: Vec<Vec<TakenPort>>,
    /// Whether the node is cordoned or has taints that keep pods off.
    pub guarded: Vec<bool>,
    order: Option<Arc<[Slot]>>,
    /// How many nodes have an image, by its names.
    pub images: FxHashMap<Box<str>, u32>,
}

impl Nodes {
    pub fn new() -> Self {
        let mut nodes = Self::default();
        nodes.resource("cpu");
        nodes.resource("memory");
        nodes
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.by_name.get(name).copied()
    }

    /// The slot of a node that exists.
    pub fn existing(&self, name: &str) -> Option<Slot> {
        self.slot(name).filter(|&slot| self.facts[slot].is_some())
    }

    /// The slot of a node, whether known until now or not.
    pub fn slot_for(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.slot(name) {
            return slot;
        }
        let name: Arc<str> = name.into();
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        self.arrivals += 1;
        self.arrived[slot] = self.arrivals;
        self.names[slot] = Arc::clone(&name);
        self.by_name.insert(name, slot);
        slot
    }

    fn grow(&mut self) -> Slot {
        self.names.push("".into());
        self.facts.push(None);
        self.arrived.push(0);
        self.pods.push(0);
        self.most_pods.push(0);
        self.used_cpu.push(0);
        self.used_memory.push(0);
        self.ports.push(Vec::new());
        self.guarded.push(false);
        for resource in &mut self.resources {
            resource.allocatable.push(0);
            resource.requested.push(0);
        }
        for column in &mut self.columns {
            column.of.push(NO_VALUE);
        }
        self.names.len() - 1
    }

    /// Gives the slot free if nothing is known of the node any more.
    pub fn forget_if_unused(&mut self, slot: Slot) {
        if self.facts[slot].is_none() && self.pods[slot] == 0 {
            self.by_name.remove(&self.names[slot]);
            self.free.push(slot);
        }
    }

    // ------------------------------------------------------------------ what the API says of a node
    pub fn set(&mut self, slot: Slot, facts: Option<NodeFacts>) {
        let zone = |facts: &Option<NodeFacts>| facts.as_ref().map(|facts| facts.zone.clone());
        if zone(&self.facts[slot]) != zone(&facts) {
            self.order = None;
        }
        self.count_images(slot, facts.as_ref());
        for resource in &mut self.resources {
            resource.allocatable[slot] = 0;
        }
        self.most_pods[slot] = 0;
        for (name, amount) in facts.iter().flat_map(|facts| &facts.allocatable) {
            if name == "pods" {
                self.most_pods[slot] = *amount;
            }
            let resource = self.resource(name);
            self.resources[resource].allocatable[slot] = *amount;
        }
        for column in &mut self.columns {
            column.set(slot, label(facts.as_ref(), &column.key));
        }
        self.guarded[slot] = facts.as_ref().is_some_and(|facts| {
            facts.unschedulable || facts.taints.iter().any(|taint| taint.effect != "PreferNoSchedule")
        });
        self.facts[slot] = facts;
    }

    fn count_images(&mut self, slot: Slot, facts: Option<&NodeFacts>) {
        let before = self.facts[slot].as_ref().map(|facts| &facts.images);
        let now = facts.map(|facts| &facts.images);
        if before == now {
            return;
        }
        for name in before.into_iter().flat_map(|images| images.keys()) {
            if let Some(count) = self.images.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(name);
                }
            }
        }
        for name in now.into_iter().flat_map(|images| images.keys()) {
            *self.images.entry(name.clone()).or_default() += 1;
        }
    }

    /// The column of a label key, filled when it is first asked for.
    pub fn column(&mut self, key: &str) -> usize {
        if let Some(found) = self.columns.iter().position(|column| column.key == key) {
            return found;
        }
        let of = vec![NO_VALUE; self.len()];
        let mut column = Column { key: key.to_owned(), of, ..Column::default() };
        for (slot, facts) in self.facts.iter().enumerate() {
            column.set(slot, label(facts.as_ref(), key));
        }
        self.columns.push(column);
        self.columns.len() - 1
    }

    /// The number of a resource's columns.
    pub fn resource(&mut self, name: &str) -> usize {
        if let Some(found) = self.resources.iter().position(|resource| resource.name == name) {
            return found;
        }
        let zeros = || vec![0; self.names.len()];
        let resource = Resource { name: name.to_owned(), allocatable: zeros(), requested: zeros() };
        self.resources.push(resource);
        self.resources.len() - 1
    }

    // ------------------------------------------------------------------ what its pods take
    pub fn take_port(&mut self, slot: Slot, port: &HostPort) {
        match self.ports[slot].iter_mut().find(|(taken, _)| taken == port) {
            Some((_, count)) => *count += 1,
            None => self.ports[slot].push((port.clone(), 1)),
        }
    }

    pub fn free_port(&mut self, slot: Slot, port: &HostPort) {
        let ports = &mut self.ports[slot];
        if let Some(index) = ports.iter().position(|(taken, _)| taken == port) {
            ports[index].1 -= 1;
            if ports[index].1 == 0 {
                ports.swap_remove(index);
            }
        }
    }

    // ------------------------------------------------------------------ order
    /// Nodes that exist, one of each zone in turn, zones and nodes in the order of their arrival.
    pub fn put_in_order(&mut self) -> Arc<[Slot]> {
        if let Some(order) = &self.order {
            return Arc::clone(order);
        }
        let mut known: Vec<Slot> = (0..self.len()).filter(|&slot| self.facts[slot].is_some()).collect();
        known.sort_unstable_by_key(|&slot| self.arrived[slot]);
        let mut zones: Vec<Vec<Slot>> = Vec::new();
        let mut numbers: FxHashMap<&(String, String), usize> = FxHashMap::default();
        for slot in known {
            let Some(facts) = &self.facts[slot] else { continue };
            let number = *numbers.entry(&facts.zone).or_insert_with(|| {
                zones.push(Vec::new());
                zones.len() - 1
            });
            zones[number].push(slot);
        }
        let longest = zones.iter().map(Vec::len).max().unwrap_or_default();
        let rounds = (0..longest).flat_map(|round| zones.iter().filter_map(move |zone| zone.get(round)));
        let order: Arc<[Slot]> = rounds.copied().collect();
        self.order = Some(Arc::clone(&order));
        order
    }

    /// See `put_in_order`, which must have been called.
    pub fn order(&self) -> &[Slot] {
        self.order.as_deref().unwrap_or_default()
    }
}

fn label<'a>(facts: Option<&'a NodeFacts>, key: &str) -> Option<&'a str> {
    use crate::selector::Lookup;
    facts?.labels.lookup(key)
}
