//! Which pods are to get a node that is being made free for them. They are asked for with every node that is looked at,
//! so that neither names nor uids are compared then.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::nodes::{Nodes, Slot};
use super::registry::Id;

/// Tells nominations apart.
type Number = u64;

struct Nominated {
    number: Number,
    template: Id,
    priority: i64,
}

/// Those of one node.
struct Expected {
    node: Arc<str>,
    pods: Vec<Nominated>,
}

/// Invariant: a pod in `lists[place]` has its uid in `by_uid` with that place, and `by_node` and, if the node has a
/// slot, `of_slot` lead there. Lists that nothing leads to are empty, and `free` has them.
#[derive(Default)]
pub struct Nominations {
    by_uid: FxHashMap<Box<str>, (usize, Number)>,
    by_node: FxHashMap<Arc<str>, usize>,
    of_slot: Vec<Option<u32>>,
    lists: Vec<Expected>,
    free: Vec<usize>,
    last: Number,
}

/// Whom a pod has to yield to: others of the same or a higher priority.
#[derive(Clone, Copy, Debug)]
pub struct Yielding {
    own: Option<Number>,
    priority: i64,
}

impl Yielding {
    /// The pod itself is not nominated for any node, so that it yields as all others of its priority do.
    pub fn is_common(self) -> bool {
        self.own.is_none()
    }
}

impl Nominations {
    /// The slot is of this node from now on.
    pub fn settle(&mut self, slot: Slot, node: &str) {
        if self.of_slot.len() <= slot {
            self.of_slot.resize(slot + 1, None);
        }
        self.of_slot[slot] = self.by_node.get(node).map(|&place| place as u32);
    }

    /// The pod must have no nomination.
    pub fn put(&mut self, uid: &str, node: &str, priority: i64, template: Id, nodes: &Nodes) {
        let place = self.by_node.get(node).copied().unwrap_or_else(|| self.begin(node, nodes));
        self.last += 1;
        self.lists[place].pods.push(Nominated { number: self.last, template, priority });
        self.by_uid.insert(uid.into(), (place, self.last));
    }

    fn begin(&mut self, node: &str, nodes: &Nodes) -> usize {
        let node: Arc<str> = node.into();
        let expected = Expected { node: Arc::clone(&node), pods: Vec::new() };
        let place = match self.free.pop() {
            Some(place) => {
                self.lists[place] = expected;
                place
            }
            None => {
                self.lists.push(expected);
                self.lists.len() - 1
            }
        };
        if let Some(slot) = nodes.slot(&node) {
            self.of_slot[slot] = Some(place as u32);
        }
        self.by_node.insert(node, place);
        place
    }

    /// The template of the pod that is nominated no more, and the slot of the node that it was to get.
    pub fn take(&mut self, uid: &str, nodes: &Nodes) -> Option<(Id, Option<Slot>)> {
        let (place, number) = self.by_uid.remove(uid)?;
        let list = &mut self.lists[place];
        let index = list.pods.iter().position(|one| one.number == number)?;
        let known = list.pods.swap_remove(index);
        let slot = nodes.slot(&list.node);
        if list.pods.is_empty() {
            self.by_node.remove(&list.node);
            if let Some(slot) = slot {
                self.of_slot[slot] = None;
            }
            self.free.push(place);
        }
        Some((known.template, slot))
    }

    pub fn yielding(&self, uid: &str, priority: i64) -> Yielding {
        Yielding { own: self.by_uid.get(uid).map(|one| one.1), priority }
    }

    /// Adds to `coming` the templates of the pods, nominated for the node, that `to` has to yield to.
    pub fn coming(&self, slot: Slot, to: Yielding, coming: &mut Vec<Id>) {
        let Some(place) = self.of_slot[slot] else { return };
        let pods = self.lists[place as usize].pods.iter();
        let stronger = pods.filter(|one| one.priority >= to.priority && Some(one.number) != to.own);
        coming.extend(stronger.map(|one| one.template));
    }
}
