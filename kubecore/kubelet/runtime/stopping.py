"""How the containers of a whole node end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kubecore.kubelet.runtime.interface import ContainerState, Runtime

# SIGTERM must end kubecore within 5 s; its pods get this much of that before SIGKILL.
SHUTDOWN_GRACE_SECONDS = 1.5


async def stop_running(runtimes: Iterable[Runtime], grace_seconds: float) -> frozenset[str]:
    """All together; what cannot be stopped is left to the runtime's own end. Returns the ids of those that ran."""
    running = [
        (runtime, status.id)
        for runtime in runtimes
        for status in runtime.list_containers()
        if status.state is ContainerState.RUNNING
    ]
    stops = (runtime.stop_container(container_id, grace_seconds) for runtime, container_id in running)
    await asyncio.gather(*stops, return_exceptions=True)
    return frozenset(container_id for _, container_id in running)
