//! What tells tracked connections apart, in 40 bytes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::balance::flow::Protocol;

/// A client, the address it asked for, and the protocol. IPv4 is kept as IPv6-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    client: [u64; 2],
    target: [u64; 2],
    /// Both ports and the protocol.
    rest: u64,
}

impl FlowKey {
    pub(super) fn new(protocol: Protocol, client: SocketAddr, target: SocketAddr) -> Self {
        let rest = u64::from(client.port()) << 24 | u64::from(target.port()) << 8 | u64::from(protocol as u8);
        Self { client: words(client.ip()), target: words(target.ip()), rest }
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self.rest as u8 {
            0 => Protocol::Tcp,
            1 => Protocol::Udp,
            _ => Protocol::Sctp,
        }
    }

    pub(super) fn client(&self) -> SocketAddr {
        SocketAddr::new(address(self.client), (self.rest >> 24) as u16)
    }

    pub(super) fn target(&self) -> SocketAddr {
        SocketAddr::new(address(self.target), (self.rest >> 8) as u16)
    }
}

fn words(address: IpAddr) -> [u64; 2] {
    let bits = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

fn address(words: [u64; 2]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(u128::from(words[0]) << 64 | u128::from(words[1]))).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were() {
        for (client, target) in [("10.0.0.1:65535", "10.96.0.1:80"), ("[fd00::1]:1", "[fd00::96]:65535")] {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                let (client, target) = (client.parse().unwrap(), target.parse().unwrap());
                let key = FlowKey::new(protocol, client, target);
                assert_eq!((key.protocol(), key.client(), key.target()), (protocol, client, target));
            }
        }
    }
}
