"""The control groups of a node's pods: one for each, within that of its quality of service class.

    kubecore-MARK/kubepods/podUID/CONTAINER
    kubecore-MARK/kubepods/burstable/podUID/CONTAINER
    kubecore-MARK/kubepods/besteffort/podUID/CONTAINER

(upstream `pkg/kubelet/cm/qos_container_manager_linux.go`, `pod_container_manager_linux.go`; the containers' own are the
runtime's.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kubecore.api import meta
from kubecore.kubelet.cgroups import limits
from kubecore.kubelet.cgroups.interface import Cgroups, Limits
from kubecore.kubelet.pods.qos import qos_class

Object = dict[str, Any]

CPU, MEMORY = "cpu", "memory"
_TOLD = {CPU: "CPU", MEMORY: "memory"}
_WATCHED = (
    "limits on memory are enforced by looking at what containers have, so that a burst may pass them for a moment"
)
_FOLDERS = {"Guaranteed": "", "Burstable": "burstable", "BestEffort": "besteffort"}


class Lack(NamedTuple):
    """How limits are enforced, and why no better: an event's type, reason and message."""

    kind: str
    reason: str
    message: str


class PodCgroups:
    """`cgroups` is None where there are none, for the `reason` given ("": nobody wants
    them). `most_pids`: of a pod (`--pod-max-pids`)."""

    def __init__(self, cgroups: Cgroups | None, reason: str, *, most_pids: int | None = None) -> None:
        self.cgroups = cgroups
        self.reason = reason
        self._most_pids = most_pids
        self._pods: dict[str, tuple[str, Object]] = {}
        for quality in ("Burstable", "BestEffort"):
            if cgroups is not None:
                cgroups.make(_FOLDERS[quality], limits.of_class([], quality), inner=True)

    def lack_of(self, *resources: str, watched: bool) -> Lack | None:
        """None where limits on these are enforced as they should be, or nobody wants them. `watched`: the runtime sees
        to those on memory."""
        if self.cgroups is not None or not self.reason:
            return None
        lacking = [name for name in (MEMORY, CPU) if name in resources and not (watched and name == MEMORY)]
        told = [f"limits on {' and '.join(_TOLD[name] for name in lacking)} are not enforced"] if lacking else []
        if watched and MEMORY in resources:
            told.append(_WATCHED)
        if not told:
            return None
        kind, reason = ("Warning", "LimitsNotEnforced") if lacking else ("Normal", "MemoryLimitWatched")
        return Lack(kind, reason, f"{'; '.join(told)}: {self.reason}")

    def lack(self, pod: Object, *, watched: bool) -> Lack | None:
        """Of those that the pod has."""
        return self.lack_of(*limits.limited(pod), watched=watched)

    def make(self, pod: Object) -> str:
        """The path of the pod's group, "" where there are none. Raises CgroupError."""
        if self.cgroups is None:
            return ""
        quality, uid = qos_class(pod), meta.uid(pod)
        path = f"{_FOLDERS[quality]}/pod{uid}".lstrip("/")
        self.cgroups.make(path, self._wanted(pod), inner=True)
        self._pods[uid] = (path, pod)
        self._share_out()
        return path

    def widen(self, pod: Object) -> None:
        """The pod is about to be resized: whatever its containers have now, or are to have, fits into its group, which
        the kernel holds every one of them to. Raises CgroupError."""
        known = self._pods.get(meta.uid(pod))
        if known is not None and self.cgroups is not None:
            self.cgroups.limit(known[0], limits.covering(self._wanted(known[1]), self._wanted(pod)))

    def limit(self, pod: Object) -> None:
        """The pod has been resized. Raises CgroupError."""
        known = self._pods.get(meta.uid(pod))
        if known is not None and self.cgroups is not None:
            self.cgroups.limit(known[0], self._wanted(pod))
            self._pods[meta.uid(pod)] = (known[0], pod)
            self._share_out()

    def remove(self, uid: str) -> None:
        known = self._pods.pop(uid, None)
        if known is not None and self.cgroups is not None:
            self.cgroups.remove(known[0])
            self._share_out()

    def close(self) -> None:
        if self.cgroups is not None:
            self.cgroups.close()

    def _wanted(self, pod: Object) -> Limits:
        return limits.of_pod(pod, most_pids=self._most_pids)

    def _share_out(self) -> None:
        """Burstable pods weigh together what they ask for together."""
        burstable = _FOLDERS["Burstable"]
        pods = [pod for path, pod in self._pods.values() if path.startswith(f"{burstable}/")]
        if self.cgroups is not None:
            self.cgroups.limit(burstable, limits.of_class(pods, "Burstable"))
