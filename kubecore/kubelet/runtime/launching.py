"""Facade of the Rust launcher: namespaces held by descriptors, processes started inside them, file system steps."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kubecore import _native

NEW_MOUNT, NEW_CGROUP, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NETWORK = (
    0x00020000,
    0x02000000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
MS_READ_ONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_RECURSIVE, MS_PRIVATE, MS_SLAVE = 0x1000, 0x4000, 0x40000, 0x80000

Step = tuple[str, bytes, bytes, bytes, int, bytes, bool, bool]
"""Kind, three paths, flags or mode, data; whether the container can do without it, and whether it is only for where the
step before has failed."""
END = struct.Struct("=i")
"""How a process ended, as wait(2) has it."""


def mount(
    source: str, target: str, *, filesystem: str = "", flags: int = 0, data: str = "", optional: bool = False
) -> Step:
    """mount(2); empty strings are null pointers."""
    encode = os.fsencode
    return ("mount", encode(source), encode(target), encode(filesystem), flags, encode(data), optional, False)


def bind(source: str, target: str, *, optional: bool = False) -> Step:
    """`source` and all that is mounted below it appear at `target`."""
    return mount(source, target, flags=MS_BIND | MS_RECURSIVE, optional=optional)


def bind_alone(source: str, target: str, *, optional: bool = False) -> Step:
    """As `bind`, without what is mounted below it, which who has got it from another user namespace must not leave."""
    return mount(source, target, flags=MS_BIND, optional=optional)


def bind_beneath(folder: str, relative: str, target: str) -> Step:
    """What `folder` holds at a path appears at `target`; no link on the way leads out, and missing folders are made."""
    return ("bind-beneath", os.fsencode(folder), os.fsencode(relative), os.fsencode(target), 0, b"", False, False)


def bind_mapped(source: str, target: str, user_namespace: str) -> Step:
    """As `bind`; user 0 of the user namespace with this file is who user 0 is on the disk, and so on."""
    files = os.fsencode(source), os.fsencode(target), os.fsencode(user_namespace)
    return ("bind-mapped", *files, 0, b"", False, False)


def read_only(path: str, *, tree: bool = False) -> Step:
    """`tree`: with all that is mounted below it."""
    return ("read-only-tree" if tree else "read-only", os.fsencode(path), b"", b"", 0, b"", False, False)


def write(path: str, text: str) -> Step:
    """To a file that exists."""
    return ("write", os.fsencode(path), os.fsencode(text), b"", 0, b"", False, False)


def confine(profile: str) -> Step:
    """The program runs under this AppArmor profile, which the kernel has. To be the first: it needs our own /proc."""
    own = Path("/proc/self/attr/apparmor/exec")  # beside other security modules; older kernels have but one
    return write(str(own) if own.exists() else "/proc/self/attr/exec", f"exec {profile}")


def optional(step: Step) -> Step:
    """The container does without if it fails."""
    return (*step[:6], True, step[7])


def instead(step: Step) -> Step:
    """To be done where the one before has failed, which is optional."""
    return (*step[:7], True)


def directory(path: str, mode: int = 0o755) -> Step:
    return ("directory", os.fsencode(path), b"", b"", mode, b"", False, False)


def empty_file(path: str, mode: int = 0o644) -> Step:
    return ("file", os.fsencode(path), b"", b"", mode, b"", False, False)


def symlink(target: str, path: str) -> Step:
    return ("symlink", os.fsencode(target), os.fsencode(path), b"", 0, b"", False, False)


def root(path: str) -> Step:
    """Make the mount point `path` the root directory."""
    return ("root", os.fsencode(path), b"", b"", 0, b"", False, False)


@dataclass
class Namespaces:
    """Namespaces of a pod; they live until `close`. Each number is a descriptor, -1 for one the pod has not."""

    user: int = -1
    mount: int = -1
    network: int = -1
    ipc: int = -1
    uts: int = -1
    netlink: int = -1
    outer: tuple[tuple[int, int], ...] = ()
    """Others' that the pod is in as well, descriptor and kind: they are entered first, and not closed here."""
    mount_is_of_host: bool = False
    """The mount namespace is not the user namespace's, in which nobody may enter it."""

    def to_join(self, *, users: bool = True) -> list[tuple[int, int]]:
        """In the order they must be entered: the user namespace first, as it gives the right to the others, if `users`
        are to be changed."""
        kinds = (
            (self.user if users else -1, NEW_USER),
            (self.network, NEW_NETWORK),
            (self.ipc, NEW_IPC),
            (self.uts, NEW_UTS),
            (self.mount, NEW_MOUNT),
        )
        ordered = (kinds[-1], *kinds[:-1]) if self.mount_is_of_host else kinds
        return [*self.outer, *((descriptor, kind) for descriptor, kind in ordered if descriptor >= 0)]

    def close(self) -> None:
        for name in ("user", "mount", "network", "ipc", "uts", "netlink"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)


