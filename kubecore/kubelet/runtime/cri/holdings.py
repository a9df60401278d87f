"""What a container runtime has of a node: found there, followed, and known here without asking.

What is known is renewed by whatever is done to it, by the kernel, which tells of the end of containers' processes
(pidfds), and by looking at all of it once in a while.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubecore.background_tasks import BackgroundTasks
from kubecore.clock import Clock
from kubecore.kubelet.cgroups.interface import Cgroups
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks.network import PodNetwork
from kubecore.kubelet.runtime.cri import messages, parents
from kubecore.kubelet.runtime.cri.connection import Connection
from kubecore.kubelet.runtime.cri.container_logs import LOOK_SECONDS, ContainerLogs
from kubecore.kubelet.runtime.cri.messages import Surroundings
from kubecore.kubelet.runtime.interface import (
    ContainerState,
    ContainerStatus,
    ExitListener,
    RuntimeFailure,
    SandboxConfig,
    SandboxStatus,
)

log = logging.getLogger(__name__)

# The runtime hears of an end by itself, a moment after the kernel has told us.
_HEARS_SECONDS = 0.005
_HEARS_LONGEST_SECONDS = 0.5
# How long a killed container's reason is waited for, at most.
_REASON_SECONDS = (0.1, 0.3)


@dataclass(frozen=True, slots=True)
class CriSettings:
    """`endpoint`, `image_endpoint`: of sockets, `unix://...`; the second may be empty. `cni`: the folder that the
    runtime's configuration names. `node`, `mark`: the node's name, and what its pods are labelled with."""

    endpoint: str
    image_endpoint: str
    cni: Path
    node: str
    mark: str


@dataclass
class HeldSandbox:
    config: SandboxConfig
    around: Surroundings
    status: SandboxStatus
    pid: int = 0
    attempts: dict[str, int] = field(default_factory=dict)
    """The last one of each container, as the runtime counts them."""


@dataclass
class HeldContainer:
    status: ContainerStatus
    told: messages.Told
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    pidfd: int = -1


class CriHoldings:
    """Sandboxes and containers of one node, the connection by which they are reached, and whoever hears of ends."""

    def __init__(self, network: PodNetwork, clock: Clock, book: LogBook, settings: CriSettings) -> None:
        self.cgroups: Cgroups | None = None
        """To be set, started, before the first sandbox comes with one."""
        self._network = network
        self._clock = clock
        self._settings = settings
        self._logs = ContainerLogs(book, clock, self._reopen_log)
        self._listeners: list[ExitListener] = []
        self._sandboxes: dict[str, HeldSandbox] = {}
        self._containers: dict[str, HeldContainer] = {}
        self._tasks = BackgroundTasks(log)
        self._open: Connection | None = None

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            raise RuntimeFailure("RuntimeNotReady", "the container runtime has not been connected to")
        return self._open

    async def _call(self, name: str, *, reason: str, **fields: Any) -> Any:
        """Raises RuntimeFailure, for a runtime that takes too long as well."""
        try:
            return await self._connection.call(name, reason=reason, **fields)
        except TimeoutError as error:
            raise RuntimeFailure(reason, str(error)) from error

    def subscribe(self, listener: ExitListener) -> None:
        self._listeners.append(listener)

    # ---- what there is

    async def _find_sandboxes(self) -> None:
        """Those of this node that a former kubelet has made; the newest last."""
        for item in sorted(await self._listed_sandboxes(), key=lambda one: one.created_at):
            config = messages.sandbox_config(item.annotations)
            if config is None:
                continue
            around = self._around(config)
            sandbox = HeldSandbox(config, around, SandboxStatus(item.id, config.uid, ()))
            self._sandboxes[item.id] = sandbox
            await self._renew_sandbox(item.id)
            if around.own_network or not config.host_network:
                self._network.restore(config.uid, sandbox.status.ips)

    async def _listed_sandboxes(self) -> Sequence[Any]:
        labels = {messages.NODE_LABEL: self._settings.mark}
        filter_ = self._connection.api.PodSandboxFilter(label_selector=labels)
        return (await self._call("ListPodSandbox", reason="RuntimeNotReady", filter=filter_)).items  # type: ignore[no-any-return]

    async def _listed_containers(self) -> Sequence[Any]:
        labels = {messages.NODE_LABEL: self._settings.mark}
        filter_ = self._connection.api.ContainerFilter(label_selector=labels)
        return (await self._call("ListContainers", reason="RuntimeNotReady", filter=filter_)).containers  # type: ignore[no-any-return]

    async def _find_containers(self) -> None:
        for item in await self._listed_containers():
            if item.pod_sandbox_id in self._sandboxes:
                await self._renew(item.id, item.pod_sandbox_id)

    async def _look(self) -> None:
        """Once in a while at everything: for what the kernel did not tell, and for logs that have become large."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self._renew_changed()
                await self._logs.rotate()
            except RuntimeFailure as error:
                log.warning("cri runtime: %s", error.message)

    async def _renew_changed(self) -> None:
        """All that is not as it is known here."""
        api = self._connection.api
        known = {one.id: one.running for one in self.list_pod_sandboxes()}
        ready = {one.id: one.state == api.SANDBOX_READY for one in await self._listed_sandboxes()}
        for sandbox_id in [one for one, running in known.items() if ready.get(one) != running]:
            await self._renew_sandbox(sandbox_id)
        statuses = [one for one in self.list_containers() if one.state is ContainerState.RUNNING]
        running = {one.id for one in await self._listed_containers() if one.state == api.CONTAINER_RUNNING}
        for status in [one for one in statuses if one.id not in running]:
            await self._renew(status.id, status.sandbox_id)

    async def _renew_sandbox(self, sandbox_id: str) -> None:
        try:
            answer = await self._call(
                "PodSandboxStatus", reason="RuntimeNotReady", pod_sandbox_id=sandbox_id, verbose=True
            )
        except RuntimeFailure as error:
            if error.reason != "NotFound":
                raise
            self._sandboxes.pop(sandbox_id, None)
            return
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            return
        running = answer.status.state == self._connection.api.SANDBOX_READY
        ips = sandbox.status.ips
        if sandbox.around.own_network and answer.status.network.ip:
            ips = (answer.status.network.ip, *(one.ip for one in answer.status.network.additional_ips))
        elif not ips and not sandbox.around.own_network and not sandbox.config.host_network:
            ips = self._network.attach(sandbox.config.uid, None)
        sandbox.pid = messages.pid_of(answer)
        sandbox.status = replace(sandbox.status, ips=ips, running=running)

    async def _renew(self, container_id: str, sandbox_id: str) -> ContainerStatus | None:
        """None if there is no such container any more."""
        answer = await self._asked(container_id)
        if answer is None:
            self._forget(container_id)
            return None
        status = messages.container_status(answer.status, sandbox_id, messages.pid_of(answer))
        container = self._containers.get(container_id)
        if container is not None and not container.ended.is_set():
            for pause in _REASON_SECONDS:
                if status.signal != signal.SIGKILL or status.reason:
                    break
                # Of a want of memory runtimes hear beside the end, and may tell of it a moment later.
                await self._clock.sleep(pause)
                if (later := await self._asked(container_id)) is not None:
                    answer, status = later, messages.container_status(later.status, sandbox_id, 0)
        if container is None:
            container = self._containers[container_id] = HeldContainer(status, messages.told(answer.status.annotations))
        sandbox, metadata = self._sandboxes.get(sandbox_id), answer.status.metadata
        if sandbox is not None:
            sandbox.attempts[metadata.name] = max(metadata.attempt, sandbox.attempts.get(metadata.name, 0))
        self._note(container, status)
        return status

    async def _asked(self, container_id: str) -> Any:
        """What the runtime says of a container; None if there is none."""
        try:
            return await self._call(
                "ContainerStatus", reason="RuntimeNotReady", container_id=container_id, verbose=True
            )
        except RuntimeFailure as error:
            if error.reason != "NotFound":
                raise
            return None

    def _note(self, container: HeldContainer, status: ContainerStatus) -> None:
        if container.ended.is_set():
            return
        log_path = container.status.log_path or status.log_path
        container.status = replace(status, log_path=log_path)
        if status.state is ContainerState.RUNNING:
            self._logs.opened(status.id, log_path)
            self._watch(container)
        elif status.state is ContainerState.EXITED:
            self._unwatch(container)
            self._logs.closed(status.id)
            container.ended.set()
            for listener in self._listeners:
                listener(container.status)

    def _forget(self, container_id: str) -> None:
        container = self._containers.pop(container_id, None)
        if container is not None:
            self._unwatch(container)
            self._logs.closed(container_id)
            container.ended.set()

    # ---- ends

    def _watch(self, container: HeldContainer) -> None:
        if container.pidfd >= 0 or not container.status.pid:
            return
        with suppress(OSError):  # it has ended meanwhile; or it is in another pid namespace, and looking tells
            container.pidfd = os.pidfd_open(container.status.pid)
            asyncio.get_running_loop().add_reader(container.pidfd, self._process_ended, container)
            return
        self._tasks.spawn(self._await_end(container), "cri container's end")

    def _unwatch(self, container: HeldContainer) -> None:
        if container.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(container.pidfd)
            os.close(container.pidfd)
            container.pidfd = -1

    def _process_ended(self, container: HeldContainer) -> None:
        asyncio.get_running_loop().remove_reader(container.pidfd)
        self._tasks.spawn(self._await_end(container), "cri container's end")

    async def _await_end(self, container: HeldContainer) -> None:
        """Until the runtime has heard of it, too."""
        seconds, one = _HEARS_SECONDS, container.status
        while not container.ended.is_set():
            try:
                await self._renew(one.id, one.sandbox_id)
            except RuntimeFailure as error:
                log.warning("cri runtime: %s", error.message)
                return
            if not container.ended.is_set():
                await self._clock.sleep(seconds)
                seconds = min(2 * seconds, _HEARS_LONGEST_SECONDS)

    def _around(self, config: SandboxConfig) -> Surroundings:
        parent = parents.path_of(self.cgroups, config.cgroup)
        own_network = self._network.mode == "netns" and not config.host_network
        return Surroundings(own_network, parent, self._settings.mark)

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        return self._sandbox(sandbox_id).status

    def list_pod_sandboxes(self) -> Sequence[SandboxStatus]:
        return [one.status for one in self._sandboxes.values()]

    def _sandbox(self, sandbox_id: str) -> HeldSandbox:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            raise RuntimeFailure("NotFound", f"sandbox {sandbox_id!r} not found")
        return sandbox

    def container_status(self, container_id: str) -> ContainerStatus:
        return self._container(container_id).status

    def list_containers(self, sandbox_id: str = "") -> Sequence[ContainerStatus]:
        everything = [one.status for one in self._containers.values()]
        return [one for one in everything if not sandbox_id or one.sandbox_id == sandbox_id]

    def _container(self, container_id: str) -> HeldContainer:
        container = self._containers.get(container_id)
        if container is None:
            raise RuntimeFailure("NotFound", f"container {container_id!r} not found")
        return container

    async def _reopen_log(self, container_id: str) -> None:
        await self._call("ReopenContainerLog", reason="RuntimeNotReady", container_id=container_id)
