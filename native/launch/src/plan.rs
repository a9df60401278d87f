//! What a child has to do, decided and allocated before it exists.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use crate::filter::Filter;

/// How the one user and group of a new user namespace map to those outside.
#[derive(Debug, Clone, Copy)]
pub struct UserMap {
    pub inside_user: u32,
    pub outside_user: u32,
    pub inside_group: u32,
    pub outside_group: u32,
}

/// One change of the file system as the container sees it. An empty string stands for a null pointer.
#[derive(Debug, Clone)]
pub struct Step {
    pub kind: StepKind,
    /// Go on when it fails: the container is poorer for it, not wrong.
    pub optional: bool,
    /// Only where the step before has failed.
    pub instead: bool,
}

#[derive(Debug, Clone)]
pub enum StepKind {
    /// mount(2).
    Mount { source: CString, target: CString, filesystem: CString, flags: u64, data: CString },
    /// Make what is mounted at the path read-only; `tree`: and all that is mounted below it.
    ReadOnly { path: CString, tree: bool },
    /// Make what lies below the folder `base` appear at `target`. No link on the way may lead out; folders that are
    /// missing are made.
    BindBeneath { base: CString, relative: Relative, target: CString },
    /// Make `source` and all that is mounted below it appear at `target`. Whose its files are is told by the map of a user
    /// namespace, the file of which is named: those of its user 0 are our user 0's on the disk (man 2 mount_setattr).
    BindMapped { source: CString, target: CString, user_namespace: CString },
    /// Write to a file that exists (a sysctl).
    Write { path: CString, data: CString },
    /// mkdir(2); one that exists already is as good.
    Directory { path: CString, mode: u32 },
    /// An empty file, to mount another on.
    File { path: CString, mode: u32 },
    /// symlink(2): `path` will lead to `target`.
    Symlink { target: CString, path: CString },
    /// Make a mount point the root and drop the old one.
    Root { path: CString },
}

/// Who the process is when it starts.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    pub user: Option<u32>,
    pub group: Option<u32>,
    /// None leaves the groups alone (in a user namespace they cannot be set).
    pub groups: Option<Vec<u32>>,
    /// Become `user` and `group` through a further user namespace, the only way for an unprivileged kubelet.
    pub through_user_namespace: bool,
}

/// A process to start.
#[derive(Debug, Clone)]
pub struct LaunchPlan {
    /// Tried in turn until one can be executed: the command's path, or its name under every folder of PATH.
    pub executables: Vec<CString>,
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    /// Empty leaves the kubelet's.
    pub directory: CString,
    pub stdio: [RawFd; 3],
    /// Namespaces to enter first: descriptor and CLONE_NEW* type (a pidfd takes several types).
    pub join: Vec<(RawFd, i32)>,
    /// CLONE_NEW* flags of namespaces of the process's own.
    pub namespaces: i32,
    pub steps: Vec<Step>,
    pub identity: Identity,
    pub no_new_privileges: bool,
    /// A bit for each capability that the process and its children may ever have (bit 0: CAP_CHOWN); None for all.
    pub capabilities: Option<u64>,
    /// Filters of system calls (`compile_filter`), the last one asked first. No NO_NEW_PRIVS is set for them.
    pub filters: Vec<Filter>,
    /// Descriptors by which a process of one thread enters groups: it is in these before it is executed.
    pub groups_of_control: Vec<RawFd>,
    /// Written to /proc/self/oom_score_adj; a refusal is ignored.
    pub oom_score_adj: Option<i32>,
    /// Make stdin the controlling terminal of the new session.
    pub terminal: bool,
}

/// A path below a folder, without dots: "a/b/c".
#[derive(Debug, Clone)]
pub struct Relative {
    /// "a", "a/b", "a/b/c".
    pub(crate) prefixes: Vec<CString>,
    /// "a", "b", "c".
    pub(crate) names: Vec<CString>,
}

impl Relative {
    /// None for an absolute path, an empty one, and one that goes up.
    pub fn new(path: &CStr) -> Option<Self> {
        let bytes = path.to_bytes();
        let names: Vec<&[u8]> =
            bytes.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
        if bytes.starts_with(b"/") || names.is_empty() || names.contains(&b"..".as_slice()) {
            return None;
        }
        let text = |bytes: Vec<u8>| CString::new(bytes).ok();
        let prefixes =
            (1..=names.len()).map(|count| text(names.get(..count)?.join(&b'/'))).collect::<Option<_>>()?;
        let names = names.iter().map(|name| text(name.to_vec())).collect::<Option<_>>()?;
        Some(Self { prefixes, names })
    }
}

impl std::fmt::Display for Relative {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.prefixes.last().map_or(Ok(()), |whole| write!(out, "{whole:?}"))
    }
}

impl std::fmt::Display for StepKind {
    /// What failed, when it did.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mount { source, target, .. } if source.as_bytes().is_empty() => {
                write!(out, "failed to mount {target:?}")
            }
            Self::Mount { source, target, .. } => write!(out, "failed to mount {source:?} at {target:?}"),
            Self::ReadOnly { path, .. } => write!(out, "failed to make {path:?} read-only"),
            Self::BindBeneath { relative, target, .. } => {
                write!(out, "failed to mount subPath {relative} at {target:?}")
            }
            Self::BindMapped { source, target, .. } => {
                write!(
                    out,
                    "failed to mount {source:?} at {target:?} with the ids of the pod's user namespace"
                )
            }
            Self::Write { path, data } => write!(out, "failed to write {data:?} to {path:?}"),
            Self::Directory { path, .. } | Self::File { path, .. } => {
                write!(out, "failed to create {path:?}")
            }
            Self::Symlink { path, .. } => write!(out, "failed to link {path:?}"),
            Self::Root { path } => write!(out, "failed to make {path:?} the root"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::Relative;

    #[test]
    fn a_relative_path_knows_every_folder_on_its_way() {
        let path = Relative::new(c"a//./b/c").unwrap();
        assert_eq!(path.prefixes, [c"a", c"a/b", c"a/b/c"].map(CString::from));
        assert_eq!(path.names, [c"a", c"b", c"c"].map(CString::from));
        assert!([c"", c".", c"/a", c"a/../b"].iter().all(|bad| Relative::new(bad).is_none()));
    }
}
