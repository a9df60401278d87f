//! Packets of UDP with the addresses of both of their ends: a socket that takes those of many addresses must know which
//! one each came to, and answer from there.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::{SockAddr, SockAddrStorage};

/// Room for one control message with an address of IPv6, as aligned as its header must be.
type Control = [u64; 8];

/// Have the kernel tell of each packet where it was sent to.
pub(crate) fn tell_targets(socket: &impl AsRawFd, ipv4: bool) -> io::Result<()> {
    let (level, name) = if ipv4 {
        (libc::SOL_IP, libc::IP_RECVORIGDSTADDR)
    } else {
        (libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR)
    };
    let on: libc::c_int = 1;
    // SAFETY: the value is a live int of the length given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), size_of_val(&on) as u32)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A packet that has come: its length, and whose it is. `target` is None where the kernel did not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) length: usize,
    pub(crate) client: SocketAddr,
    pub(crate) target: Option<SocketAddr>,
}

/// Errors: what recvmsg(2) says, WouldBlock when nothing has come.
pub(crate) fn receive(socket: &impl AsRawFd, packet: &mut [u8]) -> io::Result<Arrived> {
    let mut name = SockAddrStorage::zeroed();
    let mut control: Control = [0; 8];
    let mut piece = libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = name.size_of();
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: all that `message` points to is live, and as long as it says.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled in as much of `name` as it says.
    let client = unsafe { SockAddr::new(name, message.msg_namelen) }.as_socket();
    let client = client.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Arrived { length: length as usize, client, target: target_of(&message) })
}

fn target_of(message: &libc::msghdr) -> Option<SocketAddr> {
    // SAFETY: the control messages are as the kernel has laid them out within the room it was given.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(found) = header.as_ref() {
            let length = match (found.cmsg_level, found.cmsg_type) {
                (libc::SOL_IP, libc::IP_ORIGDSTADDR) => Some(size_of::<libc::sockaddr_in>()),
                (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => Some(size_of::<libc::sockaddr_in6>()),
                _ => None,
            };
            if let Some(length) = length {
                let mut storage = SockAddrStorage::zeroed();
                ptr::copy_nonoverlapping(libc::CMSG_DATA(header), (&raw mut storage).cast::<u8>(), length);
                return SockAddr::new(storage, length as u32).as_socket();
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

/// Sends a packet to `client`, from `source` if given, an address of this host that the socket is not bound to alone.
pub(crate) fn send(
    socket: &impl AsRawFd,
    packet: &[u8],
    client: SocketAddr,
    source: Option<IpAddr>,
) -> io::Result<()> {
    let name = SockAddr::from(client);
    let mut control: Control = [0; 8];
    let mut piece = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = name.as_ptr().cast_mut().cast();
    message.msg_namelen = name.len();
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    if let Some(source) = source {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>();
        let length = match source {
            IpAddr::V4(four) => {
                // SAFETY: all-zero is a valid in_pktinfo.
                let mut info: libc::in_pktinfo = unsafe { mem::zeroed() };
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(four.octets());
                put(&message, libc::SOL_IP, libc::IP_PKTINFO, info)
            }
            IpAddr::V6(six) => {
                // SAFETY: all-zero is a valid in6_pktinfo.
                let mut info: libc::in6_pktinfo = unsafe { mem::zeroed() };
                info.ipi6_addr.s6_addr = six.octets();
                put(&message, libc::SOL_IPV6, libc::IPV6_PKTINFO, info)
            }
        };
        message.msg_controllen = length;
    }
    // SAFETY: all that `message` points to is live, as long as it says, and only read.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes the only control message; returns its length.
fn put<T>(message: &libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    // SAFETY: the room for control messages, which is aligned and larger than this one, is all zero and ours.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast::<T>(), value);
        libc::CMSG_SPACE(size_of::<T>() as u32) as usize
    }
}
