//! What children do. Everything here runs in memory shared with a suspended parent and between other living threads:
//! system calls only, no allocation, no panic, no lock.

use std::ffi::{CStr, CString};
use std::ptr;

use libc::{c_int, c_void};

use crate::plan::{Relative, Step, StepKind, UserMap};

/// How far a child got; index of the step or errno where that makes sense. Read by the parent after the child is gone.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Report {
    pub stage: Stage,
    pub index: usize,
    pub errno: c_int,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub enum Stage {
    #[default]
    Done,
    Group,
    Join,
    Clone,
    Map,
    Hostname,
    Loopback,
    Open,
    Session,
    Step,
    Stdio,
    Directory,
    Identity,
    Capabilities,
    Filter,
    Exec,
    ParentGone,
    /// Its end with its parent's.
    Bond,
}

impl Report {
    /// Note a failure of the last system call; false so that callers can end their chain with it.
    pub fn fail(&mut self, stage: Stage, index: usize) -> bool {
        self.stage = stage;
        self.index = index;
        self.errno = errno();
        false
    }
}

pub fn errno() -> c_int {
    // SAFETY: the location of this thread's errno; parent and child never run at the same time.
    unsafe { *libc::__errno_location() }
}

/// A stack for one child. Small frames only: no recursion happens there.
pub struct Stack(Vec<u128>);

impl Stack {
    pub fn new() -> Self {
        Self(vec![0; 64 * 1024 / 16])
    }

    pub fn top(&mut self) -> *mut c_void {
        let end = self.0.len();
        // SAFETY: one past the last element, where a stack that grows downward begins.
        unsafe { self.0.as_mut_ptr().add(end).cast() }
    }
}

/// Perform the file system steps in order; false after noting the first mandatory one that failed.
pub fn perform(steps: &[Step], report: &mut Report) -> bool {
    let mut failed = false;
    for (index, step) in steps.iter().enumerate() {
        if step.instead && !failed {
            continue;
        }
        failed = !perform_one(&step.kind);
        if failed && !step.optional {
            return report.fail(Stage::Step, index);
        }
    }
    true
}

fn or_null(text: &CString) -> *const libc::c_char {
    if text.as_bytes().is_empty() { ptr::null() } else { text.as_ptr() }
}

fn perform_one(step: &StepKind) -> bool {
    // SAFETY: system calls on C strings that the plan owns.
    unsafe {
        match step {
            StepKind::Mount { source, target, filesystem, flags, data } => {
                libc::mount(
                    or_null(source),
                    target.as_ptr(),
                    or_null(filesystem),
                    *flags as libc::c_ulong,
                    or_null(data).cast(),
                ) == 0
            }
            StepKind::ReadOnly { path, tree } => read_only(path, *tree),
            StepKind::BindBeneath { base, relative, target } => bind_beneath(base, relative, target),
            StepKind::BindMapped { source, target, user_namespace } => {
                bind_mapped(source, target, user_namespace)
            }
            StepKind::Write { path, data } => write_file(path, data.as_ptr().cast(), data.as_bytes().len()),
            StepKind::Directory { path, mode } => {
                libc::mkdir(path.as_ptr(), *mode) == 0 || errno() == libc::EEXIST
            }
            StepKind::File { path, mode } => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
                let descriptor = libc::open(path.as_ptr(), flags, *mode);
                descriptor >= 0 && libc::close(descriptor) == 0
            }
            StepKind::Symlink { target, path } => {
                libc::symlink(target.as_ptr(), path.as_ptr()) == 0 || errno() == libc::EEXIST
            }
            StepKind::Root { path } => enter_root(path),
        }
    }
}

#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const AT_RECURSIVE: c_int = 0x8000;

/// Read-only without touching the other flags (Linux 5.12), or by a remount, which cannot reach what is mounted below.
fn read_only(path: &CStr, tree: bool) -> bool {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let attributes = MountAttributes { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: a struct of the size passed, and a C string.
    unsafe {
        let size = size_of::<MountAttributes>();
        if libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            if tree { AT_RECURSIVE } else { 0 },
            &raw const attributes,
            size,
        ) == 0
        {
            return true;
        }
        if errno() != libc::ENOSYS || tree {
            return false;
        }
        let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
        libc::mount(ptr::null(), path.as_ptr(), ptr::null(), flags, ptr::null()) == 0
    }
}

