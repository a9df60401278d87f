"""Plans what the processes of the `host` runtime's containers are started with and within."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from kubecore import _native
from kubecore.kubelet.runtime import capabilities, launching, leftovers, mounting, propagation, seccomp
from kubecore.kubelet.runtime.image_roots import ImageRoot, image_steps
from kubecore.kubelet.runtime.interface import (
    ContainerConfig,
    ContainerStatus,
    Mount,
    ProcessUser,
    SandboxConfig,
    SandboxStatus,
)
from kubecore.kubelet.runtime.isolation import Isolation
from kubecore.kubelet.runtime.launching import Namespaces
from kubecore.kubelet.runtime.mapped_roots import Stage, StagedRoot, stage
from kubecore.kubelet.runtime.pod_users import PodUsers
from kubecore.kubelet.runtime.processes import Ended, Running, is_ending
from kubecore.kubelet.runtime.seen_groups import NO_GROUPS, Groups

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Container:
    status: ContainerStatus
    config: ContainerConfig
    scratch: Path
    running: Running | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    end: asyncio.Future[Ended] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    kill_timer_at: float = float("inf")
    cgroup: str = ""
    groups: Groups = NO_GROUPS
    """What it sees of control groups."""
    out_of_memory: bool = False
    """We have killed it, or a process of it, since it had more memory than it may."""
    root: ImageRoot | None = None
    """What it sees instead of the host's file system."""
    profile: tuple[_native.SyscallFilter, ...] = ()
    """Of the node's file that its config names."""
    held: int = -1
    """Keeps its image in the store."""


@dataclass(frozen=True, slots=True)
class CommandInside:
    """To be run in a container that runs. `ends_group`: what is of its process group when it has ended, ends, too."""

    argv: Sequence[str]
    stdio: tuple[int, int, int]
    terminal: bool = False
    ends_group: bool = False


@dataclass
class Sandbox:
    """`first`: the process that the pod's shared pid namespace belongs to, None where containers have their own."""

    status: SandboxStatus
    config: SandboxConfig
    namespaces: Namespaces
    shared_memory: Path | None
    first: launching.Process | None = None
    stopped: bool = False
    held: tuple[int, ...] = ()
    """Descriptors that keep the images of its volumes in their store."""
    users: PodUsers | None = None
    """Those of its own user namespace, where these are not the host's."""
    shared: dict[Path, Path] = field(default_factory=dict)
    """Peers of volumes in its mount namespace (`propagation.share`)."""

    @property
    def lost(self) -> bool:
        """Its first process was killed, and with that all others in its pid namespace, where none can be started."""
        return self.first is not None and is_ending(self.first.pid)

    async def share(self, mounts: Sequence[Mount]) -> None:
        """What a container is to share with the host. Raises OSError, ExecFailure."""
        for one in mounts:
            if one.propagation == "Bidirectional" and self.namespaces.mount >= 0 and one.source not in self.shared:
                place = await propagation.share(one.source, self.config.directory, self.namespaces.mount)
                self.shared[one.source] = place
        if self.stopped:  # meanwhile: it has no namespaces any more, which would leave the container in the host's
            raise launching.ExecFailure("its sandbox has been stopped")


