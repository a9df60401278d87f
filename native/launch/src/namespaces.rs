//! Namespaces of a pod, held by descriptors alone: no process stays, and when the holder dies they are gone.

use std::ffi::{CStr, CString};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void};

use crate::LaunchError;
use crate::child::{Report, SignalsHeld, Stack, Stage, join, map_user, perform, stay_dumpable};
use crate::plan::{Step, UserMap};

/// What to make.
#[derive(Debug, Clone, Default)]
pub struct NamespacesPlan {
    /// CLONE_NEWUSER, NEWNS, NEWNET, NEWIPC, NEWUTS.
    pub namespaces: i32,
    /// Namespaces to enter first, within which they are made: descriptor and CLONE_NEW* type.
    pub join: Vec<(RawFd, i32)>,
    /// With CLONE_NEWUSER.
    pub user_map: Option<UserMap>,
    /// With CLONE_NEWUTS; empty keeps the host's.
    pub hostname: CString,
    /// With CLONE_NEWNS: what all the pod's containers see.
    pub steps: Vec<Step>,
}

/// Descriptors of what was made, close-on-exec. `netlink` is a NETLINK_ROUTE socket inside `network`.
#[derive(Debug, Default)]
pub struct Namespaces {
    pub user: Option<OwnedFd>,
    pub mount: Option<OwnedFd>,
    pub network: Option<OwnedFd>,
    pub ipc: Option<OwnedFd>,
    pub uts: Option<OwnedFd>,
    pub netlink: Option<OwnedFd>,
}

const KINDS: [(c_int, &CStr); 5] = [
    (libc::CLONE_NEWUSER, c"/proc/self/ns/user"),
    (libc::CLONE_NEWNS, c"/proc/self/ns/mnt"),
    (libc::CLONE_NEWNET, c"/proc/self/ns/net"),
    (libc::CLONE_NEWIPC, c"/proc/self/ns/ipc"),
    (libc::CLONE_NEWUTS, c"/proc/self/ns/uts"),
];
const NETLINK: usize = KINDS.len();

struct Work<'a> {
    plan: &'a NamespacesPlan,
    report: Report,
    descriptors: [RawFd; KINDS.len() + 1],
}

/// Make the namespaces. On failure nothing stays.
pub fn create_namespaces(plan: &NamespacesPlan) -> Result<Namespaces, LaunchError> {
    let mut work = Work { plan, report: Report::default(), descriptors: [-1; KINDS.len() + 1] };
    let mut stack = Stack::new();
    // CLONE_FILES: what the child opens, we have.
    let at_once = if plan.join.is_empty() { plan.namespaces } else { 0 };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD | at_once;
    let pid = {
        let _held = SignalsHeld::new();
        // SAFETY: the stack and the work outlive the child, which CLONE_VFORK waits for.
        unsafe { libc::clone(make, stack.top(), flags, (&raw mut work).cast()) }
    };
    if pid < 0 {
        return Err(LaunchError::last("failed to create namespaces"));
    }
    // SAFETY: our own child; it has ended.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    if !plan.join.is_empty() {
        stay_dumpable();
    }
    // SAFETY: each number was opened by the child into the shared table and belongs to nobody else.
    let mut owned = work
        .descriptors
        .map(|number| (number >= 0).then(|| unsafe { OwnedFd::from_raw_fd(number) }))
        .into_iter();
    let mut next = || owned.next().flatten();
    let (user, mount, network, ipc, uts, netlink) = (next(), next(), next(), next(), next(), next());
    match work.report.stage {
        Stage::Done => Ok(Namespaces { user, mount, network, ipc, uts, netlink }),
        stage => Err(LaunchError {
            doing: describe(stage, work.report.index, plan),
            errno: work.report.errno,
            in_exec: false,
        }),
    }
}

fn describe(stage: Stage, index: usize, plan: &NamespacesPlan) -> String {
    match stage {
        Stage::Join => "failed to enter the node's namespaces".to_owned(),
        Stage::Clone => "failed to create namespaces".to_owned(),
        Stage::Map => "failed to map the user into a user namespace".to_owned(),
        Stage::Hostname => "failed to set the host name".to_owned(),
        Stage::Loopback => "failed to bring up the loopback interface".to_owned(),
        Stage::Step => {
            plan.steps.get(index).map_or_else(|| "failed to mount".to_owned(), |step| step.kind.to_string())
        }
        _ => "failed to keep a namespace".to_owned(),
    }
}

extern "C" fn make(argument: *mut c_void) -> c_int {
    // SAFETY: the parent is suspended; nobody else has the work.
    let work = unsafe { &mut *argument.cast::<Work<'_>>() };
    if !run(work) {
        close_all(&mut work.descriptors);
    }
    // SAFETY: end without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

fn close_all(descriptors: &mut [RawFd]) {
    for descriptor in descriptors {
        if *descriptor >= 0 {
            // SAFETY: opened by `run` just before.
            unsafe { libc::close(*descriptor) };
            *descriptor = -1;
        }
    }
}

fn run(work: &mut Work<'_>) -> bool {
    let Work { plan, report, descriptors } = work;
    // SAFETY: a plain call; the modes of the steps are meant as they are.
    unsafe { libc::umask(0) };
    if !plan.join.is_empty() && !enter(plan, report) {
        return false;
    }
    if let Some(map) = &plan.user_map
        && !map_user(map)
    {
        return report.fail(Stage::Map, 0);
    }
    let name = plan.hostname.as_bytes();
    // SAFETY: a buffer of the length passed.
    if !name.is_empty() && unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) } != 0 {
        return report.fail(Stage::Hostname, 0);
    }
    if plan.namespaces & libc::CLONE_NEWNET != 0 && !bring_up_loopback() {
        return report.fail(Stage::Loopback, 0);
    }
    if !perform(&plan.steps, report) {
        return false;
    }
    for (place, (kind, path)) in descriptors.iter_mut().zip(KINDS) {
        if plan.namespaces & kind != 0 {
            // SAFETY: a C string.
            *place = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
            if *place < 0 {
                return report.fail(Stage::Open, 0);
            }
        }
    }
    if plan.namespaces & libc::CLONE_NEWNET != 0
        && let Some(place) = descriptors.get_mut(NETLINK)
    {
        // SAFETY: a plain call.
        *place = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if *place < 0 {
            return report.fail(Stage::Open, 0);
        }
    }
    true
}

/// Go into namespaces, and make those of the plan in there.
fn enter(plan: &NamespacesPlan, report: &mut Report) -> bool {
    if let Err(index) = join(&plan.join) {
        return report.fail(Stage::Join, index);
    }
    // SAFETY: a plain call.
    if unsafe { libc::unshare(plan.namespaces) } != 0 {
        return report.fail(Stage::Clone, 0);
    }
    stay_dumpable();
    true
}

fn bring_up_loopback() -> bool {
    // SAFETY: the request is zeroed and outlives the calls.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return false;
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let done = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw mut request) == 0;
        libc::close(socket);
        done
    }
}
