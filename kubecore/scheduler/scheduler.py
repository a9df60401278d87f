"""The scheduling loop: take the next pod, choose a node, assume it, bind it while the next one is being decided.

(kubernetes `pkg/scheduler/schedule_one.go` and `eventhandlers.go`.)
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object
from kubecore.client.informer import InformerFactory, SharedInformer
from kubecore.clock import Clock
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.events import (
    EventKind,
    StorageEvent,
    node_added,
    node_changes,
    node_removed,
    pod_changes,
    pod_placed,
    pod_removed,
)
from kubecore.scheduler.framework import (
    Bind,
    Decision,
    Diagnosis,
    Evaluator,
    Plugin,
    PluginError,
    PostFilter,
    PreBind,
    Reserve,
)
from kubecore.scheduler.placement import PlacementEvaluator
from kubecore.scheduler.plugins import default_plugins
from kubecore.scheduler.plugins.default_binder import DefaultBinder
from kubecore.scheduler.pods import PodInfo, is_finished, scheduling_facts
from kubecore.scheduler.queue import QueuedPod, SchedulingQueue
from kubecore.scheduler.reporting import SCHEDULER_ERROR, UNSCHEDULABLE, Reporter

log = logging.getLogger(__name__)

_STORAGE = {
    EventKind.CLAIM: "persistentvolumeclaims",
    EventKind.VOLUME: "persistentvolumes",
    EventKind.STORAGE_CLASS: "storageclasses.storage.k8s.io",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    name: str = "default-scheduler"
    """Schedules the pods whose spec.schedulerName this is."""
    bindings_in_flight: int = 128


class Scheduler:
    """`ready` is set once the caches are complete and pods are being scheduled; `run` works until cancelled."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        config: SchedulerConfig | None = None,
        *,
        informers: InformerFactory | None = None,
        plugins: list[Plugin] | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        self.config = config or SchedulerConfig()
        self.ready = asyncio.Event()
        self._clock = clock
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client, clock)
        self._reporter = Reporter(client, clock, self.config.name)
        self._nodes = self._informers.informer("nodes")
        self._pods = self._informers.informer("pods")
        self._storage = {kind: self._informers.informer(resource) for kind, resource in _STORAGE.items()}
        chosen = plugins if plugins is not None else default_plugins(self._informers, client)
        self._plugins: list[Plugin] = [*chosen, DefaultBinder(client)]
        self._evaluator = evaluator or PlacementEvaluator(self._plugins)
        self._cache = Cache()
        self._queue = SchedulingQueue(clock, self._plugins)
        self._slots = asyncio.Semaphore(self.config.bindings_in_flight)

    # ------------------------------------------------------------------ running
    async def run(self) -> None:
        # nodes first, or pods found at the start would be tried on too few of them
        self._nodes.add_handler(self._node_added, self._node_updated, self._node_deleted)
        await self._informers.start()
        try:
            await self._informers.wait_synced()
            self._pods.add_handler(self._pod_added, self._pod_updated, self._pod_deleted)
            for kind, informer in self._storage.items():
                self._watch_storage(kind, informer)
            self.ready.set()
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._schedule(await self._queue.pop(), group)
                    # let events and bindings in between two decisions
                    await self._clock.sleep(0)
        finally:
            self.ready.clear()
            self._queue.close()
            await self._reporter.stop()
            if self._own_informers:
                await self._informers.stop()

    async def _schedule(self, entry: QueuedPod, group: asyncio.TaskGroup) -> None:
        pod = entry.pod
        if meta.is_deleting(pod.obj):
            self._reporter.failed(pod, f"skip schedule deleting pod: {pod.key}")
            self._queue.done(entry)
            return
        try:
            decision = self._evaluator.evaluate(pod, self._cache)
            if decision.diagnosis is None:
                self._cache.assume(pod, decision.node)
        except Exception as error:
            log.exception("scheduling %s failed", pod.key)
            self._give_back(entry, group, SCHEDULER_ERROR, str(error))
            return
        if decision.diagnosis is not None:
            diagnosis = decision.diagnosis
            self._post_filter(decision, pod, diagnosis)
            self._give_back(entry, group, UNSCHEDULABLE, diagnosis.message(), refused_by=diagnosis.plugins)
            return
        if failure := self._reserve(decision, pod):
            self._cache.forget(pod)
            self._give_back(entry, group, SCHEDULER_ERROR, failure)
            return
        self._queue.binding(entry)
        preparing = [
            plugin
            for plugin in self._plugins
            if isinstance(plugin, PreBind) and plugin.has_work(decision.state, pod, decision.node)
        ]
        if not preparing:
            await self._slots.acquire()
        group.create_task(self._bind(entry, pod, decision, group, preparing), name=f"scheduler binds {pod.key}")

    def _post_filter(self, decision: Decision, pod: PodInfo, diagnosis: Diagnosis) -> None:
        if not diagnosis.nodes:
            return
        said: list[str | None] = []
        for plugin in self._plugins:
            if isinstance(plugin, PostFilter):
                try:
                    said.append(plugin.post_filter(decision.state, pod, diagnosis))
                except Exception as error:
                    log.exception("making room for %s failed", pod.key)
                    said = [str(error)]
                    break
        diagnosis.added = ", ".join(filter(None, said))

    # ------------------------------------------------------------------ binding
    def _reserve(self, decision: Decision, pod: PodInfo) -> str:
        """What failed, after everything was undone; empty when all is reserved."""
        for plugin in self._plugins:
            if isinstance(plugin, Reserve):
                try:
                    plugin.reserve(decision.state, pod, decision.node)
                except Exception as error:
                    log.error("reserving for %s failed", pod.key, exc_info=error)
                    self._unreserve(decision, pod)
                    return f'running Reserve plugin "{plugin.name}": {error}'
        return ""

    def _unreserve(self, decision: Decision, pod: PodInfo) -> None:
        for plugin in reversed(self._plugins):
            if isinstance(plugin, Reserve):
                plugin.unreserve(decision.state, pod, decision.node)

    async def _bind(
        self, entry: QueuedPod, pod: PodInfo, decision: Decision, group: asyncio.TaskGroup, preparing: list[PreBind]
    ) -> None:
        """Preparing may take minutes, and holds no slot; without it the slot is held already."""
        for plugin in preparing:
            try:
                await plugin.pre_bind(decision.state, pod, decision.node)
            except Exception as error:
                self._fail_binding(entry, pod, decision, group, error, f'PreBind plugin "{plugin.name}"')
                return
        if preparing:
            await self._slots.acquire()
        binder = next(plugin for plugin in self._plugins if isinstance(plugin, Bind))
        try:
            await binder.bind(decision.state, pod, decision.node)
        except Exception as error:
            self._fail_binding(entry, pod, decision, group, error, f'Bind plugin "{binder.name}"')
        else:
            self._queue.done(entry)
            self._reporter.scheduled(pod, decision.node)
        finally:
            self._slots.release()

    def _fail_binding(
        self,
        entry: QueuedPod,
        pod: PodInfo,
        decision: Decision,
        group: asyncio.TaskGroup,
        error: Exception,
        which: str,
    ) -> None:
        if not isinstance(error, StatusError | OSError | PluginError):
            log.error("binding %s failed", pod.key, exc_info=error)
        self._unreserve(decision, pod)
        if self._cache.forget(pod):
            self._queue.happened(pod_removed(pod))
        self._give_back(entry, group, SCHEDULER_ERROR, f"running {which}: {error}")

    # ------------------------------------------------------------------ failing
    def _give_back(
        self,
        entry: QueuedPod,
        group: asyncio.TaskGroup,
        reason: str,
        message: str,
        *,
        refused_by: set[str] | frozenset[str] = frozenset(),
    ) -> None:
        """Queue the pod again, unless it is gone or somebody else gave it a node, and say why it has none."""
        pod = entry.pod
        current = self._pods.get(pod.key)
        waits = current is not None and meta.uid(current) == pod.uid and not current["spec"].get("nodeName")
        if current is not None and waits:
            changed = scheduling_facts(current) != scheduling_facts(pod.obj)
            self._queue.give_back(entry, refused_by, PodInfo(current) if changed else None)
            report = self._reporter.set_unscheduled(current, reason, message)
            group.create_task(report, name=f"scheduler reports on {pod.key}")
        else:
            self._queue.done(entry)
        self._reporter.failed(pod, message)

    # ------------------------------------------------------------------ pods
    def _pod_added(self, obj: Object) -> None:
        pod = PodInfo(obj)
        if pod.node:
            if not is_finished(obj):
                self._place(pod)
        elif self._is_mine(obj) and not is_finished(obj):
            self._queue.add(pod)

    def _pod_updated(self, old: Object, new: Object) -> None:
        if new["spec"].get("nodeName"):
            self._bound_pod_updated(old, new)
        elif self._is_mine(new):
            self._waiting_pod_updated(old, new)

    def _waiting_pod_updated(self, old: Object, new: Object) -> None:
        key = meta.key(new)
        if is_finished(new):
            self._pod_deleted(new)
        elif self._cache.is_assumed(key):
            if meta.is_deleting(new) and not meta.is_deleting(old):
                # its binding will fail, but others need not wait for that
                self._remove(key)
        elif key not in self._queue or scheduling_facts(old) != scheduling_facts(new):
            pod = PodInfo(new)
            self._queue.update(pod, list(pod_changes(PodInfo(old), pod)))

    def _bound_pod_updated(self, old: Object, new: Object) -> None:
        key = meta.key(new)
        if is_finished(new):
            self._pod_deleted(new)
        elif not old["spec"].get("nodeName"):
            self._place(PodInfo(new))
        elif scheduling_facts(old) != scheduling_facts(new) or self._cache.pod(key) is None:
            pod = PodInfo(new)
            self._cache.add_pod(pod)
            for event in pod_changes(PodInfo(old), pod):
                self._queue.happened(event)

    def _pod_deleted(self, obj: Object) -> None:
        key = meta.key(obj)
        self._queue.remove(key)
        self._remove(key)

    def _place(self, pod: PodInfo) -> None:
        """The pod was bound, by us or by somebody else."""
        self._queue.remove(pod.key)
        assumed = self._cache.pod(pod.key)
        self._cache.add_pod(pod)
        self._queue.happened(pod_placed(pod))
        if assumed is not None and assumed.node != pod.node:
            self._queue.happened(pod_removed(assumed))

    def _remove(self, key: str) -> None:
        pod = self._cache.remove_pod(key)
        if pod is not None:
            self._queue.happened(pod_removed(pod))

    def _is_mine(self, obj: Object) -> bool:
        return (obj["spec"].get("schedulerName") or "default-scheduler") == self.config.name

    # ------------------------------------------------------------------ nodes
    def _node_added(self, node: Object) -> None:
        self._cache.set_node(node)
        self._queue.happened(node_added(node))

    def _node_updated(self, old: Object, new: Object) -> None:
        self._cache.set_node(new)
        for event in node_changes(old, new):
            self._queue.happened(event)

    def _node_deleted(self, node: Object) -> None:
        self._cache.remove_node(meta.name(node))
        self._queue.happened(node_removed(node))

    # ------------------------------------------------------------------ storage
    def _watch_storage(self, kind: EventKind, informer: SharedInformer) -> None:
        def added(obj: Object) -> None:
            self._queue.happened(StorageEvent(kind, obj))

        informer.add_handler(added, lambda old, new: added(new))
