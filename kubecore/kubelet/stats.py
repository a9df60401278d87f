"""What the node and its containers use, as /stats/summary and /metrics/resource tell it.

Measured when somebody asks, and never otherwise. A rate needs two measurements: one of the last minute serves, if there
is one, else a second one is made a moment later. (Upstream: cAdvisor, pkg/kubelet/server/stats.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubecore.api import meta
from kubecore.clock import Clock
from kubecore.kubelet import usage
from kubecore.kubelet.usage import Used

Object = dict[str, Any]

_SHORTEST_SECONDS = 1.0
_WANTED_SECONDS = 10.0
_KEPT_EVERY_SECONDS = 5.0
_LONGEST_SECONDS = 60.0
_NODE = ""


@dataclass(frozen=True, slots=True)
class RunningContainer:
    """`pid` is that of its first process, on this machine."""

    name: str
    id: str
    pid: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class RunningPod:
    namespace: str
    name: str
    uid: str
    containers: tuple[RunningContainer, ...]


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


def read_usage(pids: Mapping[str, int]) -> dict[str, Used]:
    """By key, of what still runs; the node's own key is "". Reads files: not for the event loop."""
    found = {_NODE: usage.of_machine()}
    for key, pid in pids.items():
        used = usage.of_processes(pid) if pid else None
        if used is not None:
            found[key] = used
    return found


class NodeStats:
    def __init__(
        self,
        clock: Clock,
        node_name: str,
        pods: Callable[[], Sequence[RunningPod]],
        read: Callable[[Mapping[str, int]], dict[str, Used]] = read_usage,
    ) -> None:
        self._clock = clock
        self._node_name = node_name
        self._pods = pods
        self._read = read
        self._history: dict[str, list[Sample]] = {}
        self._lock = asyncio.Lock()

    async def summary(self) -> Object:
        """The body of /stats/summary, as much of it as is measured."""
        pods, measured = await self._measure()
        node = measured[_NODE]
        return {
            "node": {"nodeName": self._node_name, **_told(node)},
            "pods": [told for pod in pods if (told := _pod(pod, measured)) is not None],
        }

    async def resource_metrics(self) -> str:
        """The body of /metrics/resource, in Prometheus' text format."""
        pods = self._pods()
        samples = await self._sample(pods)
        return _exposition(pods, samples)

    async def _measure(self) -> tuple[Sequence[RunningPod], Mapping[str, Measured]]:
        async with self._lock:
            pods = self._pods()
            found = self._rates(await self._sample(pods))
            if any(one.rate is None for one in found.values()):
                await self._clock.sleep(_SHORTEST_SECONDS)
                pods = self._pods()
                found = self._rates(await self._sample(pods))
            return pods, found

    async def _sample(self, pods: Iterable[RunningPod]) -> dict[str, Sample]:
        pids = {container.id: container.pid for pod in pods for container in pod.containers}
        used = await asyncio.to_thread(self._read, pids)
        at, when = self._clock.monotonic(), self._clock.now()
        return {key: Sample(at, when, one) for key, one in used.items()}

    def _rates(self, samples: dict[str, Sample]) -> dict[str, Measured]:
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
    time = meta.format_time(measured.sample.when)
    cpu: Object = {"time": time, "usageCoreNanoSeconds": measured.sample.used.cpu}
    if measured.rate is not None:
        cpu["usageNanoCores"] = measured.rate
        cpu["windowSeconds"] = round(measured.window, 3)
    memory = measured.sample.used.memory
    return {"cpu": cpu, "memory": {"time": time, "workingSetBytes": memory, "usageBytes": memory}}


def _pod(pod: RunningPod, measured: Mapping[str, Measured]) -> Object | None:
    """None when none of its containers could be measured."""
    containers = [
        {"name": one.name, "startTime": meta.format_time(one.started_at), **_told(measured[one.id])}
        for one in pod.containers
        if one.id in measured
    ]
    if not containers:
        return None
    reference = {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}
    return {"podRef": reference, "containers": containers}


# ---------------------------------------------------------------------- Prometheus' text
_HELP = {
    "container_cpu_usage_seconds_total": "Cumulative cpu time consumed by the container in core-seconds",
    "container_memory_working_set_bytes": "Current working set of the container in bytes",
    "container_start_time_seconds": "Start time of the container since unix epoch in seconds",
    "node_cpu_usage_seconds_total": "Cumulative cpu time consumed by the node in core-seconds",
    "node_memory_working_set_bytes": "Current working set of the node in bytes",
    "pod_cpu_usage_seconds_total": "Cumulative cpu time consumed by the pod in core-seconds",
    "pod_memory_working_set_bytes": "Current working set of the pod in bytes",
    "resource_scrape_error": "1 if there was an error while getting container metrics, 0 otherwise",
}


def _exposition(pods: Sequence[RunningPod], samples: Mapping[str, Sample]) -> str:
    series: dict[str, list[str]] = {name: [] for name in _HELP}

    def tell(prefix: str, labels: str, parts: Sequence[Sample]) -> None:
        stamp = int(max(part.when.timestamp() for part in parts) * 1000)
        cpu, memory = sum(part.used.cpu for part in parts), sum(part.used.memory for part in parts)
        series[f"{prefix}_cpu_usage_seconds_total"].append(f"{labels} {cpu / 1e9:.9g} {stamp}")
        series[f"{prefix}_memory_working_set_bytes"].append(f"{labels} {memory} {stamp}")

    tell("node", "", [samples[_NODE]])
    for pod in pods:
        of_pod = f'namespace="{pod.namespace}",pod="{pod.name}"'
        known = [one for one in pod.containers if one.id in samples]
        for one in known:
            labels = f'{{container="{one.name}",{of_pod}}}'
            tell("container", labels, [samples[one.id]])
            series["container_start_time_seconds"].append(f"{labels} {one.started_at.timestamp():.3f}")
        if known:
            tell("pod", f"{{{of_pod}}}", [samples[one.id] for one in known])
    series["resource_scrape_error"].append(" 0")
    lines = []
    for name, values in series.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# HELP {name} [STABLE] {_HELP[name]}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{value}" for value in values]
    return "\n".join(lines) + "\n"
