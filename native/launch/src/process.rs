//! Starting one process inside namespaces.

use std::ffi::CString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_char, c_int, c_void};

use crate::LaunchError;
use crate::child::{
    Report, SignalsHeld, Stack, Stage, errno, join, map_user, perform, reset_signals, stay_dumpable,
    write_file,
};
use crate::plan::{Identity, LaunchPlan, UserMap};

/// A running process, our own child. `pidfd` polls readable when it has ended; waitid(P_PIDFD) then tells how.
#[derive(Debug)]
pub struct Launched {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

struct Work<'a> {
    plan: &'a LaunchPlan,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    oom_score_adj: Option<CString>,
    /// Polls readable once the parent is dead, which closes the race before PR_SET_PDEATHSIG is in force.
    parent: RawFd,
    inner_stack: *mut c_void,
    report: Report,
    pid: c_int,
    pidfd: RawFd,
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// Start the process; returns when it has been executed. On failure nothing of it stays.
pub fn launch(plan: &LaunchPlan) -> Result<Launched, LaunchError> {
    // SAFETY: a plain call; our own pid.
    let parent = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) } as RawFd;
    if parent < 0 {
        return Err(LaunchError::last("failed to open a pidfd"));
    }
    // SAFETY: just opened, nobody else's.
    let _parent = unsafe { OwnedFd::from_raw_fd(parent) };
    let (mut outer, mut inner) = (Stack::new(), Stack::new());
    let mut work = Work {
        plan,
        arguments: pointers(&plan.arguments),
        environment: pointers(&plan.environment),
        oom_score_adj: plan.oom_score_adj.and_then(|value| CString::new(value.to_string()).ok()),
        parent,
        inner_stack: inner.top(),
        report: Report::default(),
        pid: -1,
        pidfd: -1,
    };
    // CLONE_FILES: the pidfd that A gets for B is ours.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    let pid = {
        let _held = SignalsHeld::new();
        // SAFETY: stacks and work outlive both children, which CLONE_VFORK waits for.
        unsafe { libc::clone(enter, outer.top(), flags, (&raw mut work).cast()) }
    };
    if pid < 0 {
        return Err(LaunchError::last("failed to clone"));
    }
    // SAFETY: our own child; it has ended.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    stay_dumpable();
    // SAFETY: opened by the kernel into our table for this launch.
    let pidfd = (work.pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(work.pidfd) });
    match (work.report.stage, pidfd) {
        (Stage::Done, Some(pidfd)) => Ok(Launched { pid: work.pid, pidfd }),
        (stage, _) => {
            if work.pid > 0 {
                // SAFETY: B failed before exec and has ended; it is our child through CLONE_PARENT.
                unsafe { libc::waitpid(work.pid, ptr::null_mut(), 0) };
            }
            Err(failure(stage, &work.report, plan))
        }
    }
}

fn failure(stage: Stage, report: &Report, plan: &LaunchPlan) -> LaunchError {
    let first =
        |list: &[CString]| list.first().map_or_else(String::new, |text| text.to_string_lossy().into_owned());
    let doing = match stage {
        Stage::Group => "failed to enter the container's cgroup".to_owned(),
        Stage::Join => "failed to enter the pod's namespaces".to_owned(),
        Stage::Clone => "failed to create the container's namespaces".to_owned(),
        Stage::Map => "failed to map the user into a user namespace".to_owned(),
        Stage::Session => "failed to create a session".to_owned(),
        Stage::Step => {
            plan.steps.get(report.index).map_or_else(|| "failed to mount".into(), |s| s.kind.to_string())
        }
        Stage::Stdio => "failed to connect the standard streams".to_owned(),
        Stage::Directory => format!("failed to change to the working directory {:?}", plan.directory),
        Stage::Identity => "failed to become the container's user".to_owned(),
        Stage::Capabilities => "failed to apply capabilities".to_owned(),
        Stage::Filter => "failed to apply the seccomp profile".to_owned(),
        Stage::Exec => format!("exec {:?}", first(&plan.arguments)),
        Stage::Bond => "failed to tie the container to its node".to_owned(),
        Stage::ParentGone => "the launching process has ended".to_owned(),
        _ => "failed to start".to_owned(),
    };
    LaunchError { doing, errno: report.errno, in_exec: stage == Stage::Exec }
}