@dataclass(frozen=True)
class LaunchPlans:
    """`node`: what marks the node's processes (`leftovers.node_mark`)."""

    isolation: Isolation
    node: str

    def own_processes(self, config: SandboxConfig) -> bool:
        """Whether a container sees no processes of the host."""
        return self.isolation.namespaces and not config.host_pid

    def is_first(self, sandbox: Sandbox, container: Container) -> bool:
        """Its process is a pid namespace's first, with which all the others there end."""
        return self.own_processes(sandbox.config) and not container.config.target and sandbox.first is None

    def first_of_sandbox(self, namespaces: Namespaces, null: int) -> launching.Launch:
        """The process that holds the pid namespace of a pod whose containers share it. It does nothing but wait, and
        as it does not care for its children's ends, the kernel forgets those that nobody else waits for."""
        return launching.Launch(
            arguments=("/bin/sh", "-c", "trap '' CHLD; exec sleep 2147483647"),
            environment={"PATH": _DEFAULT_PATH},
            directory="/",
            stdio=(null, null, null),
            join=namespaces.to_join(),
            namespaces=launching.NEW_PID,
            capabilities=0,
            no_new_privileges=True,
        )

    def container(
        self, sandbox: Sandbox, container: Container, stdio: tuple[int, int, int], target: Running | None
    ) -> launching.Launch:
        """`target`: the container whose processes this one is to see, if not its own only. Raises MountFailure."""
        config = container.config
        launch = self.bare(sandbox, container, stdio)
        if not self.isolation.namespaces:
            return as_ourselves(replace(launch, environment={**_volume_variables(config.mounts), **launch.environment}))
        namespaces = launching.NEW_MOUNT
        own_processes = self.own_processes(sandbox.config)
        join = sandbox.namespaces.to_join()
        if own_processes and target is not None:
            join.append((target.pidfd, launching.NEW_PID))
        elif own_processes and sandbox.first is not None:
            join.append((sandbox.first.pidfd, launching.NEW_PID))
        elif own_processes:
            namespaces |= launching.NEW_PID
        if self._own_groups(container):  # made when it has come to be in its group
            namespaces |= launching.NEW_CGROUP
        console = _terminal_name(stdio[0]) if config.tty else ""
        steps = self._steps(sandbox, container, own_processes=own_processes, console=console)
        if self.isolation.user_namespace and not launch.through_user_namespace:
            launch = as_ourselves(launch)
        return replace(launch, join=join, namespaces=namespaces, steps=[*launch.steps, *steps])

    def _steps(
        self, sandbox: Sandbox, container: Container, *, own_processes: bool, console: str
    ) -> list[launching.Step]:
        config = container.config
        mounts = [*file_mounts(sandbox.config), *config.mounts]
        if container.root is not None:
            staged = self.stage(sandbox, container)
            return image_steps(
                StagedRoot.of(container.root) if staged is not None else container.root,
                mounts,
                shared_memory=staged.shared_memory if staged is not None else sandbox.shared_memory,
                own_processes=own_processes,
                own_network=sandbox.namespaces.network >= 0,
                privileged=config.privileged,
                also=config.working_directory,
                read_only_root=config.read_only_root,
                console=console,
                shared=sandbox.shared,
                staged=staged.mounts if staged is not None else {},
                groups=container.groups,
            )
        return mounting.container_steps(
            mounts,
            scratch=container.scratch,
            shared_memory=sandbox.shared_memory,
            own_processes=own_processes,
            own_network=sandbox.namespaces.network >= 0,
            own_devices=not config.privileged,
            also=config.working_directory,
            read_only_root=config.read_only_root,
            console=console,
            shared=sandbox.shared,
        )

    def stage(self, sandbox: Sandbox, container: Container, *, cover: Path | None = None) -> Stage | None:
        """What is to be there before its process is, in a pod with users of its own. `cover`: where, beside all else.
        Raises MountFailure."""
        if sandbox.users is None or container.root is None:
            return None
        return stage(
            container.root,
            [*file_mounts(sandbox.config), *container.config.mounts],
            folder=cover or container.scratch / "stage",
            enter=cover is None,
            users=sandbox.users,
            shared_memory=sandbox.shared_memory,
            shared=sandbox.shared,
            images=[one.path for one in sandbox.config.image_directories],
        )

    def bare(
        self, sandbox: Sandbox, container: Container, stdio: tuple[int, int, int], *, marked: bool = False
    ) -> launching.Launch:
        """As whom and with which rights, not yet where. `marked`: as the node's, be it a pid namespace's first."""
        config = container.config
        environment = {"PATH": _DEFAULT_PATH, "HOSTNAME": sandbox.config.hostname}
        environment.update(config.environment)
        environment.setdefault("HOME", _home(self.user(config).uid))
        if marked or not self.is_first(sandbox, container):
            environment[leftovers.VARIABLE] = leftovers.container_mark(self.node, container.status.id)
        identity = config.identity
        confined = self.isolation.namespaces and config.capabilities is not None
        kept = config.capabilities if config.capabilities is not None else capabilities.ALL
        filtered = self.isolation.namespaces and config.seccomp == "runtime-default"
        filters = seccomp.runtime_default(kept) if filtered else container.profile
        return launching.Launch(
            arguments=(*config.argv, *config.arguments),
            environment=environment,
            directory=config.working_directory or "/",
            stdio=stdio,
            user=identity.user,
            group=identity.group,
            groups=self._groups(config),
            through_user_namespace=self.isolation.user_namespace and bool(identity.user or identity.group),
            no_new_privileges=config.no_new_privileges,
            capabilities=capabilities.mask(kept) if confined else None,
            filters=filters,
            oom_score_adj=_clamp_oom_score(config.oom_score_adj),
            steps=_confinement(config.app_armor),
        )

    def _groups(self, config: ContainerConfig) -> Sequence[int] | None:
        if self.isolation.user_namespace or not self.isolation.namespaces:
            return None  # a user namespace of one's own making cannot set groups
        return config.identity.supplemental_groups

    def user(self, config: ContainerConfig) -> ProcessUser:
        """As who its process runs."""
        identity = config.identity
        if not self.isolation.namespaces:
            user, group, others = os.geteuid(), os.getegid(), tuple(os.getgroups())
        elif self.isolation.user_namespace:
            user, group, others = identity.user or 0, identity.group or 0, ()
        else:
            user = os.geteuid() if identity.user is None else identity.user
            group = os.getegid() if identity.group is None else identity.group
            others = identity.supplemental_groups
        return ProcessUser(user, group, tuple(dict.fromkeys((group, *others))))

    def inside(
        self,
        sandbox: Sandbox,
        container: Container,
        running: Running,
        command: CommandInside,
    ) -> launching.Launch:
        """A further process in a running container."""
        launch = self.bare(sandbox, container, command.stdio)
        if not self.isolation.namespaces:
            volumes = _volume_variables(container.config.mounts)
            launch = replace(launch, environment={**volumes, **launch.environment})
        environment = {"TERM": "xterm", **launch.environment} if command.terminal else launch.environment
        if self.isolation.user_namespace and Path(command.argv[0]).name == "tar":
            # `kubectl cp`: there is root alone in there, and to nobody else can files be given.
            environment = {"TAR_OPTIONS": "--no-same-owner", **environment}
        launch = replace(
            launch,
            arguments=tuple(command.argv),
            environment=environment,
            join=self._within(sandbox, container, running),
            terminal=command.terminal,
        )
        if self.isolation.user_namespace or not self.isolation.namespaces:
            return as_ourselves(launch)
        return launch

    def _own_groups(self, container: Container) -> bool:
        """Whether they are the root of those that its processes hear of."""
        return self.isolation.cgroup_namespace and bool(container.groups.places)

    def _within(self, sandbox: Sandbox, container: Container, running: Running) -> list[tuple[int, int]]:
        """Everything the container's process is in, entered through its pidfd at once."""
        if not self.isolation.namespaces:
            return []
        kinds = launching.NEW_MOUNT | launching.NEW_UTS
        for held, kind in (
            (sandbox.namespaces.user >= 0, launching.NEW_USER),
            (sandbox.namespaces.network >= 0 or bool(sandbox.namespaces.outer), launching.NEW_NETWORK),
            (sandbox.namespaces.ipc >= 0, launching.NEW_IPC),
            (self.own_processes(sandbox.config), launching.NEW_PID),
            (self._own_groups(container), launching.NEW_CGROUP),
        ):
            if held:
                kinds |= kind
        return [(running.pidfd, kinds)]

    def host_user(self, sandbox: Sandbox, container: Container) -> int | None:
        """The host's number of its processes' user; None where that is ourselves, or cannot be had."""
        user = container.config.identity.user
        if sandbox.users is not None:
            return sandbox.users.first + (user or 0)
        return None if self.isolation.user_namespace or os.geteuid() else user


