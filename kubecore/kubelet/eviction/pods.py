"""What the pods of a node have of memory, disk and processes, for whoever must choose among them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.kubelet import logs
from kubecore.kubelet.eviction import machine
from kubecore.kubelet.eviction.manager import Places
from kubecore.kubelet.eviction.ranking import Candidate
from kubecore.kubelet.pod_worker import PodWorker
from kubecore.kubelet.runtime.image_roots import WRITTEN
from kubecore.kubelet.runtime.scratch import scratch_of
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
            places = self._places(pod, running)
            own = {name: machine.size_of(folders) for name, folders in places.containers.items()}
            total = machine.size_of(places.all())
        else:
            own = {one.name: self._of_container(one, resource) for one in running.containers}
            total = sum(own.values())
        return Candidate(pod, {resource: total}, {name: {resource: used} for name, used in own.items()})

    def places(self, uid: str) -> Places | None:
        worker = next((one for one in self._workers() if one.uid == uid), None)
        return self._places(worker.pod, worker.running()) if worker is not None else None

    def _places(self, pod: Object, running: RunningPod) -> Places:
        own, spec, logs = self._root / "pods" / meta.uid(pod), pod["spec"], self._logs(pod)
        empty = own / "volumes" / "kubernetes.io~empty-dir"
        written = {one.name: own / scratch_of(one.id) / WRITTEN for one in running.containers}
        names = [one["name"] for one in spec["containers"]]
        return Places(
            volumes={one["name"]: empty / one["name"] for one in spec.get("volumes") or [] if "emptyDir" in one},
            containers={name: [logs / name, *filter(None, [written.get(name)])] for name in names},
            others=[logs, *written.values()],
        )

    def _logs(self, pod: Object) -> Path:
        return logs.pod_log_directory(self._root, meta.namespace(pod), meta.name(pod), meta.uid(pod))

    def _of_container(self, container: RunningContainer, resource: str) -> int:
        found = self._usage.of_container(container)
        if found is None:
            return 0
        return found.processes or 0 if resource == "pids" else found.memory
