//! IPVS in user space: virtual services, their destinations (real servers) and the schedulers that pick one.
//!
//! Names and behaviour are those of Linux IPVS (net/netfilter/ipvs): for the same sequence of additions,
//! connections and weight changes a scheduler picks what the kernel picks. Picks read a snapshot and atomics, and
//! clients that are remembered are looked up in a map whose readers take no lock; changes build a new snapshot and
//! swap it in, and destinations that stay keep their counts.
//!
//! Time is handed in: `now` is milliseconds of any monotonic clock, the same one in all calls.

mod connection;
mod destination;
mod flow;
mod lingering;
mod persistence;
pub mod scheduler;
mod service;
mod statistics;
mod table;
mod tracking;

pub use connection::Connection;
pub use destination::{Destination, DestinationSpec, MAX_WEIGHT};
pub use flow::{Flow, Protocol, ServiceKey};
pub use persistence::Persistence;
pub use scheduler::SchedulerKind;
pub use service::{Changes, HashOptions, Picker, ServiceOptions, VirtualService};
pub use statistics::{ESTIMATION_PERIOD, Rates, Totals};
pub use table::Balancer;
pub use tracking::{
    Carried, Carrier, Direction, FlowKey, Packet, Segment, State, Timeouts, TrackedConnection, Verdict,
};

#[cfg(test)]
mod tests;
