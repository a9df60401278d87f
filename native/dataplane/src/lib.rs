//! The service data plane: forwarding and DNS.
//!
//! `forwarder` listens on the addresses of virtual services and carries connections to the destinations that
//! `kubecore_core::balance` picks; `dns` answers cluster names from tables; `way_out` carries on what a network namespace
//! cannot lead out itself.

pub mod access;
mod binding;
mod bpf;
mod connecting;
mod connections;
mod datagrams;
pub mod dns;
mod flow_socket;
pub mod forwarder;
pub mod namespaces;
mod one_entrance;
mod one_listener;
mod one_receiver;
pub mod proxy_protocol;
mod pump;
pub mod relays;
mod splice;
mod steering;
mod tcp;
mod tcp_port;
mod udp;
mod udp_port;
mod wait;
pub mod way_out;

pub use forwarder::{Forwarder, ForwarderOptions};
