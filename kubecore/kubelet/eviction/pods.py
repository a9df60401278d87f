"""What the pods of a node have of memory, disk and processes, for whoever must choose among them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.kubelet import logs
from kubecore.kubelet.eviction import machine
from kubecore.kubelet.eviction.ranking import Candidate
from kubecore.kubelet.pod_worker import PodWorker
from kubecore.kubelet.usage import RunningContainer, RunningPod, UsageReader

Object = dict[str, Any]


class NodePods:
    """Implements `manager.Pods`. `root`: the node's folder."""

    def __init__(self, root: Path, usage: UsageReader, workers: Callable[[], Iterable[PodWorker]]) -> None:
        self._root = root
        self._usage = usage
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
            own = {one.name: self._of_container(one, resource) for one in running.containers}
            total = sum(own.values())
        return Candidate(pod, {resource: total}, {name: {resource: used} for name, used in own.items()})

    def storage_folders(self, pod: Object, volume: str = "") -> Iterable[Path]:
        empty = self._root / "pods" / meta.uid(pod) / "volumes" / "kubernetes.io~empty-dir"
        return [empty / volume] if volume else [empty, self._logs(pod)]

    def _logs(self, pod: Object) -> Path:
        return logs.pod_log_directory(self._root, meta.namespace(pod), meta.name(pod), meta.uid(pod))

    def _of_container(self, container: RunningContainer, resource: str) -> int:
        found = self._usage.of_container(container)
        if found is None:
            return 0
        return found.processes or 0 if resource == "pids" else found.memory