/// The text "/proc/self/fd/N", without allocating.
struct DescriptorPath([u8; 32]);

impl DescriptorPath {
    fn new(descriptor: c_int) -> Self {
        let mut line = MapLine { bytes: [0; 32], length: 0 };
        for byte in b"/proc/self/fd/" {
            line.push(*byte);
        }
        line.number(descriptor as u32);
        Self(line.bytes)
    }

    fn as_ptr(&self) -> *const libc::c_char {
        self.0.as_ptr().cast()
    }
}

/// What a folder holds at a path, as an O_PATH descriptor; -1 with errno (EXDEV for a link that leads out).
fn beneath(folder: c_int, path: &CStr) -> c_int {
    // SAFETY: a struct of the size passed and a C string.
    unsafe {
        let mut how: libc::open_how = std::mem::zeroed();
        how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
        how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
        libc::syscall(libc::SYS_openat2, folder, path.as_ptr(), &raw const how, size_of::<libc::open_how>())
            as c_int
    }
}

/// close(2) that keeps errno.
fn close_quietly(descriptor: c_int) {
    // SAFETY: plain calls.
    unsafe {
        let kept = errno();
        libc::close(descriptor);
        *libc::__errno_location() = kept;
    }
}

/// As `beneath`; folders on the way that are missing are made, with the mode of the outermost.
fn make_beneath(folder: c_int, relative: &Relative) -> c_int {
    // SAFETY: plain calls.
    let mode = unsafe {
        let mut about: libc::stat = std::mem::zeroed();
        if libc::fstat(folder, &raw mut about) != 0 {
            return -1;
        }
        about.st_mode & 0o777
    };
    let mut parent = folder;
    for (prefix, name) in relative.prefixes.iter().zip(&relative.names) {
        let mut found = beneath(folder, prefix);
        if found < 0 && errno() == libc::ENOENT {
            // SAFETY: a C string, and a folder that is known to lie inside.
            unsafe { libc::mkdirat(parent, name.as_ptr(), mode) };
            found = beneath(folder, prefix);
        }
        if parent != folder {
            close_quietly(parent);
        }
        if found < 0 {
            return -1;
        }
        parent = found;
    }
    parent
}

/// Looked up and mounted through a descriptor, so that nobody who writes to the folder can exchange it in between.
fn bind_beneath(base: &CStr, relative: &Relative, target: &CStr) -> bool {
    // SAFETY: a C string.
    let folder = unsafe { libc::open(base.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    if folder < 0 {
        return false;
    }
    let found = make_beneath(folder, relative);
    close_quietly(folder);
    if found < 0 {
        return false;
    }
    let source = DescriptorPath::new(found);
    let flags = libc::MS_BIND | libc::MS_REC;
    // SAFETY: C strings.
    let done = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), ptr::null(), flags, ptr::null()) == 0 };
    close_quietly(found);
    done
}

/// A copy of what is mounted is given its map before anybody sees it, and is then put in its place.
fn bind_mapped(source: &CStr, target: &CStr, user_namespace: &CStr) -> bool {
    const OPEN_TREE_CLONE: c_int = 1;
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    const MOVE_MOUNT_F_EMPTY_PATH: c_int = 4;
    let here = libc::AT_FDCWD;
    // SAFETY: C strings, and a struct of the size passed.
    unsafe {
        let namespace = libc::open(user_namespace.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if namespace < 0 {
            return false;
        }
        let flags = OPEN_TREE_CLONE | AT_RECURSIVE | libc::O_CLOEXEC;
        let copy = libc::syscall(libc::SYS_open_tree, here, source.as_ptr(), flags) as c_int;
        if copy < 0 {
            close_quietly(namespace);
            return false;
        }
        let attributes = MountAttributes {
            set: MOUNT_ATTR_IDMAP,
            clear: 0,
            propagation: 0,
            user_namespace: u64::from(namespace.unsigned_abs()),
        };
        let size = size_of::<MountAttributes>();
        let empty = c"".as_ptr();
        let mapped = libc::syscall(
            libc::SYS_mount_setattr,
            copy,
            empty,
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size,
        );
        let move_flags = MOVE_MOUNT_F_EMPTY_PATH;
        let done = mapped == 0
            && libc::syscall(libc::SYS_move_mount, copy, empty, here, target.as_ptr(), move_flags) == 0;
        close_quietly(copy);
        close_quietly(namespace);
        done
    }
}

/// pivot_root onto a mount point with the old root stacked beneath it, then drop that (man 2 pivot_root).
fn enter_root(path: &CStr) -> bool {
    // SAFETY: system calls on C strings.
    unsafe {
        libc::chdir(path.as_ptr()) == 0
            && libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) == 0
            && libc::umount2(c".".as_ptr(), libc::MNT_DETACH) == 0
            && libc::chdir(c"/".as_ptr()) == 0
    }
}

