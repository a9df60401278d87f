//! fo and ovf: the heaviest destination gets all, until it is gone (fo) or busier than its weight says (ovf).

use std::sync::Arc;

use super::Schedule;
use crate::balance::destination::Destination;
use crate::balance::flow::Flow;

/// The first of the heaviest among those that pass.
fn heaviest(destinations: &[Arc<Destination>], passes: impl Fn(&Destination) -> bool) -> Option<usize> {
    let mut best: Option<(usize, u32)> = None;
    for (position, destination) in destinations.iter().enumerate() {
        let weight = destination.weight();
        if passes(destination) && best.is_none_or(|(_, most)| weight > most) {
            best = Some((position, weight));
        }
    }
    best.map(|(position, _)| position)
}

pub(super) struct Failover;

impl Schedule for Failover {
    fn pick(&self, destinations: &[Arc<Destination>], _flow: &Flow) -> Option<usize> {
        heaviest(destinations, Destination::available)
    }

    fn successor(&self, _old: &[Arc<Destination>], _new: &[Arc<Destination>]) -> Box<dyn Schedule> {
        Box::new(Self)
    }
}

pub(super) struct Overflow;

impl Schedule for Overflow {
    fn pick(&self, destinations: &[Arc<Destination>], _flow: &Flow) -> Option<usize> {
        heaviest(destinations, |destination| {
            destination.available() && destination.active() <= destination.weight()
        })
    }

    fn successor(&self, _old: &[Arc<Destination>], _new: &[Arc<Destination>]) -> Box<dyn Schedule> {
        Box::new(Self)
    }
}
