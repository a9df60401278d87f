"""Whether the memory limits of a pod that runs may be lowered: not below what it has, for which the kernel would kill,
or we in its place. It may take more meanwhile.

After upstream `pkg/kubelet/kuberuntime/kuberuntime_manager.go` (validateMemoryResizeAction).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from kubecore.kubelet.cgroups import limits
from kubecore.kubelet.pods.records import RESIZED, ContainerRecord
from kubecore.kubelet.serving.usage import MemoryUse, RunningPod

Object = dict[str, Any]


Ask = Callable[[RunningPod], Awaitable[MemoryUse]]


async def refusal(
    pod: Object, records: Mapping[str, ContainerRecord], restarted: Collection[str], running: RunningPod, ask: Ask
) -> str:
    """Why not, "" if they may be. `pod`: with the resources that are to be in force. `restarted`: names of containers
    that are given theirs by being started anew."""
    spec, former = pod["spec"], _with_those_in_force(pod, records)["spec"]
    lowered = {}
    for name, record in records.items():
        if record.to_resize and name not in restarted:
            before = limits.of_container({"resources": record.in_force}, former).memory
            if _lower(after := limits.of_container(record.spec, spec).memory, before):
                lowered[name] = after
    of_pod = limits.of_pod(pod).memory
    pod_lowered = _lower(of_pod, limits.of_pod({**pod, "spec": former}).memory)
    if not lowered and not pod_lowered:
        return ""
    use = await ask(running)
    told = []
    if pod_lowered:
        used = use.pod
        if any(name in use.containers for name in restarted):  # what they have is given back first
            used = sum(own for name, own in use.containers.items() if name not in restarted)
        told.append(_told("pod", of_pod, used))
    told += [_told(f'container "{name}"', limit, use.containers.get(name)) for name, limit in lowered.items()]
    wrong = [one for one in told if one]
    if len(wrong) > 1:
        wrong = [f"[{', '.join(wrong)}]"]
    return f"cannot decrease memory limits: {wrong[0]}" if wrong else ""


def _with_those_in_force(pod: Object, records: Mapping[str, ContainerRecord]) -> Object:
    spec = dict(pod["spec"])
    for field in ("initContainers", "containers"):
        if field in spec:
            spec[field] = [_in_force(one, records.get(one["name"])) for one in spec[field]]
    return {**pod, "spec": spec}


def _in_force(container: Object, record: ContainerRecord | None) -> Object:
    if record is None or record.kind not in RESIZED or record.state != "running":
        return container
    return {**container, "resources": record.in_force}


def _lower(after: int | None, before: int | None) -> bool:
    return after is not None and (before is None or after < before)


def _told(whose: str, limit: int | None, used: int | None) -> str:
    """What is wrong with it, "" for nothing."""
    if used is None:
        return f"missing {whose} memory usage"
    if limit is not None and used >= limit:
        return f"attempting to set {whose} memory limit ({limit}) below current usage ({used})"
    return ""
