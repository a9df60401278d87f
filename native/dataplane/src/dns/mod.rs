//! Cluster DNS: answers straight from tables that follow the cluster, everything else is forwarded.
//!
//! The names and their records are the caller's business (`kubecore/dns`, after the Kubernetes DNS specification 1.1);
//! this module knows zones, wire format, transport and upstream resolvers.

mod answer;
mod cache;
mod forwarding;
mod names;
mod search;
mod server;
mod table;
mod troubles;
mod upstream;

pub use server::{DnsForwarding, DnsOptions, DnsServer, DnsStatistics};
pub use table::{RecordError, RecordSpec, Table};
pub use troubles::Troubles;

#[cfg(test)]
mod tests;
