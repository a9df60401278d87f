//! Has the kernel lead connections and packets for many addresses to one socket: a program (BPF, type sk_lookup) that it
//! runs when it looks for the socket that they are for. See Documentation/bpf/prog_sk_lookup.rst.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use kubecore_core::balance::Protocol;
use socket2::Socket;

use crate::bpf::{self, FRAME, Function, Label, Map, Program, R0, R1, R2, R3, R6, R7};

/// What becomes of connections for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As if nobody listened there: TCP answers with a reset, UDP with port unreachable.
    Refuse,
    Lead,
}

/// Offsets in `struct bpf_sk_lookup`. Of the two local addresses the one of the other family is zero.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const LOCAL_IP4: i16 = 40;
const LOCAL_IP6: i16 = 44;
const LOCAL_PORT: i16 = 60;

/// The program's answers (`enum sk_action`).
const DROP: i32 = 0;
const PASS: i32 = 1;

/// Who comes for more addresses than these have listeners of their own.
const MOST_ADDRESSES: u32 = 65_536;
/// What the map of addresses says of one that is refused; other values are places in the map of sockets.
const REFUSED: u32 = 0;

/// As the kernel has an address: both of them in network order, one of them zero, and the port. With both of them zero
/// it stands for all addresses of its family.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    protocol: u32,
    family: u32,
    six: [u8; 16],
    four: [u8; 4],
    port: u32,
}

impl Key {
    fn of(protocol: Protocol, address: SocketAddr) -> Self {
        let (family, six, four) = match address.ip() {
            IpAddr::V4(four) => (libc::AF_INET, [0; 16], four.octets()),
            IpAddr::V6(six) => (libc::AF_INET6, six.octets(), [0; 4]),
        };
        Self { protocol: number(protocol), family: family as u32, six, four, port: address.port().into() }
    }
}

fn number(protocol: Protocol) -> u32 {
    let number = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
        Protocol::Sctp => libc::IPPROTO_SCTP,
    };
    number as u32
}

/// Where the socket for a protocol and family is in the map of sockets; not `REFUSED`.
fn place(protocol: Protocol, ipv4: bool) -> u32 {
    let first = if protocol == Protocol::Tcp { 1 } else { 3 };
    if ipv4 { first } else { first + 1 }
}

const PLACES: u32 = 5;

/// Addresses of TCP and UDP and what becomes of who comes for them, in one network namespace. All others are left alone.
#[derive(Debug)]
pub(crate) struct Steering {
    addresses: Map<Key, u32>,
    _attached: OwnedFd,
}

impl Steering {
    /// In the calling thread's network namespace. `sockets` are of one protocol and family each.
    ///
    /// Errors: EPERM without CAP_BPF and CAP_NET_ADMIN; EINVAL or ENOSYS of a kernel that has not what it takes.
    pub(crate) fn new(sockets: &[(Protocol, &Socket)]) -> io::Result<Self> {
        let addresses = Map::new(bpf::HASH, MOST_ADDRESSES, bpf::NO_PREALLOC)?;
        let places: Map<u32, u32> = Map::new(bpf::SOCKMAP, PLACES, 0)?;
        let program = program(&addresses, &places).load_socket_lookup()?;
        for (protocol, socket) in sockets {
            places.set(place(*protocol, socket.local_addr()?.is_ipv4()), socket.as_raw_fd() as u32)?;
        }
        let namespace = File::open("/proc/thread-self/ns/net")?;
        Ok(Self { addresses, _attached: bpf::attach(&program, namespace.as_fd())? })
    }

    /// An unspecified address stands for all of its family that are not set themselves.
    ///
    /// Errors: E2BIG when there are too many.
    pub(crate) fn set(&self, protocol: Protocol, address: SocketAddr, verdict: Verdict) -> io::Result<()> {
        let value = match verdict {
            Verdict::Refuse => REFUSED,
            Verdict::Lead => place(protocol, address.is_ipv4()),
        };
        self.addresses.set(Key::of(protocol, address), value)
    }

    /// Who comes for it finds whoever listens there.
    pub(crate) fn remove(&self, protocol: Protocol, address: SocketAddr) {
        let _ = self.addresses.remove(Key::of(protocol, address));
    }
}

fn program(addresses: &Map<Key, u32>, sockets: &Map<u32, u32>) -> Program {
    let mut code = Program::default();
    let (mut found, mut pass, mut drop) = (Label::default(), Label::default(), Label::default());
    code.copy(R6, R1);
    let own = (0..4).map(|word| LOCAL_IP6 + word * 4).chain([LOCAL_IP4]);
    let key = -(size_of::<Key>() as i16);
    for (word, from) in [PROTOCOL, FAMILY].into_iter().chain(own.clone()).chain([LOCAL_PORT]).enumerate() {
        code.load(R2, R6, from);
        code.store(FRAME, key + word as i16 * 4, R2);
    }
    look_up(&mut code, addresses, key);
    code.jump_unless_equal(R0, 0, &mut found);
    code.set(R2, 0);
    for (word, _) in own.enumerate() {
        code.store(FRAME, key + std::mem::offset_of!(Key, six) as i16 + word as i16 * 4, R2);
    }
    look_up(&mut code, addresses, key);
    code.jump_if_equal(R0, 0, &mut pass);
    code.place(&found);
    code.load(R2, R0, 0);
    code.jump_if_equal(R2, REFUSED as i32, &mut drop);
    code.store(FRAME, -4, R2);
    look_up(&mut code, sockets, -4);
    code.jump_if_equal(R0, 0, &mut pass);
    code.copy(R7, R0);
    code.copy(R1, R6);
    code.copy(R2, R7);
    code.set(R3, 0);
    code.call(Function::SocketAssign);
    code.copy(R1, R7);
    code.call(Function::SocketRelease);
    code.place(&pass);
    code.leave(PASS);
    code.place(&drop);
    code.leave(DROP);
    code
}

/// Leaves a pointer to the value of the key at `key` of the stack in R0, or 0.
fn look_up<K, V>(code: &mut Program, map: &Map<K, V>, key: i16) {
    code.copy(R2, FRAME);
    code.add(R2, key.into());
    code.set_map(R1, map);
    code.call(Function::MapLookUp);
}
