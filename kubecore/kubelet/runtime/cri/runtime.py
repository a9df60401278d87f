"""The `cri` runtime: what the kubelet asks for is done by containerd, or whatever else speaks the same interface.

What runs is the runtime's to know: nothing is kept here that is not found there again, by labels with the node's mark,
so that pods outlive a kubelet that is killed without a keeper.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubecore.clock import Clock
from kubecore.images.store import ImageStore
from kubecore.kubelet.cgroups.interface import Limits
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks.network import PodNetwork
from kubecore.kubelet.node import images as node_images
from kubecore.kubelet.node.images import ImageDisk
from kubecore.kubelet.runtime.cri import messages, mounts, parents
from kubecore.kubelet.runtime.cri.cni import CniListener, write_configuration
from kubecore.kubelet.runtime.cri.connection import CALL_SECONDS, Connection
from kubecore.kubelet.runtime.cri.holdings import CriHoldings, CriSettings, HeldContainer, HeldSandbox
from kubecore.kubelet.runtime.cri.images import CollectedImages, CriImages
from kubecore.kubelet.runtime.cri.messages import Messages, Surroundings
from kubecore.kubelet.runtime.cri.spdy import SpdyError
from kubecore.kubelet.runtime.cri.streams import stream
from kubecore.kubelet.runtime.interface import (
    ContainerConfig,
    ContainerState,
    ExecResult,
    Propagation,
    RuntimeFailure,
    RuntimeImages,
    SandboxConfig,
    SandboxStatus,
    Written,
)
from kubecore.kubelet.runtime.streams import StreamedProcess, StreamsWanted

log = logging.getLogger(__name__)


def sandbox_images(info: Mapping[str, str]) -> list[str]:
    """What containerd's configuration names, as its verbose status tells it; nothing where it tells none."""
    try:
        image = json.loads(info.get("config", "{}")).get("sandboxImage")
    except (ValueError, AttributeError):
        return []
    return [image] if isinstance(image, str) and image else []


