"""The `host` runtime: a container is a command on the host's own file system. No security boundary.

What separates it from the host is the best the kernel allows, found out at start:

- as root: mount, pid, ipc, uts and (in netns mode) network namespaces of its own; volumes, /etc/hosts and
  /etc/resolv.conf mounted in;
- as another user where user namespaces are permitted: the same within a user namespace in which it is root, on the
  host's network;
- else: a plain process in a session of its own. Volumes cannot be mounted then: their folders on the host are named by
  the environment variables KUBECORE_VOLUME_<MOUNT PATH> (upper case, other characters than letters and digits as `_`).

A pod's namespaces are held by descriptors of this process alone, a container's process is this process's own child and
dies with it: whatever ends this process (the kubelet's, or its keeper's: see `kubelet/keeper`), `kill -9` included,
leaves neither process, mount, namespace nor link behind. Only where a container has no pid namespace, what its process
has started outlives a `kill -9`; the node's next start ends it (`leftovers`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import timedelta

from kubecore.clock import Clock
from kubecore.images.store import ImageStore
from kubecore.kubelet.cgroups.interface import CgroupError, Cgroups, Limits
from kubecore.kubelet.logs.writing import LogBook, LogWriter
from kubecore.kubelet.networks.network import NetworkError, NetworkNamespace, PodNetwork
from kubecore.kubelet.runtime import launching, leftovers, mounting, propagation, sandbox_notes, volume_servers
from kubecore.kubelet.runtime.host_plans import CommandInside, Container, LaunchPlans, Sandbox
from kubecore.kubelet.runtime.interface import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    ExecResult,
    ExitListener,
    RuntimeFailure,
    SandboxConfig,
    SandboxStatus,
    Written,
)
from kubecore.kubelet.runtime.isolation import Isolation, describe, probe_isolation
from kubecore.kubelet.runtime.launching import Namespaces
from kubecore.kubelet.runtime.memory_limits.containers import WatchedContainers, was_ended
from kubecore.kubelet.runtime.pod_users import PodUsers
from kubecore.kubelet.runtime.processes import Ended, Output, Running, above_standard, close_all, collect, give_pipes
from kubecore.kubelet.runtime.sandbox_namespaces import make_namespaces
from kubecore.kubelet.runtime.scratch import scratch_of
from kubecore.kubelet.runtime.seccomp_profiles import profile_of
from kubecore.kubelet.runtime.streams import StreamedProcess, StreamsWanted, attach, open_streams, watch_end

log = logging.getLogger(__name__)

_EXEC_OUTPUT_BYTES = 16 * 1024 * 1024
_CLIENT_COMES_WITHIN = timedelta(seconds=60)
"""Of a container that is started for it: `kubectl run -it` and `debug -it` look for so long whether it runs."""


class HostRuntime:
    """Implements `interface.Runtime`."""

    name = "host"
    handlers = frozenset({"host"})
    images: ImageStore | None = None
    lack = ""

    def __init__(self, network: PodNetwork, clock: Clock, book: LogBook, *, node: str) -> None:
        """`node`: what marks the node's processes, in every run of it (`leftovers.node_mark`)."""
        self.cgroups: Cgroups | None = None
        """To be set, started, before the first sandbox comes with one."""
        self.memory = WatchedContainers()
        """Where they limit no memory."""
        self._network = network
        self._clock = clock
        self._book = book
        self._node = node
        self._listeners: list[ExitListener] = []
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, Container] = {}
        self._plans = LaunchPlans(Isolation(False, False, "not started"), node)
        self.root_by_default = True

    async def start(self) -> None:
        self._plans = LaunchPlans(probe_isolation(), self._node)
        self.root_by_default = self.isolation.root_by_default
        describe(self.isolation)
        killed = leftovers.end_of_node(self._node)
        if killed:
            log.info("host runtime: ended %d processes of pods that a former run left", killed)

    @property
    def isolation(self) -> Isolation:
        """What the kernel allows; known once it has started."""
        return self._plans.isolation

    async def close(self) -> None:
        for sandbox_id in list(self._sandboxes):
            await self.remove_pod_sandbox(sandbox_id)

    def subscribe(self, listener: ExitListener) -> None:
        self._listeners.append(listener)

    @property
    def watches_memory(self) -> bool:
        return self.memory.watch is not None

    # ---- sandboxes

    async def run_pod_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        own_network = self._network.mode != "loopback" and not config.host_network
        shared_memory = None if config.host_ipc else config.directory / "shm"
        namespaces, held = Namespaces(), list[int]()
        users = None
        try:
            users = self._users_of(config)
            held += (ImageStore(one.store).hold(one.image) for one in config.image_directories)
            namespaces = make_namespaces(
                config,
                self.isolation,
                join=tuple(self._network.node.join) if self._network.node is not None else (),
                own_network=own_network,
                shared_memory=shared_memory,
                users=users,
            )
            first = self._start_first(config, namespaces)
        except (OSError, launching.ExecFailure) as error:
            _close(namespaces, users, held)
            raise RuntimeFailure("FailedCreatePodSandBox", _text(error)) from error
        ips: tuple[str, ...] = ()
        if not config.host_network:
            inside = NetworkNamespace(namespaces.network, namespaces.netlink) if own_network else None
            try:
                ips = self._network.attach(config.uid, inside)
            except NetworkError as error:
                await _end_first(first)
                _close(namespaces, users, held)
                message = f"failed to set up pod network: {error}"
                raise RuntimeFailure("FailedCreatePodSandBox", message) from error
        sandbox_id = secrets.token_hex(32)
        notes = tuple(sandbox_notes.lacks(self.isolation, config, own_network))
        status = SandboxStatus(id=sandbox_id, uid=config.uid, ips=ips, notes=notes)
        sandbox = Sandbox(status, config, namespaces, shared_memory, first, held=tuple(held), users=users)
        self._sandboxes[sandbox_id] = sandbox
        self.memory.add_sandbox(sandbox_id, config.limits)
        return status

    def _users_of(self, config: SandboxConfig) -> PodUsers | None:
        """Of its own, if it is to have any and is not in a user namespace anyhow. Raises RuntimeFailure, OSError."""
        if config.own_users and not self.isolation.user_namespace:
            raise RuntimeFailure("FailedCreatePodSandBox", "this runtime does not support user namespaces")
        return None

    def _start_first(self, config: SandboxConfig, namespaces: Namespaces) -> launching.Process | None:
        """What holds the pid namespace of a pod whose containers share one."""
        if not config.share_processes or not self._plans.own_processes(config):
            return None
        null = above_standard(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        try:
            return self._plans.first_of_sandbox(namespaces, null).start()
        finally:
            os.close(null)

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.stopped:
            return
        sandbox.stopped = True
        running = [one.status.id for one in self._containers.values() if one.status.sandbox_id == sandbox_id]
        await asyncio.gather(*(self.stop_container(container_id, 0) for container_id in running))
        self.memory.remove_sandbox(sandbox_id)
        await _end_first(sandbox.first)
        _close(sandbox.namespaces, sandbox.users, sandbox.held)
        self._network.detach(sandbox.config.uid)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await self.stop_pod_sandbox(sandbox_id)
        if self._sandboxes.pop(sandbox_id, None) is not None:
            for container in [one for one in self._containers.values() if one.status.sandbox_id == sandbox_id]:
                await self.remove_container(container.status.id)

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            raise RuntimeFailure("NotFound", f"sandbox {sandbox_id!r} not found")
        return replace(sandbox.status, running=not (sandbox.stopped or sandbox.lost))

    def list_pod_sandboxes(self) -> Sequence[SandboxStatus]:
        return [self.pod_sandbox_status(one) for one in self._sandboxes]

    # ---- containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.stopped:
            raise RuntimeFailure("CreateContainerError", f"sandbox {sandbox_id!r} is not running")
        if not config.argv and not config.arguments:
            raise RuntimeFailure(
                "CreateContainerError",
                "no command specified: the host runtime ignores the image and needs the container's command",
            )
        if config.app_armor == "runtime-default":
            text = "this runtime has no AppArmor profile of its own: name a loaded one (type Localhost)"
            raise RuntimeFailure("CreateContainerError", text)
        profile = profile_of(config, self.isolation)
        if self.isolation.namespaces:
            await propagation.check(config.mounts)
        if sandbox.stopped:  # meanwhile
            raise RuntimeFailure("CreateContainerError", f"sandbox {sandbox_id!r} is not running")
        container_id = secrets.token_hex(32)
        scratch = sandbox.config.directory / scratch_of(container_id)
        scratch.mkdir(parents=True, mode=0o700)
        status = ContainerStatus(
            id=container_id,
            sandbox_id=sandbox_id,
            name=config.name,
            attempt=config.attempt,
            state=ContainerState.CREATED,
            created_at=self._clock.now(),
            log_path=config.log_path,
            user=self._plans.user(config),
        )
        self._containers[container_id] = Container(status, config, scratch, profile=profile)
        return container_id

    async def start_container(self, container_id: str) -> None:
        container = self._container(container_id)
        sandbox = self._sandboxes[container.status.sandbox_id]
        try:
            await volume_servers.answered(container.config.mounts, sandbox.config.directory)
            await sandbox.share(container.config.mounts)
        except (OSError, launching.ExecFailure) as error:
            raise self._not_started(container, sandbox, error) from error
        self._container(container_id)  # it may have been removed meanwhile
        writer = LogWriter(container.config.log_path, self._clock, self._book)
        output = self._open_output(sandbox, container)
        try:
            target = self._target(sandbox, container)
            self._make_cgroup(sandbox, container)
            process = await self._start_main(sandbox, container, output, target)
        except (OSError, mounting.MountFailure, launching.ExecFailure, CgroupError) as error:
            self._remove_cgroup(container)
            output.close()
            writer.close()
            raise self._not_started(container, sandbox, error) from error
        output.close_child_ends()
        now = self._clock.now()
        container.status = replace(container.status, state=ContainerState.RUNNING, started_at=now, pid=process.pid)
        container.running = Running(
            process,
            output,
            on_output=writer.write,
            on_end=lambda ended: self._ended(container, writer, ended),
            awaits_client=container.config.stdin or container.config.tty,
            clean_up=None if self._plans.is_first(sandbox, container) else self._end_leftovers(container),
        )
        self.memory.add(self._plans, sandbox, container)
        await self._let_go(container)

    async def _let_go(self, container: Container) -> None:
        """What it says is read from now on."""

    async def _start_main(
        self, sandbox: Sandbox, container: Container, output: Output, target: Running | None
    ) -> launching.Process:
        """The container's own process."""
        launch = self._plans.container(sandbox, container, output.child_ends, target)
        return self._start(replace(launch, terminal=container.config.tty), container)

    def _not_started(self, container: Container, sandbox: Sandbox, error: Exception) -> RuntimeFailure:
        now, ended = self._clock.now(), ContainerState.EXITED
        container.status = replace(container.status, state=ended, exit_code=128, started_at=now, finished_at=now)
        container.status = replace(container.status, sandbox_ended=sandbox.lost)
        container.ended.set()
        self._release(container)
        return RuntimeFailure("RunContainerError", f"failed to create container process: {_text(error)}")

    def _make_cgroup(self, sandbox: Sandbox, container: Container) -> None:
        if self.cgroups is not None and sandbox.config.cgroup:
            path = f"{sandbox.config.cgroup}/{container.status.id}"
            self.cgroups.make(path, container.config.limits, inner=False)
            container.cgroup = path

    def _remove_cgroup(self, container: Container) -> None:
        if self.cgroups is not None and container.cgroup:
            self.cgroups.remove(container.cgroup)
            container.cgroup = ""

    def _start(self, launch: launching.Launch, container: Container) -> launching.Process:
        """In the container's cgroup, where it has one."""
        owner = self._plans.host_user(self._sandboxes[container.status.sandbox_id], container)
        if owner is not None:
            give_pipes(launch.stdio, owner)
        doors = self.cgroups.doors(container.cgroup) if self.cgroups is not None and container.cgroup else []
        try:
            return replace(launch, groups_of_control=doors).start()
        finally:
            close_all(*doors)

    def _open_output(self, sandbox: Sandbox, container: Container) -> Output:
        config = container.config
        if config.tty:
            return Output.terminal(stdin=config.stdin, owner=self._plans.host_user(sandbox, container))
        return Output.with_stdin() if config.stdin else Output.pipes()

    def _target(self, sandbox: Sandbox, container: Container) -> Running | None:
        """The container whose processes this one is to see."""
        if not container.config.target or not self._plans.own_processes(sandbox.config):
            return None
        target = self._container(container.config.target)
        if target.running is None:
            raise launching.ExecFailure(f"target container {target.status.name} is not running")
        return target.running

    def _end_leftovers(self, container: Container) -> Callable[[int], object]:
        mark = leftovers.container_mark(self._node, container.status.id)
        return lambda pid: leftovers.end_of_container(mark, session=pid)

    def _release(self, container: Container) -> None:
        """It does not run any more: its files go."""
        with suppress(OSError):
            container.scratch.rmdir()

    def _ended(self, container: Container, writer: LogWriter, ended: Ended) -> None:
        writer.close()
        container.running = None
        self.memory.remove(container)
        container.status = replace(
            container.status,
            state=ContainerState.EXITED,
            finished_at=self._clock.now(),
            exit_code=ended.exit_code,
            signal=ended.signal,
            pid=0,
            reason=self._reason(container, ended),
            sandbox_ended=self._sandboxes[container.status.sandbox_id].lost,
        )
        self._remove_cgroup(container)
        self._release(container)
        container.ended.set()
        container.end.set_result(ended)
        for listener in self._listeners:
            listener(container.status)

    def _reason(self, container: Container, ended: Ended) -> str:
        """As containerd tells it: whichever process was killed, however the first one took it."""
        if was_ended(container, ended.exit_code):
            return "OOMKilled"
        if self.cgroups is None or not container.cgroup:
            return ""
        return "OOMKilled" if self.cgroups.out_of_memory_kills(container.cgroup) else ""

    async def update_container_limits(self, container_id: str, limits: Limits) -> None:
        container = self._container(container_id)
        self.memory.limit(container, limits)
        if self.cgroups is None or not container.cgroup:
            return
        try:
            self.cgroups.limit(container.cgroup, limits)
        except CgroupError as error:
            raise RuntimeFailure("UpdateContainerError", str(error)) from error

    async def update_pod_sandbox_limits(self, sandbox_id: str, limits: Limits) -> None:
        self.memory.limit_sandbox(sandbox_id, limits)

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
                if container.kill_timer_at == deadline:  # given up: a later call has a timer of its own
                    container.kill_timer_at = float("inf")
            return
        await container.ended.wait()

    @staticmethod
    def _kill(container: Container) -> None:
        if container.running is not None:
            container.running.kill()

    async def remove_container(self, container_id: str) -> None:
        await self.stop_container(container_id, 0)
        container = self._containers.pop(container_id, None)
        if container is not None:
            self._release(container)

    def container_status(self, container_id: str) -> ContainerStatus:
        return self._container(container_id).status

    def list_containers(self, sandbox_id: str = "") -> Sequence[ContainerStatus]:
        everything = [one.status for one in self._containers.values()]
        return [one for one in everything if not sandbox_id or one.sandbox_id == sandbox_id]

    def _container(self, container_id: str) -> Container:
        container = self._containers.get(container_id)
        if container is None:
            raise RuntimeFailure("NotFound", f"container {container_id!r} not found")
        return container

    # ---- commands inside

    async def exec_sync(self, container_id: str, argv: Sequence[str], timeout_seconds: float) -> ExecResult:
        container = self._container(container_id)
        async with self._clock.timeout(timeout_seconds) if timeout_seconds > 0 else nullcontext():
            output = Output.pipes()
            try:
                command = CommandInside(argv, output.child_ends, ends_group=True)
                process = await self._start_inside(container, command)
            except (RuntimeFailure, asyncio.CancelledError):
                output.close()
                raise
            output.close_child_ends()
            stdout, stderr, ended = await collect(process, output, limit=_EXEC_OUTPUT_BYTES)
            return ExecResult(stdout, stderr, ended.exit_code)

    async def exec(self, container_id: str, argv: Sequence[str], wanted: StreamsWanted) -> StreamedProcess:
        container = self._container(container_id)
        pid = container.running.pid if container.running else None
        owner = self._plans.host_user(self._sandboxes[container.status.sandbox_id], container)
        ours, theirs = open_streams(wanted, owner=owner, inside=pid)
        try:
            process = await self._start_inside(container, CommandInside(argv, theirs, terminal=wanted.tty))
        except (RuntimeFailure, asyncio.CancelledError):
            ours.close()
            raise
        finally:
            close_all(*theirs)
        return StreamedProcess(ours, watch_end(process))

    async def attach(self, container_id: str, wanted: StreamsWanted) -> StreamedProcess:
        container = self._container(container_id)
        if container.running is None:
            raise RuntimeFailure("AttachError", f"container {container.status.name} is not running")
        config = container.config
        wanted = replace(wanted, tty=config.tty)
        started = container.status.started_at
        soon = started is not None and self._clock.now() - started < _CLIENT_COMES_WITHIN
        return attach(container.running, container.end, wanted, once=config.stdin_once, from_start=soon)

    async def pod_network(self, sandbox_id: str) -> tuple[int, tuple[str, ...]]:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.stopped:
            raise RuntimeFailure("NotFound", f"sandbox {sandbox_id!r} is not running")
        if sandbox.namespaces.network >= 0:
            return os.dup(sandbox.namespaces.network), sandbox.status.ips
        if (node := self._network.node) is not None:
            return os.dup(node.descriptors[1]), self._network.host_ips
        return -1, sandbox.status.ips or ("127.0.0.1", "::1")

    async def written_layers(self) -> Mapping[str, Written]:
        return {}

    async def _start_inside(self, container: Container, command: CommandInside) -> launching.Process:
        """A further process in a running container, whose group is for `collect` to end where it is to."""
        if container.running is None:
            raise RuntimeFailure("ExecError", f"container {container.status.name} is not running")
        sandbox, running = self._sandboxes[container.status.sandbox_id], container.running
        try:
            launch = self._plans.inside(sandbox, container, running, command)
            process = self._start(launch, container)
        except (OSError, mounting.MountFailure, launching.ExecFailure, CgroupError) as error:
            raise RuntimeFailure("ExecError", f"OCI runtime exec failed: {_text(error)}") from error
        self.memory.started(container, process.pid)
        return process


def _close(namespaces: Namespaces, users: PodUsers | None, held: Sequence[int]) -> None:
    namespaces.close()
    if users is not None:
        users.release()
    close_all(*held)


async def _end_first(process: launching.Process | None) -> None:
    if process is not None:
        signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
        await watch_end(process)


def _text(error: Exception) -> str:
    """The launcher's OSErrors carry a whole sentence."""
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)
