"""How the containers of a whole node end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kubecore.kubelet.runtime.interface import ContainerState, Runtime

if TYPE_CHECKING:
    from kubecore.clock import Clock

# SIGTERM must end kubecore within 5 s; its pods get this much of that before SIGKILL.
SHUTDOWN_GRACE_SECONDS = 1.5


async def stop_running(clock: Clock, runtimes: Iterable[Runtime], grace_seconds: float) -> frozenset[str] | None:
    """All together; what cannot be stopped is left to the runtime's own end. Returns the ids of those that ran; None
    where a runtime does not answer."""
    running = [
        (runtime, status.id)
        for runtime in runtimes
        for status in runtime.list_containers()
        if status.state is ContainerState.RUNNING
    ]
    stops = (runtime.stop_container(container_id, grace_seconds) for runtime, container_id in running)
    try:
        async with clock.timeout(grace_seconds + SHUTDOWN_GRACE_SECONDS):
            await asyncio.gather(*stops, return_exceptions=True)
    except TimeoutError:
        return None
    return frozenset(container_id for _, container_id in running)
