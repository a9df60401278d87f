//! Has the kernel lead connections for many addresses to one listening socket: a program (BPF, type sk_lookup) that it
//! runs when it looks for the socket that a connection is for. See Documentation/bpf/prog_sk_lookup.rst.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use socket2::Socket;

use crate::bpf::{self, FRAME, Function, Label, Map, Program, R0, R1, R2, R3, R6, R7};

/// What becomes of connections for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As if nobody listened there: TCP answers with a reset.
    Refuse,
    Lead,
}

/// Offsets in `struct bpf_sk_lookup`. Of the two local addresses the one of the other family is zero.
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

/// As the kernel has an address: both of them in network order, one of them zero, and the port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    six: [u8; 16],
    four: [u8; 4],
    port: u32,
}

impl From<SocketAddr> for Key {
    fn from(address: SocketAddr) -> Self {
        let (six, four) = match address.ip() {
            IpAddr::V4(four) => ([0; 16], four.octets()),
            IpAddr::V6(six) => (six.octets(), [0; 4]),
        };
        Self { six, four, port: address.port().into() }
    }
}

fn place(ipv4: bool) -> u32 {
    if ipv4 { 1 } else { 2 }
}

/// Addresses of TCP and what becomes of connections for them, in one network namespace. All others are left alone.
#[derive(Debug)]
pub(crate) struct Steering {
    addresses: Map<Key, u32>,
    _attached: OwnedFd,
}

impl Steering {
    /// In the calling thread's network namespace. `listeners` are of one family each.
    ///
    /// Errors: EPERM without CAP_BPF and CAP_NET_ADMIN; EINVAL or ENOSYS of a kernel that has not what it takes.
    pub(crate) fn new(listeners: &[&Socket]) -> io::Result<Self> {
        let addresses = Map::new(bpf::HASH, MOST_ADDRESSES, bpf::NO_PREALLOC)?;
        let sockets: Map<u32, u32> = Map::new(bpf::SOCKMAP, place(false) + 1, 0)?;
        let program = program(&addresses, &sockets).load_socket_lookup()?;
        for listener in listeners {
            sockets.set(place(listener.local_addr()?.is_ipv4()), listener.as_raw_fd() as u32)?;
        }
        let namespace = File::open("/proc/thread-self/ns/net")?;
        Ok(Self { addresses, _attached: bpf::attach(&program, namespace.as_fd())? })
    }

    pub(crate) fn set(&self, address: SocketAddr, verdict: Verdict) -> io::Result<()> {
        let value = match verdict {
            Verdict::Refuse => REFUSED,
            Verdict::Lead => place(address.is_ipv4()),
        };
        self.addresses.set(address.into(), value)
    }

    /// Connections for it find whoever listens there.
    pub(crate) fn remove(&self, address: SocketAddr) {
        let _ = self.addresses.remove(address.into());
    }
}

fn program(addresses: &Map<Key, u32>, sockets: &Map<u32, u32>) -> Program {
    let (mut code, mut pass, mut drop) = (Program::default(), Label::default(), Label::default());
    code.copy(R6, R1);
    code.load(R2, R6, PROTOCOL);
    code.jump_unless_equal(R2, libc::IPPROTO_TCP, &mut pass);
    let six = (0..4).map(|word| LOCAL_IP6 + word * 4);
    let key = -(size_of::<Key>() as i16);
    for (word, from) in six.chain([LOCAL_IP4, LOCAL_PORT]).enumerate() {
        code.load(R2, R6, from);
        code.store(FRAME, key + word as i16 * 4, R2);
    }
    look_up(&mut code, addresses, key);
    code.jump_if_equal(R0, 0, &mut pass);
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
