"""How many pods, containers and resizes a kubelet has at the moment, under upstream's names.

(kubernetes `pkg/kubelet/metrics/metrics.go`.)
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kubecore.api import meta
from kubecore.kubelet.pods.manifests import HASH
from kubecore.kubelet.runtime.interface import ContainerState, ContainerStatus, SandboxStatus
from kubecore.kubelet.serving.usage import RunningPod, disk_of
from kubecore.metrics import Named, Samples

Object = dict[str, Any]


class PodNow(NamedTuple):
    """`stage`: sync, terminating or terminated. `active`: it takes room. `desired`: the API, or a file, still has it.
    `pending_resize`: deferred or infeasible, "" for none."""

    pod: Object
    stage: str
    active: bool
    desired: bool
    resizing: bool = False
    pending_resize: str = ""


class NodeNow(NamedTuple):
    """What there is at the moment. `cgroup_version`: 0 where there are none."""

    node_name: str
    cgroup_version: int
    pods: Sequence[PodNow]
    sandboxes: Sequence[SandboxStatus]
    containers: Sequence[ContainerStatus]
    running: Sequence[RunningPod] = ()

    def samples(self) -> Iterable[Samples]:
        yield _gauge("node_name", "The node's name. The count is always 1.", {(self.node_name,): 1}, "node")
        if self.cgroup_version:
            yield _gauge("cgroup_version", "cgroup version on the hosts.", {(): self.cgroup_version})
        running = sum(one.running for one in self.sandboxes)
        yield _gauge("running_pods", "Number of pods that have a running pod sandbox", {(): running})
        states = Tally(_STATES[one.state] for one in self.containers)
        yield _gauge(
            "running_containers",
            "Number of containers currently running",
            {(state,): states[state] for state in _STATES.values()},
            "container_state",
        )
        yield from self._of_pods()
        yield from self._of_resizes()
        yield from self._of_volumes()

    def _of_pods(self) -> Iterable[Samples]:
        static = "static is true if the pod is not from the apiserver."
        for name, told, pods in (
            (
                "desired_pods",
                "The number of pods the kubelet is being instructed to run.",
                [p for p in self.pods if p.desired],
            ),
            (
                "active_pods",
                "The number of pods the kubelet considers active and which are being considered when admitting new "
                "pods.",
                [p for p in self.pods if p.active],
            ),
        ):
            counts = Tally(_is_static(one.pod) for one in pods)
            yield _gauge(name, f"{told} {static}", {(label,): counts[label] for label in ("", "true")}, "static")
        yield _gauge(
            "mirror_pods",
            "The number of mirror pods the kubelet will try to create (one per admitted static pod)",
            {(): sum(bool(_is_static(one.pod)) and one.active for one in self.pods)},
        )
        working = Tally(("desired" if one.desired else "orphan", one.stage, _is_static(one.pod)) for one in self.pods)
        yield _gauge(
            "working_pods",
            "Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is "
            "desired, orphaned, or runtime only (also orphaned), and whether the pod is static. An orphaned pod has "
            "been removed from local configuration or force deleted in the API and consumes resources that are not "
            "otherwise visible.",
            dict(working),
            "config",
            "lifecycle",
            "static",
        )
        yield _gauge(
            "managed_ephemeral_containers",
            "Current number of ephemeral containers in pods managed by this kubelet.",
            {(): sum(len(one.pod["spec"].get("ephemeralContainers") or []) for one in self.pods if one.desired)},
        )

    def _of_resizes(self) -> Iterable[Samples]:
        pending = Tally(one.pending_resize for one in self.pods)
        reasons = ("deferred", "infeasible")
        told = "Number of pending resizes for pods."
        yield _gauge("pod_pending_resizes", told, {(one,): pending[one] for one in reasons}, "reason")
        going_on = sum(one.resizing for one in self.pods)
        yield _gauge("pod_in_progress_resizes", "Number of in-progress resizes for pods.", {(): going_on})

    def _of_volumes(self) -> Iterable[Samples]:
        """Of claims: of the file systems that their volumes are on."""
        folders = {(pod.namespace, one.claim): one.path for pod in self.running for one in pod.claims}
        disks = {claim: disk for claim, path in folders.items() if (disk := disk_of(path)) is not None}
        for field, name, told in (
            ("capacity", "capacity_bytes", "Capacity in bytes of the volume"),
            ("available", "available_bytes", "Number of available bytes in the volume"),
            ("used", "used_bytes", "Number of used bytes in the volume"),
            ("inodes", "inodes", "Maximum number of inodes in the volume"),
            ("inodes_free", "inodes_free", "Number of free inodes in the volume"),
            ("inodes_used", "inodes_used", "Number of used inodes in the volume"),
        ):
            values = {claim: getattr(disk, field) for claim, disk in disks.items()}
            yield _gauge(f"volume_stats_{name}", told, values, "namespace", "persistentvolumeclaim")


_STATES = {
    ContainerState.CREATED: "created",
    ContainerState.EXITED: "exited",
    ContainerState.RUNNING: "running",
}


def _gauge(name: str, told: str, values: Mapping[Any, int], *labels: str) -> Samples:
    found = Samples(Named(f"kubelet_{name}", f"[ALPHA] {told}", labels))
    for of, value in values.items():
        found.add(value, *of)
    return found


def _is_static(pod: Object) -> str:
    return "true" if HASH in meta.annotations(pod) else ""
