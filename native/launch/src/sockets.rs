//! Sockets of network namespaces whose user namespace is ours to enter: a thread of ours could not come back from there,
//! and a process of many threads cannot go. A child does that shares our descriptors, and ends.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_ulong, c_void};

use crate::LaunchError;
use crate::child::{Report, SignalsHeld, Stack, Stage, errno, stay_dumpable};

/// What socket(2) takes.
#[derive(Debug, Clone, Copy)]
pub struct SocketKind {
    pub domain: c_int,
    /// With SOCK_NONBLOCK where that is wanted; SOCK_CLOEXEC comes by itself.
    pub kind: c_int,
    pub protocol: c_int,
}

/// So many are made by one child at most.
const MOST: usize = 32;
/// _IO(NSIO, 1) of linux/nsfs.h.
const NS_GET_USERNS: c_ulong = 0xb701;

struct Work {
    network: RawFd,
    kind: SocketKind,
    wanted: usize,
    report: Report,
    made: [RawFd; MOST],
}

/// `count` sockets (32 at most) of a network namespace, which belong to it wherever they are used. Errors: EPERM where
/// neither it nor its user namespace may be entered; EINVAL for a descriptor of something else.
pub fn sockets_within(
    network: BorrowedFd<'_>,
    kind: SocketKind,
    count: usize,
) -> Result<Vec<OwnedFd>, LaunchError> {
    let (network, wanted) = (network.as_raw_fd(), count.min(MOST));
    let mut work = Work { network, kind, wanted, report: Report::default(), made: [-1; MOST] };
    let mut stack = Stack::new();
    // CLONE_FILES: what the child opens, we have.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    let pid = {
        let _held = SignalsHeld::new();
        // SAFETY: the stack and the work outlive the child, which CLONE_VFORK waits for.
        unsafe { libc::clone(enter_and_make, stack.top(), flags, (&raw mut work).cast()) }
    };
    if pid < 0 {
        return Err(LaunchError::last("failed to clone"));
    }
    // SAFETY: our own child; it has ended.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    stay_dumpable();
    let made = work.made.into_iter().filter(|number| *number >= 0);
    // SAFETY: each number was opened by the child into the shared table and belongs to nobody else.
    let made: Vec<OwnedFd> = made.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect();
    let doing = match work.report.stage {
        // The table of descriptors may be full: some are better than none.
        _ if !made.is_empty() => return Ok(made),
        Stage::Done => return Ok(made),
        Stage::Join => "failed to enter a network namespace",
        _ => "failed to make a socket",
    };
    Err(LaunchError { doing: doing.to_owned(), errno: work.report.errno, in_exec: false })
}

extern "C" fn enter_and_make(argument: *mut c_void) -> c_int {
    // SAFETY: the parent is suspended; nobody else has the work.
    let work = unsafe { &mut *argument.cast::<Work>() };
    if enter(work.network) {
        make(work);
    } else {
        work.report.fail(Stage::Join, 0);
    }
    // SAFETY: end without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

/// By the right that we have already, or by that of its user namespace.
fn enter(network: RawFd) -> bool {
    // SAFETY: plain calls on numbers.
    unsafe {
        if libc::setns(network, libc::CLONE_NEWNET) == 0 {
            return true;
        }
        if errno() != libc::EPERM {
            return false;
        }
        let user = libc::ioctl(network, NS_GET_USERNS as _);
        if user < 0 {
            return false;
        }
        let entered = libc::setns(user, libc::CLONE_NEWUSER) == 0;
        let refused = errno();
        // The table is the parent's, too.
        libc::close(user);
        *libc::__errno_location() = refused;
        entered && libc::setns(network, libc::CLONE_NEWNET) == 0
    }
}

fn make(work: &mut Work) {
    let SocketKind { domain, kind, protocol } = work.kind;
    for place in work.made.iter_mut().take(work.wanted) {
        // SAFETY: a plain call.
        *place = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
        if *place < 0 {
            work.report.fail(Stage::Open, 0);
            return;
        }
    }
}
