//! wrr: passes over the list for a falling weight, so that heavier destinations are met more often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustc_hash::FxHashSet;

use super::{Schedule, gcd};
use crate::balance::destination::Destination;
use crate::balance::flow::Flow;

/// Where the rotation stands; packed into one word so that a pick is one compare and swap.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// List entries up to and with the last pick; 0 stands before the list.
    after: u32,
    /// A destination needs at least this weight in the current pass; 0 before the first.
    level: u32,
}

impl Mark {
    fn pack(self) -> u64 {
        u64::from(self.after) << 32 | u64::from(self.level)
    }

    fn unpack(word: u64) -> Self {
        Self { after: (word >> 32) as u32, level: word as u32 }
    }
}

/// The levels run from `top` = greatest weight - (step - 1) down to 1 in steps of the weights' common divisor.
#[derive(Clone, Copy)]
struct Levels {
    heaviest: u32,
    divisor: u32,
}

impl Levels {
    const NONE: Self = Self { heaviest: 0, divisor: 0 };

    fn with(self, weight: u32) -> Self {
        Self { heaviest: self.heaviest.max(weight), divisor: gcd(self.divisor, weight) }
    }

    fn step(self) -> u32 {
        self.divisor.max(1)
    }

    fn top(self) -> u32 {
        self.heaviest.saturating_sub(self.step() - 1)
    }

    /// The level after the list has changed.
    fn adapt(self, level: u32) -> u32 {
        if level > self.top() || level == 0 {
            self.top()
        } else if self.step() > 1 {
            level / self.step() * self.step() + 1
        } else {
            level
        }
    }
}

pub(super) struct WeightedRoundRobin {
    mark: AtomicU64,
    levels: Levels,
}

impl Default for WeightedRoundRobin {
    fn default() -> Self {
        Self { mark: AtomicU64::new(0), levels: Levels::NONE }
    }
}

impl WeightedRoundRobin {
    /// One step of the rotation: (position, where the mark then stands).
    fn advance(&self, destinations: &[Arc<Destination>], mark: Mark) -> Option<(usize, Mark)> {
        let (top, step) = (self.levels.top(), self.levels.step());
        if top == 0 {
            return None;
        }
        let usable = |destination: &&Arc<Destination>| !destination.overloaded();
        let at_level = |from: usize, level: u32| {
            let found = (from..destinations.len())
                .find(|&at| destinations[at].weight() >= level && usable(&&destinations[at]))?;
            Some((found, Mark { after: found as u32 + 1, level }))
        };
        let mut level = mark.level.clamp(1, top);
        if let Some(found) = at_level(mark.after as usize, level) {
            return Some(found);
        }
        let heaviest = destinations.iter().filter(usable).map(|destination| destination.weight()).max()?;
        if heaviest == 0 {
            return None;
        }
        level = if level > step { level - step } else { top };
        if level > heaviest {
            // Levels that nobody reaches are passed at once; all levels are 1 above a multiple of the step.
            level -= (level - heaviest).div_ceil(step) * step;
        }
        at_level(0, level)
    }
}

impl Schedule for WeightedRoundRobin {
    fn pick(&self, destinations: &[Arc<Destination>], _flow: &Flow) -> Option<usize> {
        let mut word = self.mark.load(Relaxed);
        loop {
            let (position, next) = self.advance(destinations, Mark::unpack(word))?;
            match self.mark.compare_exchange_weak(word, next.pack(), Relaxed, Relaxed) {
                Ok(_) => return Some(position),
                Err(moved) => word = moved,
            }
        }
    }

    /// As if the destinations had been taken out first and then added one by one, which is what IPVS is told:
    /// every change starts the list anew, and the level is kept where it still fits.
    fn successor(&self, old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Schedule> {
        let present: FxHashSet<_> = old.iter().map(Arc::as_ptr).collect();
        let stay = new.iter().filter(|destination| present.contains(&Arc::as_ptr(destination)));
        let mut levels = stay.fold(Levels::NONE, |levels, destination| levels.with(destination.weight()));
        let mut level = levels.adapt(Mark::unpack(self.mark.load(Relaxed)).level);
        for destination in new.iter().rev().filter(|added| !present.contains(&Arc::as_ptr(added))) {
            levels = levels.with(destination.weight());
            level = levels.adapt(level);
        }
        Box::new(Self { mark: AtomicU64::new(Mark { after: 0, level }.pack()), levels })
    }
}
