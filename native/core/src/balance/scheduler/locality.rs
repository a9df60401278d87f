//! lblc: the target address goes where it went before, unless that destination is overloaded while another
//! is not half busy; new targets go to the weighted least loaded.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use super::Schedule;
use super::least::{Least, Metric};
use crate::balance::destination::Destination;
use crate::balance::flow::Flow;

/// As many targets as IPVS remembers (16 for each of its 1024 buckets).
const MAX_TARGETS: usize = 16 * 1024;

type Targets = Arc<RwLock<FxHashMap<IpAddr, Arc<Destination>>>>;

pub(super) struct Locality {
    targets: Targets,
    least: Least,
}

impl Default for Locality {
    fn default() -> Self {
        Self { targets: Targets::default(), least: Least::new(Metric::Weighted) }
    }
}

fn usable(chosen: &Destination, destinations: &[Arc<Destination>]) -> bool {
    let half_idle = |other: &Arc<Destination>| u64::from(other.active()) * 2 < u64::from(other.weight());
    let overloaded = || chosen.active() > chosen.weight() && destinations.iter().any(half_idle);
    !chosen.removed() && chosen.weight() > 0 && !overloaded()
}

impl Schedule for Locality {
    fn pick(&self, destinations: &[Arc<Destination>], flow: &Flow) -> Option<usize> {
        if let Some(chosen) = self.targets.read().get(&flow.target)
            && usable(chosen, destinations)
            && destinations.get(chosen.position()).is_some_and(|found| Arc::ptr_eq(found, chosen))
        {
            return Some(chosen.position());
        }
        let position = self.least.pick(destinations, flow)?;
        let mut targets = self.targets.write();
        if targets.len() >= MAX_TARGETS {
            targets.clear();
        }
        targets.insert(flow.target, Arc::clone(&destinations[position]));
        Some(position)
    }

    fn successor(&self, _old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Schedule> {
        Box::new(Self { targets: Arc::clone(&self.targets), least: Least::over(Metric::Weighted, new) })
    }

    fn load_changed(&self, destinations: &[Arc<Destination>], position: usize) {
        self.least.load_changed(destinations, position);
    }
}
