"""What the pods of a node have of memory, disk and processes, for whoever must choose among them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.kubelet import logs, usage
from kubecore.kubelet.eviction import machine
from kubecore.kubelet.eviction.ranking import Candidate
from kubecore.kubelet.pod_worker import PodWorker
from kubecore.kubelet.stats import RunningPod

Object = dict[str, Any]


class NodePods:
    """Implements `manager.Pods`. `root`: the node's folder."""

    def __init__(self, root: Path, workers: Callable[[], Iterable[PodWorker]]) -> None:
        self._root = root
        self._workers = workers

    def evictable(self) -> Sequence[PodWorker]:
        return list(self._workers())

    async def use(self, resource: str) -> Sequence[Candidate]:
        running = [(worker.pod, worker.running()) for worker in self._workers() if worker.takes_room]
        return await asyncio.to_thread(lambda: [self._candidate(pod, one, resource) for pod, one in running])

    def _candidate(self, pod: Object, running: RunningPod, resource: str) -> Candidate:
        if resource == "ephemeral-storage":
            own = {one["name"]: machine.size_of([self._logs(pod) / one["name"]]) for one in pod["spec"]["containers"]}
            total = machine.size_of(self.storage_folders(pod))
        else:
            own = {one.name: _of_process(one.pid, resource) for one in running.containers}
            total = sum(own.values())
        return Candidate(pod, {resource: total}, {name: {resource: used} for name, used in own.items()})

    def storage_folders(self, pod: Object, volume: str = "") -> Iterable[Path]:
        empty = self._root / "pods" / meta.uid(pod) / "volumes" / "kubernetes.io~empty-dir"
        return [empty / volume] if volume else [empty, self._logs(pod)]

    def _logs(self, pod: Object) -> Path:
        return logs.pod_log_directory(self._root, meta.namespace(pod), meta.name(pod), meta.uid(pod))


def _of_process(pid: int, resource: str) -> int:
    if resource == "pids":
        return usage.count_processes(pid)
    found = usage.of_processes(pid) if pid else None
    return found.memory if found is not None else 0
