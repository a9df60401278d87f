//! What is said within the namespace in the names of those outside: packets of UDP, and that there is nobody (ICMP).
//!
//! Raw sockets say it: a socket of UDP would have to be bound to each address that is answered for, and would take its
//! port from whoever listens in there.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::BorrowedFd;

use kubecore_sockets::raw_within;
use socket2::{Protocol, Socket};

use crate::access::close_to_all;
use crate::datagrams;

/// Of UDP.
pub(super) const HEADER: usize = 8;
const UDP: u8 = 17;
const IP_HEADER: usize = 20;

/// Codes of ICMP's Destination Unreachable (RFC 792).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreachable {
    Network = 0,
    Host = 1,
    Port = 3,
}

impl Unreachable {
    /// None: what went wrong says nothing of who was asked.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error() {
            Some(libc::ENETUNREACH) => Some(Self::Network),
            Some(libc::EHOSTUNREACH) => Some(Self::Host),
            Some(libc::ECONNREFUSED) => Some(Self::Port),
            _ => None,
        }
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

    /// A packet's content behind room for its header.
    pub(super) fn answer(
        &self,
        client: SocketAddrV4,
        target: SocketAddrV4,
        packet: &mut [u8],
    ) -> io::Result<()> {
        write_header(packet, target, client);
        let to = SocketAddrV4::new(*client.ip(), 0);
        datagrams::send(&self.udp, packet, to.into(), Some((*target.ip()).into()))
    }

    /// In the name of `target`, which a packet with `length` bytes of content was for.
    pub(super) fn refuse(
        &self,
        client: SocketAddrV4,
        target: SocketAddrV4,
        length: usize,
        why: Unreachable,
    ) -> io::Result<()> {
        let packet = unreachable(client, target, length, why);
        let to = SocketAddrV4::new(*client.ip(), 0);
        datagrams::send(&self.icmp, &packet, to.into(), Some((*target.ip()).into()))
    }
}

fn write_header(packet: &mut [u8], from: SocketAddrV4, to: SocketAddrV4) {
    let length = packet.len() as u16;
    packet[0..2].copy_from_slice(&from.port().to_be_bytes());
    packet[2..4].copy_from_slice(&to.port().to_be_bytes());
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[6..8].fill(0);
    let mut sum = Sum::default();
    sum.add(&from.ip().octets());
    sum.add(&to.ip().octets());
    sum.add(&[0, UDP]);
    sum.add(&length.to_be_bytes());
    sum.add(packet);
    // Zero would say that there is none (RFC 768).
    let checksum = match sum.finish() {
        0 => u16::MAX,
        other => other,
    };
    packet[6..8].copy_from_slice(&checksum.to_be_bytes());
}

/// ICMP's header, and as much of the packet that it is about as tells whose that was.
fn unreachable(client: SocketAddrV4, target: SocketAddrV4, length: usize, why: Unreachable) -> Vec<u8> {
    const ICMP_HEADER: usize = 8;
    let mut packet = vec![0; ICMP_HEADER + IP_HEADER + HEADER];
    let about = (HEADER + length) as u16;
    packet[0] = 3;
    packet[1] = why as u8;
    let (head, content) = packet[ICMP_HEADER..].split_at_mut(IP_HEADER);
    head[0] = 0x45;
    head[2..4].copy_from_slice(&(IP_HEADER as u16).saturating_add(about).to_be_bytes());
    (head[8], head[9]) = (64, UDP);
    head[12..16].copy_from_slice(&client.ip().octets());
    head[16..20].copy_from_slice(&target.ip().octets());
    let checksum = Sum::of(head);
    head[10..12].copy_from_slice(&checksum.to_be_bytes());
    content[0..2].copy_from_slice(&client.port().to_be_bytes());
    content[2..4].copy_from_slice(&target.port().to_be_bytes());
    content[4..6].copy_from_slice(&about.to_be_bytes());
    let checksum = Sum::of(&packet);
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// The checksum of the internet's protocols (RFC 1071). Only the last part may have an odd length.
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn of(bytes: &[u8]) -> u16 {
        let mut sum = Self::default();
        sum.add(bytes);
        sum.finish()
    }

    fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<2>();
        self.0 += words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>();
        self.0 += rest.iter().map(|last| u64::from(*last) << 8).sum::<u64>();
    }

    fn finish(mut self) -> u16 {
        while self.0 > u64::from(u16::MAX) {
            self.0 = (self.0 & u64::from(u16::MAX)) + (self.0 >> 16);
        }
        !(self.0 as u16)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn at(last: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port)
    }

    #[test]
    fn a_header_makes_the_checksum_over_packet_and_addresses_come_out_even() {
        let mut packet = [0, 0, 0, 0, 0, 0, 0, 0, b'o', b'd', b'd'];
        write_header(&mut packet, at(1, 53), at(2, 4000));
        assert_eq!(&packet[..6], [0, 53, 0x0f, 0xa0, 0, 11]);
        let mut sum = Sum::default();
        sum.add(&[192, 0, 2, 1, 192, 0, 2, 2, 0, UDP, 0, 11]);
        sum.add(&packet);
        assert_eq!(sum.finish(), 0);
    }

    #[test]
    fn who_is_told_that_nobody_is_there_is_told_of_which_packet_of_his() {
        let packet = unreachable(at(2, 4000), at(1, 53), 3, Unreachable::Port);
        assert_eq!((packet[0], packet[1], Sum::of(&packet)), (3, 3, 0));
        let about = &packet[8..];
        assert_eq!((Sum::of(&about[..20]), about[9], &about[2..4]), (0, UDP, &[0, 31][..]));
        assert_eq!((&about[12..16], &about[16..20]), (&[192, 0, 2, 2][..], &[192, 0, 2, 1][..]));
        assert_eq!(&about[20..], [0x0f, 0xa0, 0, 53, 0, 11, 0, 0]);
    }
}