def _confinement(app_armor: str) -> list[launching.Step]:
    kind, _, profile = app_armor.partition("/")
    return [launching.confine(profile)] if kind == "localhost" else []


def _terminal_name(descriptor: int) -> str:
    """Its path among our devices, "" if it has none."""
    with suppress(OSError):
        return os.ttyname(descriptor)
    return ""


def as_ourselves(launch: launching.Launch) -> launching.Launch:
    """Without a change of identity: we may not, or the namespace that is entered has done it."""
    return replace(launch, user=None, group=None, groups=None, through_user_namespace=False)


def _home(user: int) -> str:
    """By the host's users, whose file system such a container sees; as runc does, "/" of one whom it does not know."""
    with suppress(OSError):
        for line in Path("/etc/passwd").read_text(errors="replace").splitlines():
            parts = line.split(":")
            if len(parts) >= 7 and parts[2] == str(user):
                return parts[5] or "/"
    return "/"


def file_mounts(config: SandboxConfig) -> list[Mount]:
    shown = {
        "/etc/hosts": config.hosts,
        "/etc/resolv.conf": config.resolv_conf,
        "/etc/hostname": config.hostname_file,
    }
    return [Mount(file, target) for target, file in shown.items() if file is not None]


def _clamp_oom_score(wanted: int) -> int:
    """Who may not lower his own stays where he is."""
    with suppress(OSError, ValueError):
        own = int(Path("/proc/self/oom_score_adj").read_text())
        if wanted < own and not capabilities.has_of_host("SYS_RESOURCE"):
            return own
    return wanted


def _volume_variables(mounts: Sequence[Mount]) -> dict[str, str]:
    """Where volumes are when they cannot be mounted: KUBECORE_VOLUME_ETC_CONFIG for the one at /etc/config."""
    names = {}
    for one in mounts:
        name = re.sub(r"[^A-Za-z0-9]+", "_", one.target.strip("/")).upper()
        source = one.source / one.sub_path
        if one.sub_path and not source.exists():
            source.mkdir(parents=True)
        names[f"KUBECORE_VOLUME_{name}"] = str(source)
    return names
