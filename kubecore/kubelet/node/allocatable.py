"""Holds all pods of a node together to what the node has for them (upstream
`pkg/kubelet/cm/node_container_manager_linux.go`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kubecore.clock import Clock
from kubecore.kubelet.cgroups import limits
from kubecore.kubelet.cgroups.interface import CgroupError, Cgroups, Limits
from kubecore.kubelet.node.events import NodeEvents
from kubecore.kubelet.node.node import Machine
from kubecore.kubelet.settings.kubelet_config import KubeletConfig

_RETRY_SECONDS = 60.0
_MOST_PIDS = Path("/proc/sys/kernel/pid_max")


def of_all_pods(machine: Machine, reserved: Mapping[str, int]) -> Limits:
    """What the machine has without what is `reserved` of it, in billionths. More than is allocatable: what is kept free
    by eviction is pods' until they are evicted."""
    pids = reserved.get("pid", 0) // 10**9
    return Limits(
        limits.shares(max(machine.cpus * 1000 - reserved.get("cpu", 0) // 10**6, 0)),
        memory=max(machine.memory - reserved.get("memory", 0) // 10**9, 0),
        pids=max(int(_MOST_PIDS.read_text()) - pids, 0) if pids else None,
        swap=True,
    )


async def enforce(
    cgroups: Cgroups | None, machine: Machine, config: KubeletConfig, clock: Clock, events: NodeEvents
) -> None:
    """Tries until the kernel takes it: pods of a former run may have more still, until they are evicted."""
    wanted = of_all_pods(machine, machine.reserved if config.enforce_allocatable else {})
    while cgroups is not None:
        try:
            cgroups.limit("", wanted)
        except CgroupError as error:
            events.warn(
                "FailedNodeAllocatableEnforcement", f'Failed to update Node Allocatable Limits ["kubepods"]: {error}'
            )
            await clock.sleep(_RETRY_SECONDS)
        else:
            events.tell("NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
            return
