"""What the pods of a node have of memory, disk and processes, for whoever must choose among them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.eviction.ranking import Candidate
from kubecore.kubelet.pods.disks import PodDisk, PodDisks
from kubecore.kubelet.pods.worker import PodWorker
from kubecore.kubelet.serving.usage import RunningContainer, RunningPod, UsageReader

Object = dict[str, Any]


class NodePods:
    """Implements `manager.Pods`."""

    def __init__(self, disks: PodDisks, usage: UsageReader, workers: Callable[[], Iterable[PodWorker]]) -> None:
        self._disks = disks
        self._usage = usage
        self._workers = workers

    def evictable(self) -> Sequence[PodWorker]:
        return list(self._workers())

    async def use(self, resource: str) -> Sequence[Candidate]:
        running = [(worker.pod, worker.running()) for worker in self._workers() if worker.takes_room]
        if resource in ("ephemeral-storage", "inodes"):
            disks = await self._disks.of(running)
            return [_on_disk(pod, disks[meta.uid(pod)], resource) for pod, _ in running]
        return await asyncio.to_thread(lambda: [self._candidate(pod, one, resource) for pod, one in running])

    def _candidate(self, pod: Object, running: RunningPod, resource: str) -> Candidate:
        own = {one.name: self._of_container(one, resource) for one in running.containers}
        return _made(pod, resource, sum(own.values()), own)

    async def disks(self, uids: Collection[str]) -> Mapping[str, PodDisk]:
        """Measured now."""
        wanted = [(one.pod, one.running()) for one in self._workers() if one.uid in uids]
        return await self._disks.of(wanted)

    def _of_container(self, container: RunningContainer, resource: str) -> int:
        found = self._usage.of_container(container)
        if found is None:
            return 0
        return found.processes or 0 if resource == "pids" else found.memory


def _on_disk(pod: Object, disk: PodDisk, resource: str) -> Candidate:
    if resource == "inodes":  # of which no container asks for any, nor is told to have too many
        return _made(pod, resource, disk.ephemeral.inodes, {})
    own = {one["name"]: disk.of_container(one["name"]).bytes for one in pod["spec"]["containers"]}
    return _made(pod, resource, disk.ephemeral.bytes, own)


def _made(pod: Object, resource: str, total: int, own: Mapping[str, int]) -> Candidate:
    return Candidate(pod, {resource: total}, {name: {resource: used} for name, used in own.items()})
