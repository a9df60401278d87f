//! What tells tracked connections apart, in 40 bytes, and in 16.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4};

use crate::balance::flow::Protocol;

/// A client, the address it asked for, and the protocol. IPv4 is kept as IPv6-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    client: [u64; 2],
    target: [u64; 2],
    /// Both ports and the protocol.
    rest: u64,
}

impl FlowKey {
    pub fn new(protocol: Protocol, client: SocketAddr, target: SocketAddr) -> Self {
        let rest = rest(protocol, client.port(), target.port());
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

    /// The key itself where both addresses are IPv4, a fingerprint otherwise.
    pub(super) fn short(&self, seeds: &[u64; 2]) -> Short {
        let [client, target] = [self.client, self.target];
        if [client, target].iter().all(|address| address[0] == 0 && address[1] >> 32 == MAPPED) {
            return Short::exact(client[1] << 32 | target[1] & u64::from(u32::MAX), self.rest);
        }
        let mut first = mix(client[0] ^ seeds[0], client[1] ^ seeds[1]);
        first = mix(first ^ target[0], target[1] ^ seeds[1]);
        let second = mix(first ^ self.rest, seeds[0]);
        Short([first ^ second.rotate_left(32), second & !EXACT | USED])
    }
}

/// Bits 32 to 47 of an IPv4 address that is mapped to IPv6.
const MAPPED: u64 = 0xffff;
const USED: u64 = 1 << 63;
const EXACT: u64 = 1 << 62;

/// Sixteen bytes that stand for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short([u64; 2]);

impl Short {
    /// None for an empty slot's.
    pub(super) fn from_words(words: [u64; 2]) -> Option<Self> {
        (words[1] != 0).then_some(Self(words))
    }

    /// Of a key of IPv4: as its `FlowKey` has it, without one.
    pub(super) fn v4(protocol: Protocol, client: SocketAddrV4, target: SocketAddrV4) -> Self {
        let addresses = u64::from(client.ip().to_bits()) << 32 | u64::from(target.ip().to_bits());
        Self::exact(addresses, rest(protocol, client.port(), target.port()))
    }

    fn exact(addresses: u64, rest: u64) -> Self {
        Self([addresses, rest | USED | EXACT])
    }

    pub(super) fn words(self) -> [u64; 2] {
        self.0
    }

    /// No other key has the same.
    pub(super) fn is_exact(self) -> bool {
        self.0[1] & EXACT != 0
    }

    pub(super) fn hash(self, seeds: &[u64; 2]) -> u64 {
        mix(self.0[0] ^ seeds[0], self.0[1] ^ seeds[1])
    }
}

/// Both ports and the protocol.
fn rest(protocol: Protocol, client: u16, target: u16) -> u64 {
    u64::from(client) << 24 | u64::from(target) << 8 | u64::from(protocol as u8)
}

/// The halves of a 128 bit product, folded.
fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product >> 64) as u64 ^ product as u64
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

    fn key(protocol: Protocol, client: &str, target: &str) -> FlowKey {
        FlowKey::new(protocol, client.parse().unwrap(), target.parse().unwrap())
    }

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

    #[test]
    fn short_keys_of_ipv4_are_exact_and_differ_in_every_part() {
        let seeds = [1, 2];
        let all = [
            key(Protocol::Tcp, "10.0.0.1:65535", "10.96.0.1:80"),
            key(Protocol::Udp, "10.0.0.1:65535", "10.96.0.1:80"),
            key(Protocol::Tcp, "10.0.0.2:65535", "10.96.0.1:80"),
            key(Protocol::Tcp, "10.0.0.1:65534", "10.96.0.1:80"),
            key(Protocol::Tcp, "10.0.0.1:65535", "10.96.0.2:80"),
            key(Protocol::Tcp, "10.0.0.1:65535", "10.96.0.1:81"),
        ];
        let shorts: Vec<_> = all.iter().map(|key| key.short(&seeds)).collect();
        for (at, short) in shorts.iter().enumerate() {
            assert!(short.is_exact());
            let (SocketAddr::V4(client), SocketAddr::V4(target)) = (all[at].client(), all[at].target())
            else {
                panic!("of IPv4");
            };
            assert_eq!(*short, Short::v4(all[at].protocol(), client, target));
            assert!(!shorts[..at].contains(short));
        }
        assert!(!key(Protocol::Tcp, "[fd00::1]:1", "[fd00::96]:65535").short(&seeds).is_exact());
    }
}
