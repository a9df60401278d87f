"""A container runtime whose calls are counted and timed.

(kubernetes `pkg/kubelet/kuberuntime/instrumented_services.go`.)
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from kubecore.clock import Clock
from kubecore.images.store import ImageStore
from kubecore.kubelet.cgroups.interface import Limits
from kubecore.kubelet.runtime.interface import (
    ContainerConfig,
    ContainerStatus,
    ExecResult,
    ExitListener,
    Runtime,
    RuntimeImages,
    SandboxConfig,
    SandboxStatus,
    Written,
)
from kubecore.kubelet.runtime.streams import StreamedProcess, StreamsWanted
from kubecore.kubelet.serving.kubelet_metrics import RuntimeMetrics

T = TypeVar("T")


class MeasuredRuntime:
    """Implements `interface.Runtime` by another one. What that answers from memory is not counted."""

    def __init__(self, runtime: Runtime, metrics: RuntimeMetrics, clock: Clock) -> None:
        self._runtime = runtime
        self._metrics = metrics
        self._clock = clock
        self.handlers = runtime.handlers

    async def _measured(self, operation: str, work: Coroutine[Any, Any, T]) -> T:
        began = self._clock.monotonic()
        try:
            return await work
        except Exception:
            self._metrics.operation_errors.add(operation)
            raise
        finally:
            self._metrics.operations.add(operation)
            self._metrics.operation_seconds.observe(self._clock.monotonic() - began, operation)

    # ---- what is so

    @property
    def name(self) -> str:
        return self._runtime.name

    @property
    def root_by_default(self) -> bool:
        return self._runtime.root_by_default

    @property
    def watches_memory(self) -> bool:
        return self._runtime.watches_memory

    @property
    def images(self) -> ImageStore | RuntimeImages | None:
        return self._runtime.images

    def subscribe(self, listener: ExitListener) -> None:
        self._runtime.subscribe(listener)

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        return self._runtime.pod_sandbox_status(sandbox_id)

    def list_pod_sandboxes(self) -> Sequence[SandboxStatus]:
        return self._runtime.list_pod_sandboxes()

    def container_status(self, container_id: str) -> ContainerStatus:
        return self._runtime.container_status(container_id)

    def list_containers(self, sandbox_id: str = "") -> Sequence[ContainerStatus]:
        return self._runtime.list_containers(sandbox_id)

    async def pod_network(self, sandbox_id: str) -> tuple[int, tuple[str, ...]]:
        return await self._runtime.pod_network(sandbox_id)

    async def written_layers(self) -> Mapping[str, Written]:
        return await self._runtime.written_layers()

    async def start(self) -> None:
        await self._runtime.start()

    async def close(self) -> None:
        await self._runtime.close()

    # ---- what is done

    async def run_pod_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        began = self._clock.monotonic()
        self._metrics.started_pods.add()
        if config.own_users:
            self._metrics.started_with_own_users.add()
        try:
            return await self._measured("run_podsandbox", self._runtime.run_pod_sandbox(config))
        except Exception:
            self._metrics.sandbox_errors.add(config.handler)
            self._metrics.started_pods_errors.add()
            if config.own_users:
                self._metrics.started_with_own_users_errors.add()
            raise
        finally:
            self._metrics.sandbox_seconds.observe(self._clock.monotonic() - began, config.handler)

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        await self._measured("stop_podsandbox", self._runtime.stop_pod_sandbox(sandbox_id))

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await self._measured("remove_podsandbox", self._runtime.remove_pod_sandbox(sandbox_id))

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        return await self._measured("create_container", self._runtime.create_container(sandbox_id, config))

    async def start_container(self, container_id: str) -> None:
        await self._measured("start_container", self._runtime.start_container(container_id))

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        await self._measured("stop_container", self._runtime.stop_container(container_id, grace_seconds))

    async def update_container_limits(self, container_id: str, limits: Limits) -> None:
        await self._measured("update_container", self._runtime.update_container_limits(container_id, limits))

    async def update_pod_sandbox_limits(self, sandbox_id: str, limits: Limits) -> None:
        """Not counted upstream."""
        await self._runtime.update_pod_sandbox_limits(sandbox_id, limits)

    async def remove_container(self, container_id: str) -> None:
        await self._measured("remove_container", self._runtime.remove_container(container_id))

    async def exec_sync(self, container_id: str, argv: Sequence[str], timeout_seconds: float) -> ExecResult:
        return await self._measured("exec_sync", self._runtime.exec_sync(container_id, argv, timeout_seconds))

    async def exec(self, container_id: str, argv: Sequence[str], wanted: StreamsWanted) -> StreamedProcess:
        return await self._measured("exec", self._runtime.exec(container_id, argv, wanted))

    async def attach(self, container_id: str, wanted: StreamsWanted) -> StreamedProcess:
        return await self._measured("attach", self._runtime.attach(container_id, wanted))
