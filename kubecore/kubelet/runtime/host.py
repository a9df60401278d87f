"""The `host` runtime: a container is a command on the host's own file system. No security boundary.

What separates it from the host is the best the kernel allows, found out at start:

- as root: mount, pid, ipc, uts and (in netns mode) network namespaces of its own; volumes, /etc/hosts and
  /etc/resolv.conf mounted in;
- as another user where user namespaces are permitted: the same within a user namespace in which it is root, on the
  host's network;
- else: a plain process in a session of its own. Volumes cannot be mounted then: their folders on the host are named by
  the environment variables KUBECORE_VOLUME_<MOUNT PATH> (upper case, other characters than letters and digits as `_`).

A pod's namespaces are held by descriptors of this process alone, a container's process is this process's own child and
dies with it: whatever ends kubecore, `kill -9` included, leaves neither process, mount, namespace nor link behind. Only
where a container has no pid namespace, what its process has started outlives a `kill -9` of kubecore; the node's next
start ends it (`leftovers`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from kubecore.clock import Clock
from kubecore.kubelet.logs import LogBook, LogWriter
from kubecore.kubelet.network import NetworkError, NetworkNamespace, PodNetwork
from kubecore.kubelet.runtime import launching, leftovers, mounting
from kubecore.kubelet.runtime.interface import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    ExecResult,
    ExitListener,
    MemoryDirectory,
    Mount,
    RuntimeFailure,
    SandboxConfig,
    SandboxStatus,
)
from kubecore.kubelet.runtime.isolation import Isolation, probe_isolation
from kubecore.kubelet.runtime.launching import Namespaces
from kubecore.kubelet.runtime.processes import Ended, Output, Running, close_all, collect
from kubecore.kubelet.runtime.streams import StreamedProcess, StreamsWanted, attach, open_streams, watch_end

log = logging.getLogger(__name__)

_SHARED_MEMORY_BYTES = 64 * 1024 * 1024
_EXEC_OUTPUT_BYTES = 16 * 1024 * 1024
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class _Container:
    status: ContainerStatus
    config: ContainerConfig
    scratch: Path
    running: Running | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    end: asyncio.Future[Ended] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    kill_timer_at: float = float("inf")


@dataclass
class _Sandbox:
    status: SandboxStatus
    config: SandboxConfig
    namespaces: Namespaces
    shared_memory: Path | None
    stopped: bool = False


class HostRuntime:
    """Implements `interface.Runtime`."""

    name = "host"
    handlers = frozenset({"host"})

    def __init__(self, network: PodNetwork, clock: Clock, book: LogBook, *, node: str) -> None:
        """`node`: what marks the node's processes, in every run of it (`leftovers.node_mark`)."""
        self._network = network
        self._clock = clock
        self._book = book
        self._node = node
        self._listeners: list[ExitListener] = []
        self._sandboxes: dict[str, _Sandbox] = {}
        self._containers: dict[str, _Container] = {}
        self.isolation = Isolation(False, False, "not started")
        self.root_by_default = True

    async def start(self) -> None:
        self.isolation = probe_isolation()
        # Whoever we are, a user namespace makes us root to those in it.
        self.root_by_default = self.isolation.user_namespace or os.geteuid() == 0
        level = logging.INFO if self.isolation.namespaces else logging.WARNING
        log.log(level, "host runtime: %s", self.isolation.reason)
        killed = leftovers.end_of_node(self._node)
        if killed:
            log.info("host runtime: ended %d processes of pods that a former run left", killed)

    async def close(self) -> None:
        for sandbox_id in list(self._sandboxes):
            await self.remove_pod_sandbox(sandbox_id)

    def subscribe(self, listener: ExitListener) -> None:
        self._listeners.append(listener)

    # ---- sandboxes

    async def run_pod_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        own_network = self._network.mode == "netns" and not config.host_network
        shared_memory = None if config.host_ipc else config.directory / "shm"
        try:
            namespaces = self._make_namespaces(config, own_network, shared_memory)
        except OSError as error:
            raise RuntimeFailure("FailedCreatePodSandBox", f"failed to create pod sandbox: {_text(error)}") from error
        ips: tuple[str, ...] = ()
        if not config.host_network:
            inside = NetworkNamespace(namespaces.network, namespaces.netlink) if own_network else None
            try:
                ips = self._network.attach(config.uid, inside)
            except NetworkError as error:
                namespaces.close()
                message = f"failed to set up pod network: {error}"
                raise RuntimeFailure("FailedCreatePodSandBox", message) from error
        notes: tuple[str, ...] = ()
        if not self.isolation.namespaces:
            notes = (
                f"{self.isolation.reason}: volumes are not mounted, "
                "their folders are named by the environment variables KUBECORE_VOLUME_<MOUNT PATH>; "
                "Services are known by the variables <NAME>_SERVICE_HOST and <NAME>_SERVICE_PORT, not by name; "
                "runAsUser and runAsGroup are not followed",
            )
        sandbox_id = secrets.token_hex(32)
        status = SandboxStatus(id=sandbox_id, uid=config.uid, ips=ips, notes=notes)
        self._sandboxes[sandbox_id] = _Sandbox(status, config, namespaces, shared_memory)
        return status

    def _make_namespaces(self, config: SandboxConfig, own_network: bool, shared_memory: Path | None) -> Namespaces:
        if not self.isolation.namespaces:
            return Namespaces()
        wanted = launching.NEW_MOUNT | launching.NEW_UTS
        if self.isolation.user_namespace:
            wanted |= launching.NEW_USER
        if own_network:
            wanted |= launching.NEW_NETWORK
        directories = list(config.memory_directories)
        if shared_memory is not None:
            wanted |= launching.NEW_IPC
            shared_memory.mkdir(mode=0o1777, exist_ok=True)
            directories.append(MemoryDirectory(shared_memory, _SHARED_MEMORY_BYTES))
        steps = mounting.sandbox_steps(directories)
        return launching.create_namespaces(wanted, hostname=config.hostname, steps=steps)

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.stopped:
            return
        sandbox.stopped = True
        running = [one.status.id for one in self._containers.values() if one.status.sandbox_id == sandbox_id]
        await asyncio.gather(*(self.stop_container(container_id, 0) for container_id in running))
        sandbox.namespaces.close()
        self._network.detach(sandbox.config.uid)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await self.stop_pod_sandbox(sandbox_id)
        if self._sandboxes.pop(sandbox_id, None) is not None:
            for container in [one for one in self._containers.values() if one.status.sandbox_id == sandbox_id]:
                await self.remove_container(container.status.id)

    # ---- containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.stopped:
            raise RuntimeFailure("CreateContainerError", f"sandbox {sandbox_id!r} is not running")
        if not config.argv:
            raise RuntimeFailure(
                "CreateContainerError",
                "no command specified: the host runtime ignores the image and needs the container's command",
            )
        container_id = secrets.token_hex(32)
        scratch = sandbox.config.directory / "scratch" / container_id[:12]
        scratch.mkdir(parents=True, mode=0o700)
        status = ContainerStatus(
            id=container_id,
            sandbox_id=sandbox_id,
            name=config.name,
            attempt=config.attempt,
            state=ContainerState.CREATED,
            created_at=self._clock.now(),
        )
        self._containers[container_id] = _Container(status, config, scratch)
        return container_id

    async def start_container(self, container_id: str) -> None:
        container = self._container(container_id)
        sandbox = self._sandboxes[container.status.sandbox_id]
        writer = LogWriter(container.config.log_path, self._clock, self._book)
        output = self._open_output(container)
        try:
            launch = self._launch(sandbox, container, output.child_ends)
            process = replace(launch, terminal=container.config.tty).start()
        except (OSError, mounting.MountFailure, launching.ExecFailure) as error:
            output.close()
            writer.close()
            now = self._clock.now()
            ended = ContainerState.EXITED
            container.status = replace(container.status, state=ended, exit_code=128, started_at=now, finished_at=now)
            container.ended.set()
            _remove(container.scratch)
            message = f"failed to create containerd task: {_text(error)}".replace(
                "containerd task", "container process"
            )
            raise RuntimeFailure("RunContainerError", message) from error
        output.close_child_ends()
        now = self._clock.now()
        container.status = replace(container.status, state=ContainerState.RUNNING, started_at=now, pid=process.pid)
        container.running = Running(
            process,
            output,
            on_output=writer.write,
            on_end=lambda ended: self._ended(container, writer, ended),
            clean_up=None if self._is_first(sandbox, container) else self._end_leftovers(container),
        )

    def _open_output(self, container: _Container) -> Output:
        config = container.config
        if config.tty:
            return Output.terminal(stdin=config.stdin, owner=self._terminal_owner(container))
        return Output.with_stdin() if config.stdin else Output.pipes()

    def _end_leftovers(self, container: _Container) -> Callable[[int], object]:
        mark = leftovers.container_mark(self._node, container.status.id)
        return lambda pid: leftovers.end_of_container(mark, session=pid)

    def _own_processes(self, sandbox: _Sandbox) -> bool:
        return self.isolation.namespaces and not sandbox.config.host_pid

    def _is_first(self, sandbox: _Sandbox, container: _Container) -> bool:
        """Its process is a pid namespace's first, with which all the others there end."""
        return self._own_processes(sandbox) and not container.config.target

    def _launch(self, sandbox: _Sandbox, container: _Container, stdio: tuple[int, int, int]) -> launching.Launch:
        config = container.config
        environment = {"PATH": _DEFAULT_PATH, "HOSTNAME": sandbox.config.hostname}
        environment.update(config.environment)
        if not self._is_first(sandbox, container):
            environment[leftovers.VARIABLE] = leftovers.container_mark(self._node, container.status.id)
        identity = config.identity
        in_user_namespace = self.isolation.user_namespace
        changes_user = in_user_namespace and bool(identity.user or identity.group)
        launch = launching.Launch(
            arguments=config.argv,
            environment=environment,
            directory=config.working_directory or "/",
            stdio=stdio,
            user=identity.user,
            group=identity.group,
            groups=self._groups(config),
            through_user_namespace=changes_user,
            no_new_privileges=config.no_new_privileges,
            oom_score_adj=_clamp_oom_score(config.oom_score_adj),
        )
        if not self.isolation.namespaces:
            return _as_ourselves(replace(launch, environment={**_volume_variables(config.mounts), **environment}))
        namespaces = launching.NEW_MOUNT
        own_processes = self._own_processes(sandbox)
        join = sandbox.namespaces.to_join()
        if own_processes and config.target:
            join += self._processes_of(config.target)
        elif own_processes:
            namespaces |= launching.NEW_PID
        steps = mounting.container_steps(
            [*self._file_mounts(sandbox.config), *config.mounts],
            scratch=container.scratch,
            shared_memory=sandbox.shared_memory,
            own_processes=own_processes,
            own_devices=not config.privileged,
            also=config.working_directory,
        )
        if in_user_namespace and not changes_user:
            launch = _as_ourselves(launch)
        return replace(launch, join=join, namespaces=namespaces, steps=steps)

    def _processes_of(self, container_id: str) -> list[tuple[int, int]]:
        target = self._container(container_id)
        if target.running is None:
            raise launching.ExecFailure(f"target container {target.status.name} is not running")
        return [(target.running.pidfd, launching.NEW_PID)]

    def _groups(self, config: ContainerConfig) -> Sequence[int] | None:
        identity = config.identity
        if self.isolation.user_namespace or not self.isolation.namespaces:
            return None  # a user namespace of one's own making cannot set groups
        return identity.supplemental_groups

    @staticmethod
    def _file_mounts(config: SandboxConfig) -> list[Mount]:
        mounts = []
        if config.hosts is not None:
            mounts.append(Mount(config.hosts, "/etc/hosts"))
        if config.resolv_conf is not None:
            mounts.append(Mount(config.resolv_conf, "/etc/resolv.conf"))
        return mounts

    def _ended(self, container: _Container, writer: LogWriter, ended: Ended) -> None:
        writer.close()
        container.running = None
        container.status = replace(
            container.status,
            state=ContainerState.EXITED,
            finished_at=self._clock.now(),
            exit_code=ended.exit_code,
            signal=ended.signal,
            pid=0,
        )
        _remove(container.scratch)
        container.ended.set()
        container.end.set_result(ended)
        for listener in self._listeners:
            listener(container.status)

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        container = self._containers.get(container_id)
        if container is None or container.running is None:
            return
        deadline = self._clock.monotonic() + grace_seconds
        first = container.kill_timer_at == float("inf")
        if grace_seconds <= 0:
            container.kill_timer_at = deadline
            container.running.kill()
        elif deadline < container.kill_timer_at:
            container.kill_timer_at = deadline
            if first:
                container.running.terminate()
            timer = self._clock.call_later(grace_seconds, lambda: self._kill(container))
            try:
                await container.ended.wait()
            finally:
                timer.cancel()
            return
        await container.ended.wait()

    @staticmethod
    def _kill(container: _Container) -> None:
        if container.running is not None:
            container.running.kill()

    async def remove_container(self, container_id: str) -> None:
        await self.stop_container(container_id, 0)
        container = self._containers.pop(container_id, None)
        if container is not None:
            _remove(container.scratch)

    def container_status(self, container_id: str) -> ContainerStatus:
        return self._container(container_id).status

    def list_containers(self, sandbox_id: str = "") -> Sequence[ContainerStatus]:
        everything = [one.status for one in self._containers.values()]
        return [one for one in everything if not sandbox_id or one.sandbox_id == sandbox_id]

    def _container(self, container_id: str) -> _Container:
        container = self._containers.get(container_id)
        if container is None:
            raise RuntimeFailure("NotFound", f"container {container_id!r} not found")
        return container

    # ---- commands inside

    async def exec_sync(self, container_id: str, argv: Sequence[str], timeout_seconds: float) -> ExecResult:
        container = self._container(container_id)
        output = Output.pipes()
        try:
            process = self._start_inside(container, argv, output.child_ends)
        except RuntimeFailure:
            output.close()
            raise
        output.close_child_ends()
        stdout, stderr, ended = await collect(
            process, output, clock=self._clock, timeout_seconds=timeout_seconds, limit=_EXEC_OUTPUT_BYTES
        )
        return ExecResult(stdout, stderr, ended.exit_code)

    def exec(self, container_id: str, argv: Sequence[str], wanted: StreamsWanted) -> StreamedProcess:
        container = self._container(container_id)
        ours, theirs = open_streams(wanted, owner=self._terminal_owner(container))
        try:
            process = self._start_inside(container, argv, theirs, terminal=wanted.tty)
        except RuntimeFailure:
            ours.close()
            raise
        finally:
            close_all(*theirs)
        return StreamedProcess(ours, watch_end(process))

    def attach(self, container_id: str, wanted: StreamsWanted) -> StreamedProcess:
        container = self._container(container_id)
        if container.running is None:
            raise RuntimeFailure("AttachError", f"container {container.status.name} is not running")
        config = container.config
        wanted = replace(wanted, tty=config.tty)
        return attach(container.running, container.end, wanted, once=config.stdin_once)

    def pod_network(self, sandbox_id: str) -> tuple[int, tuple[str, ...]]:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.stopped:
            raise RuntimeFailure("NotFound", f"sandbox {sandbox_id!r} is not running")
        if sandbox.namespaces.network >= 0:
            return os.dup(sandbox.namespaces.network), sandbox.status.ips
        return -1, sandbox.status.ips or ("127.0.0.1", "::1")

    def _terminal_owner(self, container: _Container) -> int | None:
        return None if self.isolation.user_namespace or os.geteuid() else container.config.identity.user

    def _start_inside(
        self, container: _Container, argv: Sequence[str], stdio: tuple[int, int, int], *, terminal: bool = False
    ) -> launching.Process:
        """A further process in a running container."""
        if container.running is None:
            raise RuntimeFailure("ExecError", f"container {container.status.name} is not running")
        sandbox = self._sandboxes[container.status.sandbox_id]
        try:
            launch = self._launch(sandbox, container, stdio)
            environment = {"TERM": "xterm", **launch.environment} if terminal else launch.environment
            launch = replace(
                launch,
                arguments=tuple(argv),
                environment=environment,
                steps=(),
                namespaces=0,
                join=self._inside(container),
                terminal=terminal,
            )
            if self.isolation.user_namespace:
                launch = _as_ourselves(launch)
            return launch.start()
        except (OSError, mounting.MountFailure, launching.ExecFailure) as error:
            raise RuntimeFailure("ExecError", f"OCI runtime exec failed: {_text(error)}") from error

    def _inside(self, container: _Container) -> list[tuple[int, int]]:
        """Everything the container's process is in, entered through its pidfd at once."""
        running = container.running
        if running is None or not self.isolation.namespaces:
            return []
        sandbox = self._sandboxes[container.status.sandbox_id]
        kinds = launching.NEW_MOUNT | launching.NEW_UTS
        for held, kind in (
            (sandbox.namespaces.user >= 0, launching.NEW_USER),
            (sandbox.namespaces.network >= 0, launching.NEW_NETWORK),
            (sandbox.namespaces.ipc >= 0, launching.NEW_IPC),
            (self._own_processes(sandbox), launching.NEW_PID),
        ):
            if held:
                kinds |= kind
        return [(running.pidfd, kinds)]


def _as_ourselves(launch: launching.Launch) -> launching.Launch:
    """Without a change of identity: we may not, or the namespace that is entered has done it."""
    return replace(launch, user=None, group=None, groups=None, through_user_namespace=False)


def _clamp_oom_score(wanted: int) -> int:
    """Lowering one's score takes CAP_SYS_RESOURCE, which containers seldom have: stay where we are then."""
    with suppress(OSError, ValueError):
        own = int(Path("/proc/self/oom_score_adj").read_text())
        return max(wanted, own) if wanted < own else wanted
    return wanted


def _volume_variables(mounts: Sequence[Mount]) -> dict[str, str]:
    """Where volumes are when they cannot be mounted: KUBECORE_VOLUME_ETC_CONFIG for the one at /etc/config."""
    names = {}
    for one in mounts:
        name = re.sub(r"[^A-Za-z0-9]+", "_", one.target.strip("/")).upper()
        names[f"KUBECORE_VOLUME_{name}"] = str(one.source)
    return names


def _remove(folder: Path) -> None:
    with suppress(OSError):
        os.rmdir(folder)  # noqa: PTH106 - Path.rmdir is the same and slower to read here


def _text(error: Exception) -> str:
    """The launcher's OSErrors carry a whole sentence."""
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)
