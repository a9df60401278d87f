//! lblc: the target address goes where it went before, unless that destination is overloaded while another
//! is not half busy; new targets go to the weighted least loaded.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicIsize};

use papaya::HashMap;
use rustc_hash::FxBuildHasher;

use super::Schedule;
use super::least::{Least, Metric};
use crate::balance::destination::Destination;
use crate::balance::flow::Flow;

/// As many targets as IPVS remembers (16 for each of its 1024 buckets).
const MAX_TARGETS: usize = 16 * 1024;

/// Look-ups take no lock.
type Targets = HashMap<IpAddr, Arc<Destination>, FxBuildHasher>;

/// Which destinations are not half busy, kept as counts change, so that a pick need not look at them all.
struct HalfIdle {
    each: Box<[AtomicBool]>,
    /// Below 0 while two threads tell of one destination.
    count: AtomicIsize,
}

impl HalfIdle {
    fn among(destinations: &[Arc<Destination>]) -> Self {
        let each = destinations.iter().map(|_| AtomicBool::new(false)).collect();
        let among = Self { each, count: AtomicIsize::new(0) };
        for (position, destination) in destinations.iter().enumerate() {
            among.tell(destination, position);
        }
        among
    }

    fn is_any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// Who has told of counts that another has changed and told of meanwhile looks again, and sees them.
    fn tell(&self, destination: &Destination, position: usize) {
        loop {
            let idle = u64::from(destination.active()) * 2 < u64::from(destination.weight());
            if self.each[position].swap(idle, AcqRel) == idle {
                return;
            }
            self.count.fetch_add(if idle { 1 } else { -1 }, Relaxed);
        }
    }
}

pub(super) struct Locality {
    targets: Arc<Targets>,
    half_idle: HalfIdle,
    least: Least,
}

impl Default for Locality {
    fn default() -> Self {
        Self::over(Arc::default(), &[])
    }
}

impl Locality {
    fn over(targets: Arc<Targets>, destinations: &[Arc<Destination>]) -> Self {
        let (half_idle, least) = (HalfIdle::among(destinations), Least::over(Metric::Weighted, destinations));
        Self { targets, half_idle, least }
    }

    fn usable(&self, chosen: &Destination) -> bool {
        let overloaded = chosen.active() > chosen.weight() && self.half_idle.is_any();
        !chosen.removed() && chosen.weight() > 0 && !overloaded
    }
}

impl Schedule for Locality {
    fn pick(&self, destinations: &[Arc<Destination>], flow: &Flow) -> Option<usize> {
        let targets = self.targets.pin();
        if let Some(chosen) = targets.get(&flow.target)
            && self.usable(chosen)
            && destinations.get(chosen.position()).is_some_and(|found| Arc::ptr_eq(found, chosen))
        {
            return Some(chosen.position());
        }
        let position = self.least.pick(destinations, flow)?;
        if targets.len() >= MAX_TARGETS {
            targets.clear();
        }
        targets.insert(flow.target, Arc::clone(&destinations[position]));
        Some(position)
    }

    fn successor(&self, _old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Schedule> {
        Box::new(Self::over(Arc::clone(&self.targets), new))
    }

    fn load_changed(&self, destinations: &[Arc<Destination>], position: usize) {
        self.least.load_changed(destinations, position);
        self.half_idle.tell(&destinations[position], position);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::balance::destination::DestinationSpec;

    fn destinations(weights: &[u32]) -> Vec<Arc<Destination>> {
        let spec = |(port, weight)| DestinationSpec::new(SocketAddr::from(([10, 0, 0, 1], port)), weight);
        (1..).zip(weights.iter().copied()).map(spec).map(|spec| Arc::new(Destination::new(&spec))).collect()
    }

    #[test]
    fn those_below_half_of_their_weight_are_known_without_a_look_at_them_all() {
        let destinations = destinations(&[0, 1, 3]);
        let idle = HalfIdle::among(&destinations);
        let count = || idle.count.load(Relaxed);
        assert_eq!(count(), 2);
        destinations[1].opened(true);
        idle.tell(&destinations[1], 1);
        destinations[2].opened(true);
        idle.tell(&destinations[2], 2);
        assert_eq!(count(), 1);
        destinations[2].opened(true);
        idle.tell(&destinations[2], 2);
        assert!(!idle.is_any());
        destinations[1].closed(true);
        idle.tell(&destinations[1], 1);
        assert!(idle.is_any());
    }

    #[test]
    fn it_is_right_when_several_threads_have_told_of_the_same_ones() {
        let destinations = destinations(&[1, 2, 3]);
        let idle = HalfIdle::among(&destinations);
        let change = || {
            for turn in 0..30_000 {
                let position = turn % 3;
                destinations[position].opened(true);
                idle.tell(&destinations[position], position);
                destinations[position].closed(true);
                idle.tell(&destinations[position], position);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(change);
            }
        });
        assert_eq!(idle.count.load(Relaxed), 3);
    }
}
