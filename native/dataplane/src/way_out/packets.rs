//! What is said within the namespace in the names of those outside: packets of UDP, and that there is nobody (ICMP).
//!
//! Raw sockets say it: a socket of UDP would have to be bound to each address that is answered for, and would take its
//! port from whoever listens in there.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::BorrowedFd;

use etherparse::err::ValueTooBigError;
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, UdpHeader};
use kubecore_sockets::raw_within;
use socket2::{Protocol, Socket};

use crate::access::close_to_all;
use crate::datagrams;
use crate::flow_socket::HEADROOM;

/// Of UDP.
const HEADER: usize = UdpHeader::LEN;
const _: () = assert!(HEADER == HEADROOM, "an answer is received behind room for its header");
const IP_HEADER: usize = Ipv4Header::MIN_LEN;
const ICMP_HEADER: usize = Icmpv4Header::MIN_LEN;
/// Of a whole one, of ICMP.
const REFUSAL: usize = ICMP_HEADER + IP_HEADER + HEADER;
const TIME_TO_LIVE: u8 = 64;

/// Why a packet did not get there. None: what went wrong says nothing of who was asked.
pub(super) fn unreachable_by(error: &io::Error) -> Option<DestUnreachableHeader> {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH) => Some(DestUnreachableHeader::Network),
        Some(libc::EHOSTUNREACH) => Some(DestUnreachableHeader::Host),
        Some(libc::ECONNREFUSED) => Some(DestUnreachableHeader::Port),
        _ => None,
    }
}

pub(super) struct Packets {
    udp: Socket,
    icmp: Socket,
}

impl Packets {
    pub(super) fn within(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let sending = |protocol| {
            let socket = raw_within(namespace, protocol)?;
            // Else each would be given a copy of whatever comes into the namespace.
            close_to_all(&socket)?;
            socket.set_ip_transparent_v4(true)?;
            Ok::<_, io::Error>(socket)
        };
        Ok(Self { udp: sending(Protocol::UDP)?, icmp: sending(Protocol::ICMPV4)? })
    }

    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        let made = || Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        Self { udp: made(), icmp: made() }
    }

    /// A packet's content behind room for its header.
    pub(super) fn answer(
        &self,
        client: SocketAddrV4,
        target: SocketAddrV4,
        packet: &mut [u8],
    ) -> io::Result<()> {
        write_header(packet, target, client)?;
        let to = SocketAddrV4::new(*client.ip(), 0);
        datagrams::send(&self.udp, packet, to.into(), Some((*target.ip()).into()))
    }

    /// In the name of `target`, which a packet with `length` bytes of content was for.
    pub(super) fn refuse(
        &self,
        client: SocketAddrV4,
        target: SocketAddrV4,
        length: usize,
        why: DestUnreachableHeader,
    ) -> io::Result<()> {
        let packet = unreachable(client, target, length, why)?;
        let to = SocketAddrV4::new(*client.ip(), 0);
        datagrams::send(&self.icmp, &packet, to.into(), Some((*target.ip()).into()))
    }
}

fn write_header(packet: &mut [u8], from: SocketAddrV4, to: SocketAddrV4) -> io::Result<()> {
    let (head, content) = packet.split_at_mut(HEADER);
    let header = udp_header(from, to, content.len())?;
    let (source, destination) = (from.ip().octets(), to.ip().octets());
    let checksum = header.calc_checksum_ipv4_raw(source, destination, content).map_err(too_long)?;
    head.copy_from_slice(&UdpHeader { checksum, ..header }.to_bytes());
    Ok(())
}

/// Without a checksum.
fn udp_header(from: SocketAddrV4, to: SocketAddrV4, length: usize) -> io::Result<UdpHeader> {
    UdpHeader::without_ipv4_checksum(from.port(), to.port(), length).map_err(too_long)
}

fn too_long(_: ValueTooBigError<usize>) -> io::Error {
    io::Error::from_raw_os_error(libc::EMSGSIZE)
}

/// ICMP's header, and as much of the packet that it is about as tells whose that was.
fn unreachable(
    client: SocketAddrV4,
    target: SocketAddrV4,
    length: usize,
    why: DestUnreachableHeader,
) -> io::Result<[u8; REFUSAL]> {
    let (source, destination) = (client.ip().octets(), target.ip().octets());
    let about = udp_header(client, target, length)?;
    let carried = Ipv4Header::new(about.length, TIME_TO_LIVE, IpNumber::UDP, source, destination);
    let mut carried = carried.map_err(|_| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
    // Nobody knows here what else was in it.
    carried.dont_fragment = false;
    carried.header_checksum = carried.calc_header_checksum();
    let mut packet = [0; REFUSAL];
    let (head, cited) = packet.split_at_mut(ICMP_HEADER);
    cited[..IP_HEADER].copy_from_slice(&carried.to_bytes());
    cited[IP_HEADER..].copy_from_slice(&about.to_bytes());
    let header = Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(why), cited);
    head.copy_from_slice(&header.to_bytes());
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn at(last: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port)
    }

    #[test]
    fn a_header_has_the_checksum_over_packet_and_addresses() {
        let mut packet = [0, 0, 0, 0, 0, 0, 0, 0, b'o', b'd', b'd'];
        write_header(&mut packet, at(1, 53), at(2, 4000)).unwrap();
        assert_eq!(packet, [0, 53, 0x0f, 0xa0, 0, 11, 0x98, 0x9a, b'o', b'd', b'd']);
    }

    #[test]
    fn a_checksum_that_comes_out_as_none_is_written_as_the_other_zero() {
        let mut packet = [0, 0, 0, 0, 0, 0, 0, 0, 0x6c, 0x01];
        write_header(&mut packet, at(1, 53), at(2, 4000)).unwrap();
        assert_eq!(packet[6..8], [0xff, 0xff]);
    }

    #[test]
    fn who_is_told_that_nobody_is_there_is_told_of_which_packet_of_his() {
        let packet = unreachable(at(2, 4000), at(1, 53), 3, DestUnreachableHeader::Port).unwrap();
        let (head, about) = packet.split_at(ICMP_HEADER);
        assert_eq!(head, [3, 3, 0xed, 0x1c, 0, 0, 0, 0]);
        let addresses = [192, 0, 2, 2, 192, 0, 2, 1];
        assert_eq!(about[..12], [0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0xf6, 0xca]);
        assert_eq!(about[12..20], addresses);
        assert_eq!(about[20..], [0x0f, 0xa0, 0, 53, 0, 11, 0, 0]);
    }

    #[test]
    fn a_packet_that_no_header_can_tell_the_length_of_is_none() {
        let mut packet = vec![0; HEADER + 65_528];
        let error = write_header(&mut packet, at(1, 53), at(2, 4000)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    }
}
