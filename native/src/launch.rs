//! `create_namespaces` and `launch`: the kubelet's door to kubecore-launch. Strings are bytes, as the kernel has them.

use std::ffi::CString;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use kubecore_launch as native;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

/// (kind, first, second, third, flags, data, optional, instead); see `_native.pyi`.
type RawStep = (String, Vec<u8>, Vec<u8>, Vec<u8>, u64, Vec<u8>, bool, bool);

fn text(bytes: Vec<u8>) -> PyResult<CString> {
    CString::new(bytes).map_err(|_| PyValueError::new_err("embedded null byte"))
}

fn texts(list: Vec<Vec<u8>>) -> PyResult<Vec<CString>> {
    list.into_iter().map(text).collect()
}

fn step(raw: RawStep) -> PyResult<native::Step> {
    let (kind, first, second, third, flags, data, optional, instead) = raw;
    let mode = u32::try_from(flags).unwrap_or(0o755);
    let kind = match kind.as_str() {
        "mount" => native::StepKind::Mount {
            source: text(first)?,
            target: text(second)?,
            filesystem: text(third)?,
            flags,
            data: text(data)?,
        },
        "read-only" => native::StepKind::ReadOnly { path: text(first)?, tree: false },
        "read-only-tree" => native::StepKind::ReadOnly { path: text(first)?, tree: true },
        "bind-beneath" => native::StepKind::BindBeneath {
            base: text(first)?,
            relative: native::Relative::new(&text(second)?)
                .ok_or_else(|| PyValueError::new_err("not a path below a folder"))?,
            target: text(third)?,
        },
        "bind-mapped" => native::StepKind::BindMapped {
            source: text(first)?,
            target: text(second)?,
            user_namespace: text(third)?,
        },
        "write" => native::StepKind::Write { path: text(first)?, data: text(second)? },
        "directory" => native::StepKind::Directory { path: text(first)?, mode },
        "file" => native::StepKind::File { path: text(first)?, mode },
        "symlink" => native::StepKind::Symlink { target: text(first)?, path: text(second)? },
        "root" => native::StepKind::Root { path: text(first)? },
        other => return Err(PyValueError::new_err(format!("unknown step {other:?}"))),
    };
    Ok(native::Step { kind, optional, instead })
}

fn steps(raw: Vec<RawStep>) -> PyResult<Vec<native::Step>> {
    raw.into_iter().map(step).collect()
}

fn error(failure: native::LaunchError) -> PyErr {
    PyOSError::new_err((failure.errno, failure.to_string(), if failure.in_exec { "exec" } else { "setup" }))
}

/// Make namespaces that live as long as their descriptors: (user, mount, network, ipc, uts, netlink), -1 where not asked.
#[pyfunction]
#[pyo3(signature = (*, namespaces, user_map, hostname, steps, join = vec![]))]
fn create_namespaces(
    py: Python<'_>,
    namespaces: i32,
    user_map: Option<(u32, u32, u32, u32)>,
    hostname: Vec<u8>,
    steps: Vec<RawStep>,
    join: Vec<(RawFd, i32)>,
) -> PyResult<(RawFd, RawFd, RawFd, RawFd, RawFd, RawFd)> {
    let plan =
        native::NamespacesPlan {
            namespaces,
            join,
            user_map: user_map.map(|(inside_user, outside_user, inside_group, outside_group)| {
                native::UserMap { inside_user, outside_user, inside_group, outside_group }
            }),
            hostname: text(hostname)?,
            steps: self::steps(steps)?,
        };
    let made = py.detach(|| native::create_namespaces(&plan)).map_err(error)?;
    let number = |descriptor: Option<OwnedFd>| descriptor.map_or(-1, IntoRawFd::into_raw_fd);
    Ok((
        number(made.user),
        number(made.mount),
        number(made.network),
        number(made.ipc),
        number(made.uts),
        number(made.netlink),
    ))
}

/// A compiled seccomp filter.
#[pyclass(frozen)]
struct SyscallFilter(native::Filter);

#[pymethods]
impl SyscallFilter {
    #[new]
    fn new(json: &[u8]) -> PyResult<Self> {
        native::compile_filter(json).map(Self).map_err(PyValueError::new_err)
    }
}

/// Start a process; returns (pid, pidfd) once it has been executed.
#[pyfunction]
#[pyo3(signature = (*, executables, arguments, environment, directory, stdio, join, namespaces, steps, user=None,
    group=None, groups=None, through_user_namespace=false, no_new_privileges=false, oom_score_adj=None, terminal=false,
    capabilities=None, filters=Vec::new(), groups_of_control=Vec::new()))]
#[allow(clippy::too_many_arguments)] // keywords in Python, every one a field of the plan
fn launch(
    py: Python<'_>,
    executables: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    directory: Vec<u8>,
    stdio: (RawFd, RawFd, RawFd),
    join: Vec<(RawFd, i32)>,
    namespaces: i32,
    steps: Vec<RawStep>,
    user: Option<u32>,
    group: Option<u32>,
    groups: Option<Vec<u32>>,
    through_user_namespace: bool,
    no_new_privileges: bool,
    oom_score_adj: Option<i32>,
    terminal: bool,
    capabilities: Option<u64>,
    filters: Vec<PyRef<'_, SyscallFilter>>,
    groups_of_control: Vec<RawFd>,
) -> PyResult<(i32, RawFd)> {
    let plan = native::LaunchPlan {
        executables: texts(executables)?,
        arguments: texts(arguments)?,
        environment: texts(environment)?,
        directory: text(directory)?,
        stdio: [stdio.0, stdio.1, stdio.2],
        join,
        namespaces,
        steps: self::steps(steps)?,
        identity: native::Identity { user, group, groups, through_user_namespace },
        no_new_privileges,
        capabilities,
        filters: filters.iter().map(|one| one.0.clone()).collect(),
        groups_of_control,
        oom_score_adj,
        terminal,
    };
    let started = py.detach(|| native::launch(&plan)).map_err(error)?;
    Ok((started.pid, started.pidfd.into_raw_fd()))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SyscallFilter>()?;
    module.add_function(wrap_pyfunction!(create_namespaces, module)?)?;
    module.add_function(wrap_pyfunction!(launch, module)?)
}
