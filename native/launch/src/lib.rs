//! Starts the processes of containers and makes the namespaces of pods.
//!
//! A kubelet lives in a process of many threads, so nothing but system calls may run between `clone` and `exec`. This
//! crate therefore takes a finished plan (every path a C string, every mount decided by the caller), and its children
//! execute it sharing the parent's memory (`CLONE_VM | CLONE_VFORK`, as `posix_spawn` does): no page table is copied,
//! however large the parent, and a failure is reported through plain memory.
//!
//! A launch takes two children, because entering a pid namespace only takes effect on one's children:
//!
//! ```text
//! kubelet ── A: setns(user, mnt, net, ipc, uts, pid) ── B: mounts, identity, exec
//!    └───────────── CLONE_PARENT: B is the kubelet's own child ──┘
//! ```
//!
//! B is awaited through a pidfd; no shim process stays behind, and `PR_SET_PDEATHSIG` ends B with the thread that
//! launched it, so launches must come from a thread that lives as long as the process.

mod child;
mod filter;
mod namespaces;
mod plan;
mod process;
mod sockets;

pub use filter::{Filter, compile_filter};
pub use namespaces::{Namespaces, NamespacesPlan, create_namespaces};
pub use plan::{Identity, LaunchPlan, Relative, Step, StepKind, UserMap};
pub use process::{Launched, launch};
pub use sockets::{SocketKind, sockets_within};

/// A step of a launch failed. `doing` names it, with its path where there is one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{doing}: {}", std::io::Error::from_raw_os_error(*errno))]
pub struct LaunchError {
    pub doing: String,
    pub errno: i32,
    /// The program could not be executed; everything before that went well.
    pub in_exec: bool,
}

impl LaunchError {
    fn last(doing: &str) -> Self {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        Self { doing: doing.to_owned(), errno, in_exec: false }
    }
}