/// The text of a map of one id, without allocating: "inside outside 1".
struct MapLine {
    bytes: [u8; 32],
    length: usize,
}

impl MapLine {
    fn new(inside: u32, outside: u32) -> Self {
        let mut line = Self { bytes: [0; 32], length: 0 };
        line.number(inside);
        line.push(b' ');
        line.number(outside);
        line.push(b' ');
        line.push(b'1');
        line
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn number(&mut self, value: u32) {
        let mut divisor = 1_000_000_000;
        let mut started = false;
        while divisor > 0 {
            let digit = (value / divisor % 10) as u8;
            started = started || digit > 0 || divisor == 1;
            if started {
                self.push(b'0' + digit);
            }
            divisor /= 10;
        }
    }
}

pub fn write_file(path: &CStr, bytes: *const u8, length: usize) -> bool {
    // SAFETY: the caller's buffer is `length` bytes long.
    unsafe {
        let descriptor = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if descriptor < 0 {
            return false;
        }
        let written = libc::write(descriptor, bytes.cast(), length);
        let kept = errno();
        libc::close(descriptor);
        *libc::__errno_location() = kept;
        written == length as isize
    }
}

/// Let /proc/self belong to its user again. A change of credentials takes that from the *memory*, which parent and child
/// share, so the parent must call this, too, once the child is gone.
pub fn stay_dumpable() {
    // SAFETY: a plain call.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
    }
}

/// Go into namespaces in turn; the index of the one that could not be entered. In a user namespace whose map does not
/// know who comes, he is its user 0, unless it has none.
pub fn join(namespaces: &[(c_int, c_int)]) -> Result<(), usize> {
    for (index, (descriptor, kind)) in namespaces.iter().enumerate() {
        // SAFETY: plain calls. Raw ones for the identity: the C library's would change every thread of the parent.
        unsafe {
            if libc::setns(*descriptor, *kind) != 0 {
                return Err(index);
            }
            if kind & libc::CLONE_NEWUSER != 0 {
                libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>());
                libc::syscall(libc::SYS_setresgid, 0, 0, 0);
                libc::syscall(libc::SYS_setresuid, 0, 0, 0);
            }
        }
    }
    Ok(())
}

/// Map the user and group of the user namespace this process has just been put into (man 7 user_namespaces).
pub fn map_user(map: &UserMap) -> bool {
    let user = MapLine::new(map.inside_user, map.outside_user);
    let group = MapLine::new(map.inside_group, map.outside_group);
    let denied = b"deny";
    write_file(c"/proc/self/setgroups", denied.as_ptr(), denied.len())
        && write_file(c"/proc/self/uid_map", user.bytes.as_ptr(), user.length)
        && write_file(c"/proc/self/gid_map", group.bytes.as_ptr(), group.length)
}

/// Put every signal back to its default action: what the parent ignores or handles must not leak into a container.
pub fn reset_signals() {
    // SAFETY: a zeroed sigaction is SIG_DFL with an empty mask; refusals (SIGKILL and such) do not matter.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=libc::SIGRTMAX() {
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Every signal held back in this thread while children share its memory.
pub struct SignalsHeld(libc::sigset_t);

impl SignalsHeld {
    pub fn new() -> Self {
        // SAFETY: plain calls on local sets.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DescriptorPath, MapLine};

    #[test]
    fn a_map_line_is_written_in_decimal() {
        let line = MapLine::new(0, 65_534);
        assert_eq!(&line.bytes[..line.length], b"0 65534 1");
        let largest = MapLine::new(u32::MAX, 10);
        assert_eq!(&largest.bytes[..largest.length], b"4294967295 10 1");
    }

    #[test]
    fn a_descriptor_has_a_path_that_ends_with_zero() {
        assert_eq!(&DescriptorPath::new(120).0[..18], b"/proc/self/fd/120\0");
    }
}
