"""What the node and its containers use, as /stats/summary tells it.

Measured when somebody asks, and never otherwise. A rate needs two measurements: one of the last minute serves, if there
is one, else a second one is made a moment later. (Upstream: pkg/kubelet/server/stats; k8s.io/kubelet
`pkg/apis/stats/v1alpha1`.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from kubecore.api import meta
from kubecore.clock import Clock
from kubecore.kubelet.eviction import machine
from kubecore.kubelet.usage import ClaimedFolder, InterfaceUse, RunningPod, Used, disk_of

Object = dict[str, Any]

_SHORTEST_SECONDS = 1.0
_WANTED_SECONDS = 10.0
_KEPT_EVERY_SECONDS = 5.0
_LONGEST_SECONDS = 60.0
NODE = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """At `at` (monotonic seconds) and `when`."""

    at: float
    when: datetime
    used: Used


@dataclass(frozen=True, slots=True)
class Measured:
    """`rate` in billionths of a CPU, over `window` seconds; None while there is one sample only."""

    sample: Sample
    rate: int | None = None
    window: float = 0.0


@dataclass(frozen=True, slots=True)
class Sampled:
    """`samples`: by the container's id and the pod's uid, of what still runs, and under NODE the node's."""

    pods: Sequence[RunningPod]
    samples: Mapping[str, Sample]


class Reader(Protocol):
    """As `usage.UsageReader`."""

    def __call__(self, pods: Sequence[RunningPod], *, details: bool) -> dict[str, Used]: ...


class NodeStats:
    """`root`: on the file system that holds the node's files."""

    def __init__(
        self,
        clock: Clock,
        node_name: str,
        pods: Callable[[], Sequence[RunningPod]],
        read: Reader,
        root: Path,
    ) -> None:
        self._clock = clock
        self._node_name = node_name
        self._pods = pods
        self._read = read
        self._root = root
        self._history: dict[str, list[Sample]] = {}
        self._lock = asyncio.Lock()

    async def summary(self) -> Object:
        """The body of /stats/summary, as much of it as is measured."""
        pods, measured = await self._measure()
        # Disks are asked, of which some may be far away.
        return await asyncio.to_thread(self._told, pods, measured)

    def _told(self, pods: Sequence[RunningPod], measured: Mapping[str, Measured]) -> Object:
        node = measured[NODE]
        disk = _disk(self._root, _time(node))
        return {
            "node": {"nodeName": self._node_name, **_told(node), **({"fs": disk} if disk else {}), **_limit(node)},
            "pods": [told for pod in pods if (told := _pod(pod, measured)) is not None],
        }

    async def sample(self, *, details: bool = False) -> Sampled:
        """Now, without rates. `details`: all that the kernel has counted."""
        pods = self._pods()
        used = await asyncio.to_thread(partial(self._read, pods, details=details))
        at, when = self._clock.monotonic(), self._clock.now()
        return Sampled(pods, {key: Sample(at, when, one) for key, one in used.items()})

    async def _measure(self) -> tuple[Sequence[RunningPod], Mapping[str, Measured]]:
        async with self._lock:
            sampled = await self.sample()
            found = self._rates(sampled.samples)
            if any(one.rate is None for one in found.values()):
                await self._clock.sleep(_SHORTEST_SECONDS)
                sampled = await self.sample()
                found = self._rates(sampled.samples)
            return sampled.pods, found

    def _rates(self, samples: Mapping[str, Sample]) -> dict[str, Measured]:
        """From each and the one that was made long enough before it."""
        history: dict[str, list[Sample]] = {}
        found: dict[str, Measured] = {}
        for key, sample in samples.items():
            kept = [one for one in self._history.get(key, ()) if sample.at - one.at <= _LONGEST_SECONDS]
            found[key] = _measured(sample, kept)
            if not kept or sample.at - kept[-1].at >= _KEPT_EVERY_SECONDS:
                kept.append(sample)
            history[key] = kept
        self._history = history
        return found


def _measured(sample: Sample, kept: Sequence[Sample]) -> Measured:
    """Over a window that is not too short for what runs in turns, if there is one."""
    old = [one for one in kept if sample.at - one.at >= _SHORTEST_SECONDS]
    if not old:
        return Measured(sample)
    base = next((one for one in reversed(old) if sample.at - one.at >= _WANTED_SECONDS), old[0])
    seconds = sample.at - base.at
    return Measured(sample, max(0, int((sample.used.cpu - base.used.cpu) / seconds)), seconds)


def _told(measured: Measured) -> Object:
    time = _time(measured)
    used = measured.sample.used
    cpu: Object = {"time": time, "usageCoreNanoSeconds": used.cpu}
    if measured.rate is not None:
        cpu["usageNanoCores"] = measured.rate
        cpu["windowSeconds"] = round(measured.window, 3)
    memory: Object = {"time": time, "workingSetBytes": used.memory, "usageBytes": used.memory}
    if counted := used.counted.memory:
        memory |= {
            "usageBytes": counted.usage,
            "rssBytes": counted.rss,
            "pageFaults": counted.faults,
            "majorPageFaults": counted.major_faults,
        }
    return {"cpu": cpu, "memory": memory}


def _time(measured: Measured) -> str:
    return meta.format_time(measured.sample.when)


def _pod(pod: RunningPod, measured: Mapping[str, Measured]) -> Object | None:
    """None when none of its containers could be measured."""
    containers = [
        {"name": one.name, "startTime": meta.format_time(one.started_at), **_told(measured[one.id])}
        for one in pod.containers
        if one.id in measured
    ]
    if not containers or pod.uid not in measured:
        return None
    reference = {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}
    whole = measured[pod.uid]
    told: Object = {"podRef": reference, **_told(whole), "containers": containers}
    if networks := [_network(one) for one in whole.sample.used.networks]:
        first = next((one for one in networks if one["name"] == "eth0"), networks[0])
        told["network"] = {"time": _time(whole), **first, "interfaces": networks}
    if volumes := [disk for one in pod.claims if (disk := _volume(pod, one, _time(whole))) is not None]:
        told["volume"] = volumes
    if whole.sample.used.processes is not None:
        told["process_stats"] = {"process_count": whole.sample.used.processes}
    return told


def _volume(pod: RunningPod, claimed: ClaimedFolder, time: str) -> Object | None:
    disk = _disk(claimed.path, time)
    if disk is None:
        return None
    return {**disk, "name": claimed.name, "pvcRef": {"name": claimed.claim, "namespace": pod.namespace}}


def _network(used: InterfaceUse) -> Object:
    return {
        "name": used.name,
        "rxBytes": used.received.bytes,
        "rxErrors": used.received.errors,
        "txBytes": used.sent.bytes,
        "txErrors": used.sent.errors,
    }


def _disk(folder: Path, time: str) -> Object | None:
    """That the folder is on."""
    disk = disk_of(folder)
    if disk is None:
        return None
    return {
        "time": time,
        "availableBytes": disk.available,
        "capacityBytes": disk.capacity,
        "usedBytes": disk.used,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes_used,
    }


def _limit(node: Measured) -> Object:
    """Of processes."""
    with suppress(OSError, ValueError):
        left = machine.processes()
        return {"rlimit": {"time": _time(node), "maxpid": left.capacity, "curproc": left.capacity - left.available}}
    return {}
