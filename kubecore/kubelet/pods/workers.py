"""The pods of a node: each has a worker, from when it is seen until nothing of it is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Set
from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Client
from kubecore.client.informer import SharedInformer
from kubecore.clock import Clock
from kubecore.kubelet.pods.manifests import MIRROR
from kubecore.kubelet.pods.static_pods import MirrorWriter, StaticPods
from kubecore.kubelet.pods.status_writer import StatusWriter
from kubecore.kubelet.pods.worker import PodWorker
from kubecore.kubelet.runtime.interface import ContainerStatus
from kubecore.kubelet.serving.usage import RunningPod

log = logging.getLogger(__name__)

Object = dict[str, Any]


class PodWorkers:
    """Of pods that `follow` is told of by the API, and of those that `static` finds in the folder `manifests`."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        manifests: Path,
        node: Callable[[], Object],
        make: Callable[[Object, StatusWriter | None], PodWorker],
    ) -> None:
        """`make` is called once the node has started."""
        self._make = make
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.static = StaticPods(client, clock, manifests, node, self)

    # ---- what is

    def all(self) -> list[PodWorker]:
        return list(self._workers.values())

    def find(self, namespace: str, name: str, uid: str = "") -> PodWorker | None:
        """The newest worker of a pod's name."""
        found = None
        for worker in self._workers.values():
            if meta.namespace(worker.pod) == namespace and meta.name(worker.pod) == name and uid in ("", worker.uid):
                found = worker
        return found

    def granted(self) -> list[Object]:
        """The pods that take room, with what the node has granted them."""
        return [worker.granted for worker in self._workers.values() if worker.takes_room]

    def running(self) -> list[RunningPod]:
        """Those of which some container runs."""
        found = [worker.running() for worker in self._workers.values()]
        return [pod for pod in found if pod.containers]

    # ---- what happens to them

    def follow(self, pods: SharedInformer) -> None:
        pods.add_handler(self._added, self._updated, self._removed)

    def container_ended(self, status: ContainerStatus) -> None:
        any(worker.container_ended(status) for worker in self._workers.values())  # it is one's

    def wake(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.wake()

    def refresh_names(self) -> None:
        for worker in self._workers.values():
            worker.refresh_names()

    async def close(self) -> None:
        """From now on nothing is started any more. Containers run on."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def keep_last_words(self, interrupted: Set[str]) -> None:
        """The kubelet ends, and has ended these containers."""
        for worker in self._workers.values():
            worker.keep_last_words(interrupted)

    def _added(self, pod: Object) -> None:
        if MIRROR in meta.annotations(pod):
            self.static.mirror_seen(pod, self.wake)
        elif meta.uid(pod) not in self._workers:
            self._start(self._make(pod, None))

    def _updated(self, old: Object, new: Object) -> None:
        if meta.uid(old) != meta.uid(new):
            self._removed(old)
        if MIRROR in meta.annotations(new):
            self.static.mirror_seen(new, self.wake)
            return
        worker = self._workers.get(meta.uid(new))
        if worker is None:
            self._added(new)
        else:
            worker.update(new)

    def _removed(self, pod: Object) -> None:
        if MIRROR in meta.annotations(pod):
            self.static.mirror_gone(pod, self.wake)
            return
        worker = self._workers.get(meta.uid(pod))
        if worker is not None:
            worker.removed()

    def start_static(self, pod: Object, writer: MirrorWriter) -> None:
        """As soon as one of the same name has ended."""
        former = self.find(meta.namespace(pod), meta.name(pod))
        after = self._tasks.get(former.uid) if former is not None else None
        self._start(self._make(pod, writer), after=after, finally_=writer.remove)

    def stop_static(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.removed()

    # ---- their tasks

    def _start(
        self,
        worker: PodWorker,
        *,
        after: asyncio.Task[None] | None = None,
        finally_: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._workers[worker.uid] = worker
        run = self._run(worker, after, finally_)
        self._tasks[worker.uid] = asyncio.create_task(run, name=f"kubelet pod {meta.key(worker.pod)}")

    async def _run(
        self, worker: PodWorker, after: asyncio.Task[None] | None, finally_: Callable[[], Awaitable[None]] | None
    ) -> None:
        try:
            if after is not None:
                await asyncio.wait([after])
            await worker.run()
            if finally_ is not None:
                await finally_()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("the worker of pod %s failed", meta.key(worker.pod))
        self._workers.pop(worker.uid, None)
        self._tasks.pop(worker.uid, None)
