"""Ends pods before their node runs out of memory, disk or processes, and those that took more disk than they may.

After upstream `pkg/kubelet/eviction/eviction_manager.go`: a look every ten seconds, one pod at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kubecore.api import meta, pod_resources, quantity
from kubecore.api.taints import is_tolerated
from kubecore.clock import Clock
from kubecore.kubelet.eviction import machine
from kubecore.kubelet.eviction.ranking import Candidate, is_critical, message, ranked
from kubecore.kubelet.eviction.thresholds import Observation, Threshold
from kubecore.kubelet.pods.disks import PodDisk
from kubecore.kubelet.pods.qos import qos_class

log = logging.getLogger(__name__)

Object = dict[str, Any]

LOOK_SECONDS = 10.0
_MEMORY_TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}


@dataclass(frozen=True, slots=True)
class EvictionConfig:
    """`transition_seconds`: for how long after the last look that found it a condition of the node holds.
    `most_grace_seconds`: of a pod that goes for the sake of a soft threshold."""

    thresholds: tuple[Threshold, ...]
    transition_seconds: float = 300.0
    most_grace_seconds: float = 0.0


class Evictable(Protocol):
    """A pod that the node has (`pod_worker.PodWorker`)."""

    pod: Object
    uid: str

    @property
    def takes_room(self) -> bool: ...

    def evict(self, text: str, grace_seconds: float, *, disrupted: bool) -> None:
        """End it for good, as Failed for the reason Evicted. `disrupted`: through no fault of its own."""


class Pods(Protocol):
    """What the manager is told of pods."""

    def evictable(self) -> Sequence[Evictable]: ...

    async def use(self, resource: str) -> Sequence[Candidate]:
        """What they have of memory, ephemeral-storage, inodes or pids now; measured in a thread."""

    async def disks(self, uids: Collection[str]) -> Mapping[str, PodDisk]:
        """What these have on the disk; those that have gone are left out."""


class EvictionManager:
    """`changed` is called when the node's conditions have. `reclaim` frees disk without pods' harm; True if it did.
    `tell` makes a Warning event of the node (reason, text). `count` is called with the signal of each eviction."""

    def __init__(
        self,
        clock: Clock,
        config: EvictionConfig,
        root: Path,
        pods: Pods,
        *,
        changed: Callable[[], None],
        reclaim: Callable[[], Awaitable[bool]],
        tell: Callable[[str, str], None],
        count: Callable[[str], None] = lambda signal: None,
        observe: Callable[[Path], Mapping[str, Observation]] = machine.observe,
    ) -> None:
        self._clock = clock
        self._config = config
        self._root = root
        self._pods = pods
        self._changed = changed
        self._reclaim = reclaim
        self._tell = tell
        self._count = count
        self._observe = observe
        self._met: dict[Threshold, float] = {}
        self._seen: dict[str, float] = {}
        self.conditions: frozenset[str] = frozenset()

    async def run(self) -> None:
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except OSError as error:
                log.warning("eviction: %s", error)

    def refusal(self, pod: Object) -> str:
        """Why a pod may not come now, "" if it may."""
        if not self.conditions or is_critical(pod):
            return ""
        tolerated = qos_class(pod) != "BestEffort" or is_tolerated(_MEMORY_TAINT, pod["spec"].get("tolerations"))
        if self.conditions == {"MemoryPressure"} and tolerated:
            return ""
        return f"The node had condition: [{' '.join(sorted(self.conditions))}]. "

    async def look(self) -> None:
        if await self._end_greedy():
            return
        if not self._config.thresholds:
            return
        seen, now = self._observe(self._root), self._clock.monotonic()
        self._met = {
            one: self._met.get(one, now)
            for one in self._config.thresholds
            if one.signal in seen and one.met(seen[one.signal], before=one in self._met)
        }
        self._set_conditions(now)
        due = [one for one, since in self._met.items() if now - since >= (one.grace_seconds or 0.0)]
        if due:
            # Memory first of all: it is what kills others.
            await self._free(min(due, key=lambda one: one.resource != "memory"), seen)

    def _set_conditions(self, now: float) -> None:
        for threshold in self._met:
            self._seen[threshold.condition] = now
        held = {kind for kind, when in self._seen.items() if now - when < self._config.transition_seconds}
        held |= {threshold.condition for threshold in self._met}
        if held != self.conditions:
            self.conditions = frozenset(held)
            self._changed()

    async def _free(self, threshold: Threshold, seen: Mapping[str, Observation]) -> None:
        resource = threshold.resource
        self._tell("EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if resource in ("ephemeral-storage", "inodes") and await self._reclaim():
            after = self._observe(self._root)[threshold.signal]
            if not threshold.met(after, before=True):
                return
        candidates = await self._pods.use(resource)
        workers = {one.uid: one for one in self._pods.evictable() if one.takes_room and not is_critical(one.pod)}
        for candidate in ranked(candidates, resource):
            worker = workers.get(meta.uid(candidate.pod))
            if worker is not None:
                observed = seen[threshold.signal]
                text = message(
                    candidate,
                    resource,
                    threshold=threshold.value.of(observed.capacity),
                    available=observed.available,
                )
                self._count(threshold.signal)
                worker.evict(text, self._grace(threshold, candidate.pod), disrupted=True)
                return

    def _grace(self, threshold: Threshold, pod: Object) -> float:
        """One second where there is none to be lost."""
        if threshold.grace_seconds is None:
            return 1.0
        return min(self._config.most_grace_seconds, float(pod["spec"].get("terminationGracePeriodSeconds", 30)))

    # ---- pods that take more than they may

    async def _end_greedy(self) -> bool:
        limited = {
            one.uid: one
            for one in self._pods.evictable()
            if one.takes_room and not is_critical(one.pod) and _is_limited(one.pod)
        }
        ended = False
        for uid, disk in (await self._pods.disks(limited)).items() if limited else ():
            signal, text = _excess(limited[uid].pod, disk)
            if text:
                self._count(signal)
                limited[uid].evict(text, 1.0, disrupted=False)
                ended = True
        return ended


def _excess(pod: Object, disk: PodDisk) -> tuple[str, str]:
    """By which signal, and what is told; empty where there is none."""
    for volume in pod["spec"].get("volumes") or []:
        limit = _disk_limit(volume)
        if limit and disk.volumes[volume["name"]].bytes > limit:
            shown = quantity.canonical(volume["emptyDir"]["sizeLimit"])
            return "emptydirfs.limit", f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{shown}". '
    limited = pod_resources.limits({**pod, "status": {}}).get("ephemeral-storage")
    if limited is not None and disk.ephemeral.bytes > limited.nano // 10**9:
        return (
            "ephemeralpodfs.limit",
            f"Pod ephemeral local storage usage exceeds the total limit of containers {limited}. ",
        )
    for container in pod["spec"]["containers"]:
        own = _storage_limit(container)
        if own and disk.of_container(container["name"]).bytes > quantity.nano(own) // 10**9:
            shown = f'"{quantity.canonical(own)}"'
            text = f"Container {container['name']} exceeded its local ephemeral storage limit {shown}. "
            return "ephemeralcontainerfs.limit", text
    return "", ""


def _disk_limit(volume: Object) -> int:
    """Bytes, 0 for none. What is in memory is kept within its limit by the kernel."""
    source = volume.get("emptyDir") or {}
    limit = source.get("sizeLimit")
    return quantity.nano(limit) // 10**9 if limit and source.get("medium") != "Memory" else 0


def _is_limited(pod: Object) -> bool:
    if any(_disk_limit(volume) for volume in pod["spec"].get("volumes") or []):
        return True
    containers = pod["spec"]["containers"]
    return any(_storage_limit(one) for one in containers)


def _storage_limit(container: Object) -> Any:
    """The quantity as it was given; None where there is none."""
    return ((container.get("resources") or {}).get("limits") or {}).get("ephemeral-storage")
