//! The schedulers, one file each, behind one trait.

mod failover;
mod hash;
mod least;
mod locality;
mod maglev;
mod round_robin;
mod weighted_round_robin;

use std::str::FromStr;
use std::sync::Arc;

use super::destination::Destination;
use super::flow::Flow;
use super::service::ServiceOptions;

/// Picks destinations of one list. All methods may run at the same time on many threads.
pub trait Schedule: Send + Sync {
    /// The position of the destination for this flow, or None when none is available.
    fn pick(&self, destinations: &[Arc<Destination>], flow: &Flow) -> Option<usize>;

    /// The scheduler for the list `new`, which replaces `old`: new destinations stand before those that stay.
    fn successor(&self, old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Schedule>;

    /// The counts of `destinations[position]` have changed.
    fn load_changed(&self, _destinations: &[Arc<Destination>], _position: usize) {}
}

/// IPVS's schedulers, under their `ipvsadm -s` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchedulerKind {
    RoundRobin,
    WeightedRoundRobin,
    LeastConnection,
    WeightedLeastConnection,
    SourceHash,
    DestinationHash,
    ShortestExpectedDelay,
    NeverQueue,
    LocalityLeastConnection,
    Maglev,
    Failover,
    Overflow,
}

impl SchedulerKind {
    pub const ALL: [Self; 12] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnection,
        Self::WeightedLeastConnection,
        Self::SourceHash,
        Self::DestinationHash,
        Self::ShortestExpectedDelay,
        Self::NeverQueue,
        Self::LocalityLeastConnection,
        Self::Maglev,
        Self::Failover,
        Self::Overflow,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnection => "lc",
            Self::WeightedLeastConnection => "wlc",
            Self::SourceHash => "sh",
            Self::DestinationHash => "dh",
            Self::ShortestExpectedDelay => "sed",
            Self::NeverQueue => "nq",
            Self::LocalityLeastConnection => "lblc",
            Self::Maglev => "mh",
            Self::Failover => "fo",
            Self::Overflow => "ovf",
        }
    }
}

impl FromStr for SchedulerKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("unknown scheduler {name:?}: expected one of {}", names.join(", "))
        })
    }
}

impl ServiceOptions {
    /// A scheduler for a service that has no destinations yet.
    pub(super) fn build(&self) -> Box<dyn Schedule> {
        match self.scheduler {
            SchedulerKind::RoundRobin => Box::new(round_robin::RoundRobin::default()),
            SchedulerKind::WeightedRoundRobin => {
                Box::new(weighted_round_robin::WeightedRoundRobin::default())
            }
            SchedulerKind::LeastConnection => Box::new(least::Least::new(least::Metric::Connections)),
            SchedulerKind::WeightedLeastConnection => Box::new(least::Least::new(least::Metric::Weighted)),
            SchedulerKind::ShortestExpectedDelay => Box::new(least::Least::new(least::Metric::ExpectedDelay)),
            SchedulerKind::NeverQueue => Box::new(least::Least::new(least::Metric::NeverQueue)),
            SchedulerKind::SourceHash => Box::new(hash::SourceHash::new(self.hash)),
            SchedulerKind::DestinationHash => Box::new(hash::DestinationHash::default()),
            SchedulerKind::LocalityLeastConnection => Box::new(locality::Locality::default()),
            SchedulerKind::Maglev => Box::new(maglev::Maglev::new(self.hash)),
            SchedulerKind::Failover => Box::new(failover::Failover),
            SchedulerKind::Overflow => Box::new(failover::Overflow),
        }
    }
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