/// Child A: enter namespaces, give birth to B as the kubelet's child, wait for its exec, end.
extern "C" fn enter(argument: *mut c_void) -> c_int {
    // SAFETY: the parent is suspended; nobody else has the work.
    let work = unsafe { &mut *argument.cast::<Work<'_>>() };
    // Before the namespaces, so that B is born there, and they are the roots of a cgroup namespace of its own.
    for (index, descriptor) in work.plan.groups_of_control.iter().enumerate() {
        // SAFETY: one byte of a constant; "0" is whoever writes it.
        if unsafe { libc::write(*descriptor, b"0".as_ptr().cast(), 1) } != 1 {
            work.report.fail(Stage::Group, index);
            unsafe { libc::_exit(1) }
        }
    }
    if let Err(index) = join(&work.plan.join) {
        work.report.fail(Stage::Join, index);
        // SAFETY: end without running anything of the parent's.
        unsafe { libc::_exit(1) }
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: RawFd = -1;
    // SAFETY: the inner stack and the work outlive B; `pidfd` is written before B runs.
    let pid = unsafe {
        libc::clone(
            become_container,
            work.inner_stack,
            flags | work.plan.namespaces,
            argument,
            &raw mut pidfd,
        )
    };
    if pid < 0 {
        work.report.fail(Stage::Clone, 0);
    } else {
        work.pid = pid;
        work.pidfd = pidfd;
    }
    // SAFETY: end without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

/// Child B: become the container's process.
extern "C" fn become_container(argument: *mut c_void) -> c_int {
    // SAFETY: A and the kubelet's thread are suspended; nobody else has the work.
    let work = unsafe { &mut *argument.cast::<Work<'_>>() };
    prepare_and_exec(work);
    // SAFETY: end without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

fn prepare_and_exec(work: &mut Work<'_>) -> bool {
    let plan = work.plan;
    let report = &mut work.report;
    stay_dumpable();
    if let Some(value) = &work.oom_score_adj {
        write_file(c"/proc/self/oom_score_adj", value.as_ptr().cast(), value.as_bytes().len());
    }
    // The steps' modes are meant as they are. SAFETY: plain calls.
    unsafe { libc::umask(0) };
    if unsafe { libc::setsid() } < 0 {
        return report.fail(Stage::Session, 0);
    }
    if !perform(&plan.steps, report) {
        return false;
    }
    if !connect_stdio(&plan.stdio, plan.terminal) {
        return report.fail(Stage::Stdio, 0);
    }
    // SAFETY: plain calls on the plan's strings.
    unsafe {
        libc::umask(0o022);
        if !plan.directory.as_bytes().is_empty() && libc::chdir(plan.directory.as_ptr()) != 0 {
            return report.fail(Stage::Directory, 0);
        }
        // Whatever was opened without close-on-exec anywhere in the process stays out of containers.
        const CLOSE_RANGE_CLOEXEC: c_int = 4;
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_RANGE_CLOEXEC);
        if !restrict(plan, report) {
            return false;
        }
        // After the identity: a change of credentials clears it.
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return report.fail(Stage::Bond, 0);
        }
        let mut parent = libc::pollfd { fd: work.parent, events: libc::POLLIN, revents: 0 };
        match libc::poll(&raw mut parent, 1, 0) {
            0 => {}
            ..0 => return report.fail(Stage::Bond, 0),
            _ => return report.fail(Stage::ParentGone, 0),
        }
    }
    reset_signals();
    // Last of all, so that a profile need not allow what comes before the container's own program.
    for (index, filter) in plan.filters.iter().enumerate() {
        if !filter.enforce() {
            return report.fail(Stage::Filter, index);
        }
    }
    execute(work)
}

fn execute(work: &mut Work<'_>) -> bool {
    let mut refused = libc::ENOENT;
    for path in &work.plan.executables {
        // SAFETY: null-terminated arrays of the plan's strings.
        unsafe { libc::execve(path.as_ptr(), work.arguments.as_ptr(), work.environment.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => refused = libc::EACCES,
            other => {
                refused = other;
                break;
            }
        }
    }
    work.report.fail(Stage::Exec, 0);
    work.report.errno = refused;
    false
}

/// The three descriptors (all above 2, see `LaunchPlan`) become 0, 1 and 2.
fn connect_stdio(stdio: &[RawFd; 3], terminal: bool) -> bool {
    for (target, source) in (0..).zip(stdio) {
        // SAFETY: plain calls on numbers.
        if unsafe { libc::dup2(*source, target) } < 0 {
            return false;
        }
    }
    // SAFETY: as above.
    !terminal || unsafe { libc::ioctl(0, libc::TIOCSCTTY as _, 0) } == 0
}

/// Identity and capabilities, up to what the filters need.
fn restrict(plan: &LaunchPlan, report: &mut Report) -> bool {
    let through_namespace = plan.identity.through_user_namespace;
    if through_namespace && !assume(&plan.identity) {
        return report.fail(Stage::Identity, 0);
    }
    if let Some(kept) = plan.capabilities {
        for number in 0..u64::BITS {
            let drop = kept >> number & 1 == 0;
            // SAFETY: plain calls; EINVAL is for a capability that this kernel has not.
            if drop
                && unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } != 0
                && errno() != libc::EINVAL
            {
                return report.fail(Stage::Capabilities, number as usize);
            }
        }
    }
    if plan.no_new_privileges {
        // SAFETY: a plain call.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    }
    // A filter may only be set with NO_NEW_PRIVS or CAP_SYS_ADMIN, which another user would not have.
    let keeps = !plan.filters.is_empty() && !plan.no_new_privileges && !through_namespace;
    // SAFETY: a plain call; what it keeps is lost with exec.
    if keeps && unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) } != 0 {
        return report.fail(Stage::Capabilities, 0);
    }
    if !through_namespace && !assume(&plan.identity) {
        return report.fail(Stage::Identity, 0);
    }
    if keeps && !raise_for_filters() {
        return report.fail(Stage::Capabilities, 0);
    }
    true
}

/// What a filter may be set with is effective again, if it is permitted (man 2 capset), and nothing else: the program is
/// opened by whoever is to run it.
fn raise_for_filters() -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    const SYS_ADMIN: u32 = 1 << 21;
    let mut header = [VERSION_3, 0];
    // Effective, permitted and inheritable: the lower halves, then the upper ones.
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: structs of the version that the header tells, of this thread's own.
    unsafe {
        if libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) != 0 {
            return false;
        }
        let [[effective, permitted, _], _] = &mut sets;
        *effective |= *permitted & SYS_ADMIN;
        libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) == 0
    }
}

/// Raw system calls: the C library's wrappers would change every thread of the parent.
fn assume(identity: &Identity) -> bool {
    // SAFETY: plain calls; the group list is as long as said.
    unsafe {
        if identity.through_user_namespace {
            let user = identity.user.unwrap_or(0);
            let group = identity.group.unwrap_or(0);
            let map = UserMap { inside_user: user, outside_user: 0, inside_group: group, outside_group: 0 };
            if libc::unshare(libc::CLONE_NEWUSER) != 0 {
                return false;
            }
            stay_dumpable();
            return map_user(&map);
        }
        if let Some(groups) = &identity.groups
            && libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) != 0
        {
            return false;
        }
        if let Some(group) = identity.group
            && libc::syscall(libc::SYS_setresgid, group, group, group) != 0
        {
            return false;
        }
        if let Some(user) = identity.user
            && libc::syscall(libc::SYS_setresuid, user, user, user) != 0
        {
            return false;
        }
    }
    true
}
