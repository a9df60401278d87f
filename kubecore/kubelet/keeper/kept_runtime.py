"""A runtime whose containers run under the node's keeper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kubecore.clock import Clock
from kubecore.images.store import ImageStore
from kubecore.kubelet.cgroups.interface import Limits
from kubecore.kubelet.keeper.link import KeeperLink
from kubecore.kubelet.keeper.messages import Held, Streams
from kubecore.kubelet.logs.writing import LogBook
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
from kubecore.kubelet.runtime.streams import ClientStreams, StreamedProcess, StreamsWanted

LOST = "ContainerStatusUnknown"


class KeptRuntime:
    """Implements `interface.Runtime` for the keeper's runtime of this name.

    What the keeper has is known here, too: by the answers to what is asked, and by what it tells.
    """

    def __init__(
        self, name: str, link: KeeperLink, clock: Clock, book: LogBook, *, images: ImageStore | None = None
    ) -> None:
        self.name = name
        self.handlers = frozenset({name})
        self.images = images
        self.root_by_default = True
        """To be set before it is used, as is `lack`."""
        self.lack = ""
        """Why images cannot be run here, "" if they can, or if none are needed."""
        self.link = link
        self._clock = clock
        self._book = book
        self._listeners: list[ExitListener] = []
        self._sandboxes: dict[str, SandboxStatus] = {}
        self._containers: dict[str, ContainerStatus] = {}
        link.listeners[name] = self._heard
        link.on_lost.append(self._lost)

    @property
    def watches_memory(self) -> bool:
        return self.link.settings.watches_memory

    def take_over(self, held: Held) -> None:
        """What the keeper has had before there was this kubelet."""
        self._sandboxes = {one.id: one for one in held.sandboxes}
        for status in held.containers:
            self._note(status)

    async def start(self) -> None:
        """There is nothing to make ready: the keeper starts with the first pod."""

    async def close(self) -> None:
        await self.link.end()

    def subscribe(self, listener: ExitListener) -> None:
        self._listeners.append(listener)

    async def _call_if_there(self, method: str, *arguments: Any) -> None:
        """For what is no error where the keeper ends meanwhile: it has happened with that."""
        try:
            await self._call(method, *arguments)
        except RuntimeFailure:
            if self.link.connected:
                raise

    async def _call(self, method: str, *arguments: Any) -> Any:
        return await self.link.call(self.name, method, *arguments)

    # ---- what the keeper tells

    def _note(self, status: ContainerStatus) -> None:
        self._containers[status.id] = status
        if status.sandbox_ended and (sandbox := self._sandboxes.get(status.sandbox_id)) is not None:
            self._sandboxes[sandbox.id] = replace(sandbox, running=False)
        if status.log_path is not None:
            if status.state is ContainerState.RUNNING:
                self._book.opened(status.log_path)
            elif status.state is ContainerState.EXITED:
                self._book.closed(status.log_path)

    def _heard(self, status: ContainerStatus, ended: bool) -> None:
        self._note(status)
        if ended:
            for listener in self._listeners:
                listener(status)

    def _lost(self) -> None:
        """The keeper was killed, its containers with it."""
        self._sandboxes.clear()
        for status in list(self._containers.values()):
            if status.state is ContainerState.RUNNING:
                now, exited = self._clock.now(), ContainerState.EXITED
                killed = replace(status, state=exited, finished_at=now, exit_code=137, signal=9, pid=0, reason=LOST)
                self._heard(killed, ended=True)

    # ---- sandboxes

    async def run_pod_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        if self.lack:
            text = f"images cannot be run on this node: {self.lack}"
            raise RuntimeFailure("FailedCreatePodSandBox", text)
        await self.link.ensure()
        try:
            status: SandboxStatus = await self._call("run_pod_sandbox", config)
        except RuntimeFailure as error:
            raise RuntimeFailure("FailedCreatePodSandBox", error.message) from error
        self._sandboxes[status.id] = status
        return status

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        status = self._sandboxes.get(sandbox_id)
        if status is not None:
            await self._call_if_there("stop_pod_sandbox", sandbox_id)
            if sandbox_id in self._sandboxes:
                self._sandboxes[sandbox_id] = replace(status, running=False)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        if sandbox_id in self._sandboxes:
            await self._call_if_there("remove_pod_sandbox", sandbox_id)
            self._sandboxes.pop(sandbox_id, None)
        for container in [one for one in self._containers.values() if one.sandbox_id == sandbox_id]:
            del self._containers[container.id]

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        status = self._sandboxes.get(sandbox_id)
        if status is None:
            raise RuntimeFailure("NotFound", f"sandbox {sandbox_id!r} not found")
        return status

    def list_pod_sandboxes(self) -> Sequence[SandboxStatus]:
        return list(self._sandboxes.values())

    # ---- containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        status: ContainerStatus = await self._call("create_container", sandbox_id, config)
        self._note(status)
        return status.id

    async def start_container(self, container_id: str) -> None:
        status: ContainerStatus = await self._call("start_container", container_id)
        known = self._containers.get(container_id)
        if known is not None and known.state is ContainerState.CREATED:  # not that it has ended
            self._note(status)

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        status = self._containers.get(container_id)
        if status is not None and status.state is ContainerState.RUNNING and self.link.connected:
            await self._call_if_there("stop_container", container_id, grace_seconds)

    async def update_container_limits(self, container_id: str, limits: Limits) -> None:
        await self._call("update_container_limits", container_id, limits)

    async def update_pod_sandbox_limits(self, sandbox_id: str, limits: Limits) -> None:
        await self._call("update_pod_sandbox_limits", sandbox_id, limits)

    async def remove_container(self, container_id: str) -> None:
        if container_id in self._containers and self.link.connected:
            await self._call_if_there("remove_container", container_id)
        self._containers.pop(container_id, None)

    def container_status(self, container_id: str) -> ContainerStatus:
        status = self._containers.get(container_id)
        if status is None:
            raise RuntimeFailure("NotFound", f"container {container_id!r} not found")
        return status

    def list_containers(self, sandbox_id: str = "") -> Sequence[ContainerStatus]:
        return [one for one in self._containers.values() if sandbox_id in ("", one.sandbox_id)]

    # ---- commands inside

    async def exec_sync(self, container_id: str, argv: Sequence[str], timeout_seconds: float) -> ExecResult:
        result: ExecResult = await self._call("exec_sync", container_id, list(argv), timeout_seconds)
        return result

    async def exec(self, container_id: str, argv: Sequence[str], wanted: StreamsWanted) -> StreamedProcess:
        return self._streamed(await self._call("exec", container_id, list(argv), wanted))

    async def attach(self, container_id: str, wanted: StreamsWanted) -> StreamedProcess:
        return self._streamed(await self._call("attach", container_id, wanted))

    def _streamed(self, answer: tuple[Streams, list[int]]) -> StreamedProcess:
        streams, descriptors = answer
        numbers = iter(descriptors)
        ours = ClientStreams(*(next(numbers) if there else -1 for there in streams.there))
        return StreamedProcess(ours, self.link.ended(streams.number), lambda: self.link.tell("detach", streams.number))

    async def pod_network(self, sandbox_id: str) -> tuple[int, tuple[str, ...]]:
        addresses, descriptors = await self._call("pod_network", sandbox_id)
        return (descriptors[0] if descriptors else -1), addresses

    async def written_layers(self) -> Mapping[str, Written]:
        return {}
