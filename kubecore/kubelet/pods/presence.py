"""Where a pod is known: who acts in its name is told of its network, and the API forgets it once it is gone."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.kubelet.node.services import NodeServices
from kubecore.kubelet.runtime.interface import Runtime, RuntimeFailure, SandboxStatus

log = logging.getLogger(__name__)

Object = dict[str, Any]


async def tell(pod: Object, runtime: Runtime, sandbox: SandboxStatus, services: NodeServices) -> tuple[str, ...]:
    """Of a sandbox that runs, or did. Returns the pod's addresses: the host's unless it has some of its own."""
    if services.namespaces is not None and sandbox.ips:
        try:
            descriptor, addresses = await runtime.pod_network(sandbox.id)
        except RuntimeFailure:  # it has ended meanwhile
            descriptor, addresses = -1, ()
        if descriptor >= 0:
            services.namespaces.add(addresses, descriptor)
            os.close(descriptor)
    if sandbox.running:
        services.host_ports.serve(pod, sandbox)
    return sandbox.ips or services.facts.host_ips


async def delete_from_api(
    pod: Object, services: NodeServices, report: Callable[[], Awaitable[None]], is_gone: Callable[[], bool]
) -> None:
    """The last status (`report`), then the pod itself; repeated until the API takes it, or it `is_gone`."""
    failures = 0
    while not is_gone():
        try:
            await report()
            name, namespace = meta.name(pod), meta.namespace(pod)
            await services.client.delete("pods", name, namespace, uid=meta.uid(pod), grace_period_seconds=0)
            return
        except StatusError as error:
            if error.code in (404, 409):
                return
            log.warning("pod %s could not be deleted: %s", meta.key(pod), error.message)
        except OSError as error:
            log.warning("pod %s could not be deleted: %s", meta.key(pod), error)
        failures += 1
        await services.clock.sleep(min(2.0**failures, 30.0))
