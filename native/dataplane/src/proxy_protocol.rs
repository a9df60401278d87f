//! The PROXY protocol (haproxy's proxy-protocol.txt): tells a destination who its client is, before the first byte.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    V2,
}

impl ProxyProtocol {
    /// What goes before the bytes of a TCP connection from `client` to `target`.
    pub(crate) fn header(self, client: SocketAddr, target: SocketAddr) -> Vec<u8> {
        let (from, to) = same_family(client.ip(), target.ip());
        match self {
            Self::V1 => {
                let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                let (client, target) = (client.port(), target.port());
                format!("PROXY {family} {from} {to} {client} {target}\r\n").into_bytes()
            }
            Self::V2 => {
                let mut addresses = Vec::with_capacity(36);
                for ip in [from, to] {
                    match ip {
                        IpAddr::V4(v4) => addresses.extend(v4.octets()),
                        IpAddr::V6(v6) => addresses.extend(v6.octets()),
                    }
                }
                addresses.extend(client.port().to_be_bytes());
                addresses.extend(target.port().to_be_bytes());
                let family = if from.is_ipv4() { TCP_OVER_IPV4 } else { TCP_OVER_IPV6 };
                let mut header = SIGNATURE.to_vec();
                header.extend([VERSION_AND_COMMAND, family, 0, addresses.len() as u8]);
                header.extend(addresses);
                header
            }
        }
    }
}

/// Both as IPv4 if they are, else both as IPv6.
fn same_family(one: IpAddr, other: IpAddr) -> (IpAddr, IpAddr) {
    let wide = |ip: IpAddr| -> Ipv6Addr {
        match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        }
    };
    match (one.to_canonical(), other.to_canonical()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.into(), other.into()),
        (one, other) => (wide(one).into(), wide(other).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(protocol: ProxyProtocol, client: &str, target: &str) -> Vec<u8> {
        protocol.header(client.parse().unwrap(), target.parse().unwrap())
    }

    #[test]
    fn version_1_is_a_line() {
        let found = header(ProxyProtocol::V1, "192.0.2.1:56324", "192.0.2.2:443");
        assert_eq!(found, b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n");
        let found = header(ProxyProtocol::V1, "[2001:db8::1]:1", "[2001:db8::2]:2");
        assert_eq!(found, b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n");
    }

    #[test]
    fn version_2_is_binary() {
        let found = header(ProxyProtocol::V2, "192.0.2.1:256", "192.0.2.2:443");
        let expected =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x01\x00\x01\xbb";
        assert_eq!(found, expected);
        let found = header(ProxyProtocol::V2, "[::1]:1", "[::2]:2");
        assert_eq!((found.len(), found[13], found[15]), (16 + 36, 0x21, 36));
    }

    #[test]
    fn mixed_families_are_told_as_ipv6() {
        let found = header(ProxyProtocol::V1, "192.0.2.1:1", "[2001:db8::2]:2");
        assert_eq!(found, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
        let found = header(ProxyProtocol::V1, "[::ffff:192.0.2.1]:1", "192.0.2.2:2");
        assert_eq!(found, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    }
}
