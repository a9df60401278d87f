"""Who acts in pods' names is told where their network namespaces are, wherever their runtime is."""

from __future__ import annotations

import os

from kubecore.kubelet.node_services import NodeServices
from kubecore.kubelet.operations import PodPlace
from kubecore.kubelet.runtime.interface import Runtime, RuntimeFailure, SandboxStatus


async def tell(runtime: Runtime, sandbox: SandboxStatus, services: NodeServices) -> tuple[str, ...]:
    """Of a sandbox that runs. Returns the pod's addresses, which are the host's unless it has some of its own."""
    if services.namespaces is not None:
        try:
            descriptor, addresses = await runtime.pod_network(sandbox.id)
        except RuntimeFailure:  # it has ended meanwhile
            descriptor, addresses = -1, ()
        if descriptor >= 0:
            services.namespaces.add(addresses, descriptor)
            os.close(descriptor)
    return sandbox.ips or services.facts.host_ips


async def remove_sandbox(place: PodPlace, services: NodeServices) -> None:
    """Raises RuntimeFailure."""
    if services.namespaces is not None:  # first of all: another pod may have the addresses next
        services.namespaces.remove(place.ips)
    await place.runtime.remove_pod_sandbox(place.sandbox_id)
