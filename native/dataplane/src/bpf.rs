//! As much of bpf(2) and of its instructions as `steering` needs (linux/bpf.h, Documentation/bpf/standardization).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// bpf_cmd
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

/// bpf_prog_type and the bpf_attach_type that goes with it
const PROG_TYPE_SK_LOOKUP: u32 = 30;
const SK_LOOKUP: u32 = 36;

/// bpf_map_type
pub(crate) const HASH: u32 = 1;
pub(crate) const SOCKMAP: u32 = 15;
/// Entries take memory when they are made.
pub(crate) const NO_PREALLOC: u32 = 1;

/// The beginnings of the members of `union bpf_attr`; the kernel takes what is not given for zeros.
#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    most_entries: u32,
    flags: u32,
}

#[repr(C)]
struct ElementAttributes {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramAttributes {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
struct LinkAttributes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

fn call<A>(command: libc::c_int, attributes: &A) -> io::Result<RawFd> {
    // SAFETY: `attributes` is as long as is said, begins as the command's member of bpf_attr does, and what it points to
    // outlives the call; the kernel only reads it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

fn call_for_descriptor<A>(command: libc::c_int, attributes: &A) -> io::Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    // SAFETY: these commands return a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Keys and values of fixed types without padding.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    descriptor: OwnedFd,
    of: std::marker::PhantomData<fn(K, V)>,
}

impl<K: Copy, V: Copy> Map<K, V> {
    pub(crate) fn new(kind: u32, most_entries: u32, flags: u32) -> io::Result<Self> {
        let (key_bytes, value_bytes) = (size_of::<K>() as u32, size_of::<V>() as u32);
        let attributes = MapAttributes { kind, key_bytes, value_bytes, most_entries, flags };
        Ok(Self { descriptor: call_for_descriptor(MAP_CREATE, &attributes)?, of: std::marker::PhantomData })
    }

    /// Errors: E2BIG when it is full.
    pub(crate) fn set(&self, key: K, value: V) -> io::Result<()> {
        call(MAP_UPDATE_ELEM, &self.element(&key, std::ptr::from_ref(&value) as u64)).map(drop)
    }

    pub(crate) fn remove(&self, key: K) -> io::Result<()> {
        call(MAP_DELETE_ELEM, &self.element(&key, 0)).map(drop)
    }

    fn element(&self, key: &K, value: u64) -> ElementAttributes {
        let key = std::ptr::from_ref(key) as u64;
        ElementAttributes { map: self.descriptor.as_raw_fd() as u32, _padding: 0, key, value, flags: 0 }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    /// The destination in the low half, the source in the high one.
    registers: u8,
    offset: i16,
    value: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(u8);

pub(crate) const R0: Register = Register(0);
pub(crate) const R1: Register = Register(1);
pub(crate) const R2: Register = Register(2);
pub(crate) const R3: Register = Register(3);
pub(crate) const R6: Register = Register(6);
pub(crate) const R7: Register = Register(7);
/// The end of the stack, which grows downward.
pub(crate) const FRAME: Register = Register(10);

/// Numbers of functions of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Function {
    MapLookUp = 1,
    SocketRelease = 86,
    SocketAssign = 124,
}

/// A place further on that is jumped to before it is known where it is.
#[derive(Debug, Default)]
pub(crate) struct Label(Vec<usize>);

/// A program under construction.
#[derive(Debug, Default)]
pub(crate) struct Program(Vec<Instruction>);

impl Program {
    fn push(&mut self, code: u8, to: Register, from: Register, offset: i16, value: i32) {
        self.0.push(Instruction { code, registers: to.0 | from.0 << 4, offset, value });
    }

    /// Four bytes.
    pub(crate) fn load(&mut self, to: Register, from: Register, offset: i16) {
        self.push(0x61, to, from, offset, 0);
    }

    pub(crate) fn store(&mut self, to: Register, offset: i16, from: Register) {
        self.push(0x63, to, from, offset, 0);
    }

    pub(crate) fn copy(&mut self, to: Register, from: Register) {
        self.push(0xbf, to, from, 0, 0);
    }

    pub(crate) fn set(&mut self, to: Register, value: i32) {
        self.push(0xb7, to, R0, 0, value);
    }

    pub(crate) fn add(&mut self, to: Register, value: i32) {
        self.push(0x07, to, R0, 0, value);
    }

    pub(crate) fn set_map<K, V>(&mut self, to: Register, map: &Map<K, V>) {
        // Two instructions; source 1 says that the value is a map's descriptor (BPF_PSEUDO_MAP_FD).
        self.push(0x18, to, R1, 0, map.descriptor.as_raw_fd());
        self.push(0, R0, R0, 0, 0);
    }

    pub(crate) fn call(&mut self, function: Function) {
        self.push(0x85, R0, R0, 0, function as i32);
    }

    pub(crate) fn jump_if_equal(&mut self, register: Register, value: i32, label: &mut Label) {
        label.0.push(self.0.len());
        self.push(0x15, register, R0, 0, value);
    }

    pub(crate) fn jump_unless_equal(&mut self, register: Register, value: i32, label: &mut Label) {
        label.0.push(self.0.len());
        self.push(0x55, register, R0, 0, value);
    }

    pub(crate) fn place(&mut self, label: &Label) {
        for &from in &label.0 {
            // From the instruction after the jump.
            self.0[from].offset = (self.0.len() - from - 1) as i16;
        }
    }

    pub(crate) fn leave(&mut self, value: i32) {
        self.set(R0, value);
        self.push(0x95, R0, R0, 0, 0);
    }

    /// Have the kernel check it, as one of type SK_LOOKUP.
    pub(crate) fn load_socket_lookup(&self) -> io::Result<OwnedFd> {
        // No function that is called is for programs under the GPL alone.
        let license: &CStr = c"Apache-2.0";
        let attributes = ProgramAttributes {
            kind: PROG_TYPE_SK_LOOKUP,
            instructions: self.0.len() as u32,
            code: self.0.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: *b"kubecore_steers\0",
            interface: 0,
            attach_type: SK_LOOKUP,
        };
        call_for_descriptor(PROG_LOAD, &attributes)
    }
}

/// The program runs in a network namespace for as long as what is returned is held.
pub(crate) fn attach(program: &OwnedFd, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (program, target) = (program.as_raw_fd() as u32, namespace.as_raw_fd() as u32);
    call_for_descriptor(LINK_CREATE, &LinkAttributes { program, target, attach_type: SK_LOOKUP, flags: 0 })
}
