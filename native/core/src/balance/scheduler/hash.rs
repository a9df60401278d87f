//! sh and dh: 256 buckets dealt out among the destinations, found by the client's or the target's address.

use std::sync::Arc;

use super::Schedule;
use crate::balance::destination::Destination;
use crate::balance::flow::{Flow, fold};
use crate::balance::service::HashOptions;

const BITS: u32 = 8;
const BUCKETS: usize = 1 << BITS;
/// Linux's `GOLDEN_RATIO_32`, the multiplier of its `hash_32`.
const GOLDEN_RATIO: u32 = 0x61C8_8647;

fn hash_32(value: u32) -> usize {
    (value.wrapping_mul(GOLDEN_RATIO) >> (32 - BITS)) as usize
}

/// `share(destination)` buckets in a row for each, round and round until all are dealt.
fn deal(destinations: &[Arc<Destination>], share: impl Fn(&Destination) -> u32) -> Box<[u32]> {
    let mut buckets = Vec::with_capacity(BUCKETS);
    while !destinations.is_empty() && buckets.len() < BUCKETS {
        for (position, destination) in destinations.iter().enumerate() {
            let room = BUCKETS - buckets.len();
            let count = (share(destination).max(1) as usize).min(room);
            buckets.extend(std::iter::repeat_n(position as u32, count));
        }
    }
    buckets.into()
}

/// sh. A destination with weight 0 keeps one bucket, whose clients are refused unless `fallback` is set.
pub(super) struct SourceHash {
    options: HashOptions,
    buckets: Box<[u32]>,
}

impl SourceHash {
    pub(super) fn new(options: HashOptions) -> Self {
        Self { options, buckets: Box::default() }
    }
}

impl Schedule for SourceHash {
    fn pick(&self, destinations: &[Arc<Destination>], flow: &Flow) -> Option<usize> {
        let port = if self.options.port { u32::from(flow.source.port()) } else { 0 };
        let hash = hash_32(fold(flow.source.ip()).wrapping_add(port));
        let position = *self.buckets.get(hash)? as usize;
        if destinations[position].available() {
            return Some(position);
        }
        if !self.options.fallback {
            return None;
        }
        // IPVS looks at hash + (hash + i) for i = 0, 1, ...: every bucket once.
        (0..BUCKETS)
            .map(|step| self.buckets[(hash + (hash + step) % BUCKETS) % BUCKETS] as usize)
            .find(|&position| destinations[position].available())
    }

    fn successor(&self, _old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Schedule> {
        Box::new(Self { options: self.options, buckets: deal(new, Destination::weight) })
    }
}

/// dh: by the address asked for, weights ignored but for 0.
#[derive(Default)]
pub(super) struct DestinationHash {
    buckets: Box<[u32]>,
}

impl Schedule for DestinationHash {
    fn pick(&self, destinations: &[Arc<Destination>], flow: &Flow) -> Option<usize> {
        let position = *self.buckets.get(hash_32(fold(flow.target)))? as usize;
        destinations[position].available().then_some(position)
    }

    fn successor(&self, _old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Schedule> {
        Box::new(Self { buckets: deal(new, |_| 1) })
    }
}
