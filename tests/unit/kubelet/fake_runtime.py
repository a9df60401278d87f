"""A runtime whose containers do nothing until the test says so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from kubecore.clock import Clock
from kubecore.images.store import ImageStore
from kubecore.kubelet.cgroups.interface import Limits
from kubecore.kubelet.runtime.interface import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    ExecResult,
    ExitListener,
    ProcessUser,
    RuntimeFailure,
    SandboxConfig,
    SandboxStatus,
    Written,
)


@dataclass
class FakeRuntime:
    """`calls` records what was asked, in order: ("start", "main"). `stubborn`: names that ignore SIGTERM.
    `exec_seconds`: how long a command takes, by its first word."""

    clock: Clock
    name: str = "host"
    handlers: frozenset[str] = frozenset({"host"})
    root_by_default: bool = True
    watches_memory: bool = False
    images: ImageStore | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    stubborn: set[str] = field(default_factory=set)
    stopped_with: int = 143
    """The exit code of who is told to stop and does."""
    fail_start: dict[str, RuntimeFailure] = field(default_factory=dict)
    fail_stop: dict[str, list[RuntimeFailure]] = field(default_factory=dict)
    fail_remove: list[RuntimeFailure] = field(default_factory=list)
    fail_update: list[RuntimeFailure] = field(default_factory=list)
    limits: dict[str, Limits] = field(default_factory=dict)
    sandbox_limits: list[Limits] = field(default_factory=list)
    """What sandboxes were told to have, the last ones last."""
    fail_sandbox: list[RuntimeFailure] = field(default_factory=list)
    sandboxes: dict[str, SandboxConfig] = field(default_factory=dict)
    configs: dict[str, ContainerConfig] = field(default_factory=dict)
    execute: Callable[[str, Sequence[str]], ExecResult] = field(default=lambda name, argv: ExecResult(b"", b"", 0))

    exec_seconds: dict[str, float] = field(default_factory=dict)

    layers: dict[str, Written] = field(default_factory=dict)
    """What containers have written of their images, by id."""

    started_before: timedelta = field(default_factory=timedelta)
    """How long before it says so it has started a container."""

    hangs: set[tuple[str, str]] = field(default_factory=set)
    """What does not return before `answers`: ("sandbox", "pod"), ("create", "main"), ("start", "main"), or
    ("started", "main") once it runs."""

    answers: asyncio.Event = field(default_factory=asyncio.Event)

    abandoned: bool = False
    """Its kubelet was killed, and what that does at its end does not happen."""

    def __post_init__(self) -> None:
        self._statuses: dict[str, ContainerStatus] = {}
        self._sandbox_statuses: dict[str, SandboxStatus] = {}
        self.stopped: set[str] = set()
        self._ended: dict[str, asyncio.Event] = {}
        self._listeners: list[ExitListener] = []
        self._numbers = itertools.count(1)

    __hash__ = object.__hash__

    # ---- for tests

    def running(self) -> list[str]:
        return [one.name for one in self._statuses.values() if one.state is ContainerState.RUNNING]

    def attempts(self, name: str) -> int:
        return sum(call == ("start", name) for call in self.calls)

    def config(self, name: str) -> ContainerConfig:
        """What the newest container of that name was made from."""
        return next(config for config in reversed(self.configs.values()) if config.name == name)

    def end(self, name: str, exit_code: int = 0) -> None:
        """The running container of that name ends."""
        for status in list(self._statuses.values()):
            if status.name == name and status.state is ContainerState.RUNNING:
                self._end(status.id, exit_code)

    def _end(self, container_id: str, exit_code: int) -> None:
        status = replace(
            self._statuses[container_id],
            state=ContainerState.EXITED,
            exit_code=exit_code,
            finished_at=self.clock.now(),
        )
        self._statuses[container_id] = status
        self._ended[container_id].set()
        for listener in self._listeners:
            listener(status)

    def forget_listeners(self) -> None:
        self._listeners.clear()

    def lose(self) -> None:
        """All ends, as when a keeper is killed."""
        self.sandboxes.clear()
        for name in self.running():
            self.end(name, 137)

    def reboot(self) -> None:
        """Nothing is left that anybody could be told of."""
        for known in (self.sandboxes, self._sandbox_statuses, self._statuses):
            known.clear()

    # ---- the interface

    async def start(self) -> None:
        return

    async def close(self) -> None:
        for sandbox in list(self.sandboxes):
            await self.remove_pod_sandbox(sandbox)

    def subscribe(self, listener: ExitListener) -> None:
        self._listeners.append(listener)

    async def run_pod_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        if self.fail_sandbox:
            raise self.fail_sandbox.pop()
        await self._hang("sandbox", config.name)
        number = next(self._numbers)
        self.sandboxes[f"sandbox{number}"] = config
        self.calls.append(("sandbox", config.name))
        status = SandboxStatus(f"sandbox{number}", config.uid, () if config.host_network else (f"10.1.0.{number}",))
        self._sandbox_statuses[status.id] = status
        return status

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        if self.abandoned:
            return
        self.stopped.add(sandbox_id)
        for status in self.list_containers(sandbox_id):
            await self.stop_container(status.id, 0)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await self.stop_pod_sandbox(sandbox_id)
        if not self.abandoned:
            self.sandboxes.pop(sandbox_id, None)
            self._statuses = {key: one for key, one in self._statuses.items() if one.sandbox_id != sandbox_id}

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        config = self.sandboxes.get(sandbox_id)
        if config is None:
            raise RuntimeFailure("NotFound", f"sandbox {sandbox_id!r} not found")
        return replace(self._sandbox_statuses[sandbox_id], running=sandbox_id not in self.stopped)

    def list_pod_sandboxes(self) -> Sequence[SandboxStatus]:
        return [self.pod_sandbox_status(one) for one in self.sandboxes]

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        if not config.argv:
            raise RuntimeFailure("CreateContainerError", "no command specified")
        await self._hang("create", config.name)
        container_id = f"container{next(self._numbers)}"
        self.configs[container_id] = config
        self._ended[container_id] = asyncio.Event()
        self._statuses[container_id] = ContainerStatus(
            container_id,
            sandbox_id,
            config.name,
            config.attempt,
            ContainerState.CREATED,
            self.clock.now(),
            log_path=config.log_path,
            user=ProcessUser(config.identity.user or 0, 7, (7, *config.identity.supplemental_groups)),
        )
        return container_id

    async def start_container(self, container_id: str) -> None:
        status = self._statuses[container_id]
        await self._hang("start", status.name)
        if status.name in self.fail_start:
            raise self.fail_start[status.name]
        self.calls.append(("start", status.name))
        started = self.clock.now() - self.started_before
        self._statuses[container_id] = replace(status, state=ContainerState.RUNNING, started_at=started)
        await self._hang("started", status.name)

    async def _hang(self, call: str, name: str) -> None:
        if (call, name) in self.hangs:
            await self.answers.wait()

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        status = self._statuses.get(container_id)
        if status is None or status.state is not ContainerState.RUNNING or self.abandoned:
            return
        if self.fail_stop.get(status.name):
            raise self.fail_stop[status.name].pop()
        self.calls.append(("stop", status.name))
        ended = self._ended[container_id]
        if status.name in self.stubborn and grace_seconds > 0:
            try:
                async with self.clock.timeout(grace_seconds):
                    await ended.wait()
            except TimeoutError:
                pass
        if not ended.is_set():
            self._end(container_id, 137 if status.name in self.stubborn else self.stopped_with)

    async def update_container_limits(self, container_id: str, limits: Limits) -> None:
        if self.fail_update:
            raise self.fail_update.pop()
        self.limits[self._statuses[container_id].name] = limits

    async def update_pod_sandbox_limits(self, sandbox_id: str, limits: Limits) -> None:
        self.sandbox_limits.append(limits)

    async def remove_container(self, container_id: str) -> None:
        if self.fail_remove:
            raise self.fail_remove.pop()
        await self.stop_container(container_id, 0)
        if not self.abandoned:
            self._statuses.pop(container_id, None)

    def container_status(self, container_id: str) -> ContainerStatus:
        return self._statuses[container_id]

    def list_containers(self, sandbox_id: str = "") -> Sequence[ContainerStatus]:
        return [one for one in self._statuses.values() if sandbox_id in ("", one.sandbox_id)]

    async def exec_sync(self, container_id: str, argv: Sequence[str], timeout_seconds: float) -> ExecResult:
        name = self._statuses[container_id].name
        self.calls.append((argv[0], name))
        if seconds := self.exec_seconds.get(argv[0], 0.0):
            await self.clock.sleep(seconds)
            self.calls.append((f"{argv[0]} done", name))
        return self.execute(name, argv)

    async def written_layers(self) -> Mapping[str, Written]:
        return self.layers