class CriRuntime(CriHoldings):
    """Implements `interface.Runtime`."""

    handlers = frozenset({"cri"})
    root_by_default = True
    watches_memory = False

    def __init__(self, network: PodNetwork, clock: Clock, book: LogBook, settings: CriSettings) -> None:
        super().__init__(network, clock, book, settings)
        self.name = "cri"
        """Once it has started, what the runtime calls itself."""
        self._own_images = CriImages()
        self.images: ImageStore | RuntimeImages | None = self._own_images
        self._cni = CniListener(network, settings.cni, settings.node)
        self._words: Messages | None = None

    @property
    def collected_images(self) -> CollectedImages:
        return CollectedImages(self._own_images, self._images_in_use)

    @property
    def known_images(self) -> node_images.Source:
        return self._own_images.known

    async def image_disk(self) -> ImageDisk | None:
        return await self._own_images.disk()

    async def _images_in_use(self) -> set[str]:
        """Ids and names of those that containers have, not this node's alone, and of what holds pods' namespaces, which
        older runtimes do not keep from being removed."""
        listed = (await self._call("ListContainers", reason="ImageGCFailed")).containers
        status = await self._call("Status", reason="ImageGCFailed", verbose=True)
        names = {name for one in listed for name in (one.image_ref, one.image.image) if name}
        return names | set(sandbox_images(status.info))

    # ---- life

    async def connect(self) -> bool:
        """Before it starts: whether pods are there of a former run. Raises CriLack."""
        if self._open is None:
            self._open = Connection(self._settings.endpoint, self._settings.image_endpoint)
        return bool(await self._listed_sandboxes())

    async def start(self) -> None:
        """Raises CriLack."""
        write_configuration(self._settings.cni)
        await self.connect()
        self._words = Messages(self._connection.api, quotas=parents.have_quotas(self.cgroups))
        self._own_images.connection = self._connection
        version = await self._call("Version", reason="RuntimeNotReady")
        self.name = version.runtime_name
        log.info("cri runtime: %s %s", version.runtime_name, version.runtime_version)
        self._cni.start()
        await self._find_sandboxes()
        await self._find_containers()
        self._tasks.spawn(self._look(), "cri relist")

    async def trouble(self) -> str:
        """Why the container runtime does not answer, "" if it does."""
        try:
            await self._call("Version", reason="RuntimeNotReady")
        except RuntimeFailure as error:
            return error.message
        return ""

    async def knows_strict_groups(self) -> bool:
        """It can leave out groups that an image puts its user in."""
        try:
            answer = await self._call("Status", reason="RuntimeNotReady")
        except RuntimeFailure:
            return False
        return bool(answer.features.supplemental_groups_policy)

    async def close(self) -> None:
        try:
            removals = [self._remove(one) for one in await self._all_of_node()]
            for failed in await asyncio.gather(*removals, return_exceptions=True):
                if failed is not None:
                    log.warning("cri runtime: %s", failed)
            if self.cgroups is not None:
                parents.remove_all(self.cgroups)
        finally:
            await self._tasks.close()
            for container in self._containers.values():
                self._unwatch(container)
            self._cni.close()
            self._logs.close()
            if self._open is not None:
                await self._open.close()

    async def _all_of_node(self) -> set[str]:
        """Sandboxes that are known here, and those that the runtime has all the same: whoever asked for one may have
        been stopped before it was there, and so may the start that would have found those of a former run."""
        known = set(self._sandboxes)
        if self._open is None:
            return known
        try:
            return known | {one.id for one in await self._listed_sandboxes()}
        except RuntimeFailure as error:
            log.warning("cri runtime: %s", error.message)
            return known

    async def _remove(self, sandbox_id: str) -> None:
        if sandbox_id in self._sandboxes:
            await self.remove_pod_sandbox(sandbox_id)
            return
        for name in ("StopPodSandbox", "RemovePodSandbox"):
            await self._call(name, reason="KillPodSandboxError", pod_sandbox_id=sandbox_id)

    @property
    def _messages(self) -> Messages:
        if self._words is None:
            raise RuntimeFailure("RuntimeNotReady", "the container runtime has not been connected to")
        return self._words

    # ---- sandboxes

    async def run_pod_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        around = self._around(config)
        reason = "FailedCreatePodSandBox"
        handler = "" if config.handler in self.handlers else config.handler
        try:
            mounts.cover(config.memory_directories)
            self._cni.expected.add(config.uid)
            words = self._messages.sandbox(config, around)
            fields = {"config": words, "runtime_handler": handler}
            answer = await self._call("RunPodSandbox", reason=reason, seconds=2 * CALL_SECONDS, **fields)
        except (OSError, RuntimeFailure, asyncio.CancelledError) as error:
            self._network.detach(config.uid)
            self._release(config)
            if isinstance(error, asyncio.CancelledError):
                raise
            text = error.message if isinstance(error, RuntimeFailure) else str(error)
            raise RuntimeFailure(reason, text) from error
        finally:
            self._cni.expected.discard(config.uid)
        sandbox_id: str = answer.pod_sandbox_id
        notes = tuple(_notes(config, around))
        self._sandboxes[sandbox_id] = HeldSandbox(
            config, around, SandboxStatus(sandbox_id, config.uid, (), notes=notes)
        )
        await self._renew_sandbox(sandbox_id)
        return self.pod_sandbox_status(sandbox_id)

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            return
        await self._call("StopPodSandbox", reason="KillPodSandboxError", pod_sandbox_id=sandbox_id)
        sandbox.status = replace(sandbox.status, running=False)
        self._network.detach(sandbox.config.uid)
        for status in self.list_containers(sandbox_id):
            await self._settled(status.id)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            return
        await self.stop_pod_sandbox(sandbox_id)
        await self._call("RemovePodSandbox", reason="KillPodSandboxError", pod_sandbox_id=sandbox_id)
        for status in self.list_containers(sandbox_id):
            self._forget(status.id)
        self._sandboxes.pop(sandbox_id, None)
        self._release(sandbox.config)
        if self.cgroups is not None:
            parents.remove(self.cgroups, sandbox.config.cgroup)

    def _release(self, config: SandboxConfig) -> None:
        mounts.release(config.directory, (one.path for one in config.memory_directories))

    # ---- containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or not sandbox.status.running:
            raise RuntimeFailure("CreateContainerError", f"sandbox {sandbox_id!r} is not running")
        folder = sandbox.config.log_directory or config.log_path.parent
        if not config.log_path.is_relative_to(folder):
            folder = config.log_path.parent
        # A runtime takes a name and attempt but once for a sandbox.
        attempt = max(config.attempt, sandbox.attempts.get(config.name, -1) + 1)
        around = sandbox.around
        words = self._messages.container(
            config,
            sandbox.config,
            around,
            mounts=list(_mounts(sandbox.config, config)),
            log_path=str(config.log_path.relative_to(folder)),
            attempt=attempt,
        )
        whole = self._messages.sandbox(replace(sandbox.config, log_directory=folder), around)
        fields = {"pod_sandbox_id": sandbox_id, "config": words, "sandbox_config": whole}
        answer = await self._call("CreateContainer", reason="CreateContainerError", **fields)
        container_id: str = answer.container_id
        await self._renew(container_id, sandbox_id)
        container = self._container(container_id)
        container.status = replace(container.status, log_path=config.log_path)
        return container_id

    async def start_container(self, container_id: str) -> None:
        container = self._container(container_id)
        try:
            await self._call("StartContainer", reason="RunContainerError", container_id=container_id)
        finally:
            await self._renew(container_id, container.status.sandbox_id)

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        container = self._containers.get(container_id)
        if container is None or container.status.state is ContainerState.EXITED:
            return
        # Longer than the grace, of which the runtime knows whole seconds.
        longest = grace_seconds + 120.0
        split = grace_seconds % 1 > 0
        timer = self._clock.call_later(grace_seconds, lambda: self._kill(container_id)) if split else None
        try:
            seconds = math.ceil(grace_seconds)
            fields = {"container_id": container_id, "timeout": seconds, "seconds": longest}
            await self._call("StopContainer", reason="KillContainerError", **fields)
        finally:
            if timer is not None:
                timer.cancel()
        await self._settled(container_id)

    def _kill(self, container_id: str) -> None:
        fields: dict[str, Any] = {"container_id": container_id, "timeout": 0}
        self._tasks.spawn(self._call("StopContainer", reason="KillContainerError", **fields), "cri kill")

    async def _settled(self, container_id: str) -> None:
        """It has been stopped: whoever is to hear of it has heard."""
        container = self._containers.get(container_id)
        if container is not None and container.status.state is not ContainerState.CREATED:
            await self._await_end(container)

    async def update_container_limits(self, container_id: str, limits: Limits) -> None:
        linux = self._messages.resources(limits)
        await self._call(
            "UpdateContainerResources", reason="UpdateContainerError", container_id=container_id, linux=linux
        )

    async def update_pod_sandbox_limits(self, sandbox_id: str, limits: Limits) -> None:
        """Those of its cgroup, which is the node's."""

    async def remove_container(self, container_id: str) -> None:
        if container_id in self._containers:
            await self.stop_container(container_id, 0)
            await self._call("RemoveContainer", reason="KillContainerError", container_id=container_id)
            self._forget(container_id)

    # ---- commands inside

    async def exec_sync(self, container_id: str, argv: Sequence[str], timeout_seconds: float) -> ExecResult:
        self._running(container_id, "ExecError")
        seconds = timeout_seconds or 24 * 3600.0
        # The runtime is never hung up on: one that is told while it starts the command (containerd) leaves it running.
        # It has the same time, and ends the command when that is over, whoever still waits.
        asked = self._tasks.spawn(self._exec_sync(container_id, argv, timeout_seconds, seconds + 60.0), "cri exec")
        async with self._clock.timeout(seconds):
            answer = await asyncio.shield(asked)
        if isinstance(answer, Exception):
            raise answer
        return ExecResult(answer.stdout, answer.stderr, answer.exit_code)

    async def _exec_sync(self, container_id: str, argv: Sequence[str], limit: float, seconds: float) -> Any:
        """The answer, or the failure: nobody may be there to hear of it."""
        fields: dict[str, Any] = {"container_id": container_id, "cmd": argv, "timeout": math.ceil(limit)}
        try:
            return await self._connection.call("ExecSync", reason="ExecError", seconds=seconds, **fields)
        except (RuntimeFailure, TimeoutError) as failure:
            return failure

    async def exec(self, container_id: str, argv: Sequence[str], wanted: StreamsWanted) -> StreamedProcess:
        self._running(container_id, "ExecError")
        return await self._stream("Exec", "ExecError", container_id, wanted, cmd=argv)

    async def attach(self, container_id: str, wanted: StreamsWanted) -> StreamedProcess:
        told = self._running(container_id, "AttachError").told
        stderr = wanted.stderr and not told.tty
        wanted = replace(wanted, tty=told.tty, stdin=wanted.stdin and told.stdin, stderr=stderr)
        return await self._stream("Attach", "AttachError", container_id, wanted)

    async def _stream(
        self, method: str, reason: str, container_id: str, wanted: StreamsWanted, **fields: Any
    ) -> StreamedProcess:
        streams = {"stdin": wanted.stdin, "stdout": wanted.stdout, "stderr": wanted.stderr, "tty": wanted.tty}
        answer = await self._call(method, reason=reason, container_id=container_id, **streams, **fields)
        try:
            return await stream(answer.url, wanted, self._clock)
        except (SpdyError, OSError) as error:
            raise RuntimeFailure(reason, str(error)) from error

    def _running(self, container_id: str, reason: str) -> HeldContainer:
        container = self._container(container_id)
        if container.status.state is not ContainerState.RUNNING:
            raise RuntimeFailure(reason, f"container {container.status.name} is not running")
        return container

    async def pod_network(self, sandbox_id: str) -> tuple[int, tuple[str, ...]]:
        sandbox = self._sandbox(sandbox_id)
        if not sandbox.status.running:
            raise RuntimeFailure("NotFound", f"sandbox {sandbox_id!r} is not running")
        if sandbox.around.own_network and sandbox.pid:
            with suppress(OSError):
                namespace = os.open(f"/proc/{sandbox.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                return namespace, sandbox.status.ips
        return -1, sandbox.status.ips or ("127.0.0.1", "::1")

    async def written_layers(self) -> Mapping[str, Written]:
        filter_ = self._connection.api.ContainerStatsFilter(label_selector={messages.NODE_LABEL: self._settings.mark})
        answer = await self._call("ListContainerStats", reason="RuntimeNotReady", filter=filter_)
        told = [(one.attributes.id, one.writable_layer) for one in answer.stats if one.HasField("writable_layer")]
        return {name: Written(layer.used_bytes.value, layer.inodes_used.value) for name, layer in told}


def _notes(config: SandboxConfig, around: Surroundings) -> Iterator[str]:
    """What a pod must do without."""
    if config.image_directories:
        yield "volumes of type image are empty: they are not supported with this container runtime"
    if config.cgroup and not around.cgroup_parent:
        yield "the pod as a whole has no limits, only its containers: control groups differ by controller here"
    if not around.own_network and not config.host_network:
        yield "the pod has the host's name: it has no network namespace of its own"


def _mounts(sandbox: SandboxConfig, config: ContainerConfig) -> Iterator[tuple[Path, str, bool, Propagation]]:
    """Source, target, read-only, propagation. Raises RuntimeFailure."""
    taken = {one.target for one in config.mounts}
    for source, target in ((sandbox.hosts, "/etc/hosts"), (sandbox.resolv_conf, "/etc/resolv.conf")):
        if source is not None and target not in taken:
            yield source.absolute(), target, config.read_only_root, "None"
    closed = [f"{one.target.rstrip('/')}/" for one in config.mounts if one.read_only_below]
    for one in config.mounts:
        source, read_only = one.source, one.read_only or one.target.startswith(tuple(closed))
        if one.sub_path or one.read_only_below:
            path = one.sub_path or "."
            source = mounts.inside(source, path, sandbox.directory, read_only_below=one.read_only_below)
        yield source.absolute(), one.target, read_only, one.propagation
