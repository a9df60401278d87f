//! lc, wlc, sed and nq: the least loaded destination, the first of equals.
//!
//! A tournament tree over exact load keys is kept as counts change, so that a pick only reads its root.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use super::Schedule;
use crate::balance::destination::Destination;
use crate::balance::flow::Flow;

/// How load is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    /// lc: 256 * active + inactive.
    Connections,
    /// wlc: the same, per weight.
    Weighted,
    /// sed: (active + 1) per weight.
    ExpectedDelay,
    /// nq: idle destinations first, then as sed.
    NeverQueue,
}

const UNAVAILABLE: u64 = u64::MAX;
const NOBODY: usize = usize::MAX;

impl Metric {
    /// A number that orders destinations exactly as IPVS's cross-multiplied comparison does: two different
    /// fractions with denominators up to 65535 differ by more than 2^-32, so 32 fraction bits tell them apart.
    fn key(self, destination: &Destination) -> u64 {
        if !destination.available() {
            return UNAVAILABLE;
        }
        let active = u64::from(destination.active());
        let load = (active << 8) + u64::from(destination.inactive());
        let weight = u64::from(destination.weight().max(1));
        let per_weight = |load: u64| (load.min(u64::from(u32::MAX) - 1) << 32) / weight;
        match self {
            Self::Connections => load,
            Self::Weighted => per_weight(load),
            Self::NeverQueue if active == 0 => 0,
            Self::ExpectedDelay | Self::NeverQueue => per_weight(active + 1),
        }
    }
}

/// `keys` are the leaves; `winners[n]` is the position that wins below node n, root at 1.
struct Tree {
    keys: Vec<u64>,
    winners: Vec<usize>,
    leaves: usize,
}

impl Tree {
    fn new(keys: Vec<u64>) -> Self {
        let leaves = keys.len().next_power_of_two();
        let mut tree = Self { keys, winners: vec![NOBODY; leaves * 2], leaves };
        for position in 0..leaves {
            tree.winners[leaves + position] =
                if tree.key(position) == UNAVAILABLE { NOBODY } else { position };
        }
        for node in (1..leaves).rev() {
            tree.winners[node] = tree.better(tree.winners[node * 2], tree.winners[node * 2 + 1]);
        }
        tree
    }

    fn key(&self, position: usize) -> u64 {
        self.keys.get(position).copied().unwrap_or(UNAVAILABLE)
    }

    /// Of two positions, `left` standing before `right`.
    fn better(&self, left: usize, right: usize) -> usize {
        if self.key(right) < self.key(left) { right } else { left }
    }

    fn set(&mut self, position: usize, key: u64) {
        if self.keys[position] == key {
            return;
        }
        self.keys[position] = key;
        let mut node = self.leaves + position;
        self.winners[node] = if key == UNAVAILABLE { NOBODY } else { position };
        while node > 1 {
            node /= 2;
            let winner = self.better(self.winners[node * 2], self.winners[node * 2 + 1]);
            let same = self.winners[node] == winner;
            self.winners[node] = winner;
            // Above here only the changed leaf's own victories can be affected.
            if same && winner != position {
                break;
            }
        }
    }

    fn winner(&self) -> usize {
        self.winners[1]
    }
}

pub(super) struct Least {
    metric: Metric,
    tree: Mutex<Tree>,
    /// The tree's root, for readers.
    best: AtomicUsize,
}

impl Least {
    pub(super) fn new(metric: Metric) -> Self {
        Self::over(metric, &[])
    }

    pub(super) fn over(metric: Metric, destinations: &[Arc<Destination>]) -> Self {
        let keys = destinations.iter().map(|destination| metric.key(destination)).collect();
        let tree = Tree::new(keys);
        Self { metric, best: AtomicUsize::new(tree.winner()), tree: Mutex::new(tree) }
    }
}

impl Schedule for Least {
    fn pick(&self, destinations: &[Arc<Destination>], _flow: &Flow) -> Option<usize> {
        let best = self.best.load(Relaxed);
        (best < destinations.len()).then_some(best)
    }

    fn successor(&self, _old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Schedule> {
        Box::new(Self::over(self.metric, new))
    }

    fn load_changed(&self, destinations: &[Arc<Destination>], position: usize) {
        let mut tree = self.tree.lock();
        // Read under the lock: whoever comes last has seen every change before it.
        let key = self.metric.key(&destinations[position]);
        tree.set(position, key);
        self.best.store(tree.winner(), Relaxed);
    }
}