def create_namespaces(
    namespaces: int, *, hostname: str = "", steps: Sequence[Step] = (), join: Sequence[tuple[int, int]] = ()
) -> Namespaces:
    """Raises OSError with the step that failed. With NEW_USER our user and group become 0 inside. `join`: within which
    others they are made."""
    user_map = (0, os.geteuid(), 0, os.getegid()) if namespaces & NEW_USER else None
    made = _native.create_namespaces(
        namespaces=namespaces, user_map=user_map, hostname=os.fsencode(hostname), steps=list(steps), join=list(join)
    )
    return Namespaces(*made)


@dataclass(frozen=True, slots=True)
class Process:
    """`pidfd` polls readable when it has ended. `told`: of one that is no child of this process, the end of a pipe by
    which its parent tells how it ended (`END`), else -1. Both are the holder's to close."""

    pid: int
    pidfd: int
    told: int = -1

    @property
    def end(self) -> int:
        """The descriptor that can be read from when it is known how it ended."""
        return self.told if self.told >= 0 else self.pidfd


class ExecFailure(Exception):
    """The program itself could not be executed; the text is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to start: `arguments` as given to the program, `search` the folders for a bare command name."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    stdio: tuple[int, int, int]
    join: Sequence[tuple[int, int]] = ()
    namespaces: int = 0
    steps: Sequence[Step] = ()
    user: int | None = None
    group: int | None = None
    groups: Sequence[int] | None = None
    through_user_namespace: bool = False
    no_new_privileges: bool = False
    capabilities: int | None = None
    """A bit for each that the process may ever have."""
    filters: Sequence[_native.SyscallFilter] = ()
    groups_of_control: Sequence[int] = ()
    """Descriptors by which it enters the cgroups that it is to be in (`Cgroups.doors`)."""
    oom_score_adj: int | None = None
    terminal: bool = False
    """stdin is a terminal, to be the controlling one of the process's session."""
    search: str = field(default="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")

    def start(self) -> Process:
        """Raises ExecFailure when there is no such program, OSError when something before it failed."""
        command = self.arguments[0]
        if "/" in command:
            candidates = [command]
        else:
            path = self.environment.get("PATH", self.search)
            candidates = [f"{folder or '.'}/{command}" for folder in path.split(":")]
        try:
            pid, pidfd = _native.launch(
                executables=[os.fsencode(one) for one in candidates],
                arguments=[os.fsencode(one) for one in self.arguments],
                environment=[os.fsencode(f"{name}={value}") for name, value in self.environment.items()],
                directory=os.fsencode(self.directory),
                stdio=self.stdio,
                join=list(self.join),
                namespaces=self.namespaces,
                steps=list(self.steps),
                user=self.user,
                group=self.group,
                groups=None if self.groups is None else list(self.groups),
                through_user_namespace=self.through_user_namespace,
                no_new_privileges=self.no_new_privileges,
                capabilities=self.capabilities,
                filters=list(self.filters),
                groups_of_control=list(self.groups_of_control),
                oom_score_adj=self.oom_score_adj,
                terminal=self.terminal,
            )
        except OSError as error:
            if error.filename != "exec":
                raise
            raise ExecFailure(_exec_text(command, error)) from error
        return Process(pid, pidfd)


def _exec_text(command: str, error: OSError) -> str:
    """runc's words for a program that cannot be executed."""
    if isinstance(error, FileNotFoundError):
        why = "no such file or directory" if "/" in command else "executable file not found in $PATH"
    else:
        why = os.strerror(error.errno or 0).lower()
    quoted = command.replace('"', '\\"')
    if "/" in command:
        return f'exec: "{quoted}": stat {command}: {why}'
    return f'exec: "{quoted}": {why}'
