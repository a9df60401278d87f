//! rr: one after the other, weights ignored but for 0.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Schedule;
use crate::balance::destination::Destination;
use crate::balance::flow::Flow;

/// `after` is the number of list entries up to and with the last pick; 0 stands before the list.
#[derive(Default)]
pub(super) struct RoundRobin {
    after: AtomicUsize,
}

impl Schedule for RoundRobin {
    fn pick(&self, destinations: &[Arc<Destination>], _flow: &Flow) -> Option<usize> {
        let length = destinations.len();
        let after = self.after.load(Relaxed);
        let next = if after < length { after } else { 0 };
        let picked = if destinations.get(next)?.available() {
            next
        } else {
            let mut ahead = (after..length).chain(0..after.min(length));
            ahead.find(|&position| destinations[position].available())?
        };
        // No compare and swap, which costs more than the rest of the pick: of threads that pick at the same instant
        // two may get the same destination, which evens out.
        self.after.store(picked + 1, Relaxed);
        Some(picked)
    }

    fn successor(&self, old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Schedule> {
        let passed = &old[..self.after.load(Relaxed).min(old.len())];
        // The last pick that is still there; if it has gone, the one before it.
        let last = passed.iter().rev().find(|destination| !destination.removed());
        let after = last
            .and_then(|last| new.iter().position(|destination| Arc::ptr_eq(destination, last)))
            .map_or(0, |position| position + 1);
        Box::new(Self { after: AtomicUsize::new(after) })
    }
}
