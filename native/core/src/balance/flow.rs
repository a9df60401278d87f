//! What a packet or connection is matched by.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Transport protocols a virtual service can balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The name Kubernetes uses in `spec.ports[].protocol`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.to_ascii_uppercase().as_str() {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            _ => Err(format!("unknown protocol {name:?}: expected TCP, UDP or SCTP")),
        }
    }
}

/// What names a virtual service: an address of its own, or a firewall mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceKey {
    Address { protocol: Protocol, address: SocketAddr },
    Mark(u32),
}

impl ServiceKey {
    pub fn new(protocol: Protocol, address: SocketAddr) -> Self {
        Self::Address { protocol, address }
    }
}

impl std::fmt::Display for ServiceKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address { protocol, address } => write!(out, "{}/{address}", protocol.as_str()),
            Self::Mark(mark) => write!(out, "FWM/{mark}"),
        }
    }
}

/// One new connection as a scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub source: SocketAddr,
    /// The address the client asked for (the virtual one); `dh` and `lblc` go by it.
    pub target: IpAddr,
}

impl Flow {
    pub fn new(source: SocketAddr, target: IpAddr) -> Self {
        Self { source, target }
    }
}

/// Four bytes for any address, as IPVS folds them before it hashes: IPv4 as it is, IPv6 by xor of its words.
pub(super) fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => u32::from(v4),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
}
