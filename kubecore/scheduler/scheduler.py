"""The scheduling loop: take the next pod, choose a node, assume it, bind it while the next one is being decided.

(kubernetes `pkg/scheduler/schedule_one.go` and `eventhandlers.go`.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object
from kubecore.client.events import EventRecorder
from kubecore.client.informer import InformerFactory
from kubecore.clock import Clock
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.framework import (
    Bind,
    ClusterEvent,
    Decision,
    Diagnosis,
    Evaluator,
    Plugin,
    PluginEvaluator,
    PostFilter,
    PreEnqueue,
    Reserve,
)
from kubecore.scheduler.plugins import default_plugins
from kubecore.scheduler.plugins.default_binder import DefaultBinder
from kubecore.scheduler.pods import PodInfo, amounts, is_finished
from kubecore.scheduler.queue import QueuedPod, SchedulingQueue

log = logging.getLogger(__name__)


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
        self._client = client
        self._clock = clock
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client, clock)
        self._recorder = EventRecorder(client, clock, self.config.name)
        self._nodes = self._informers.informer("nodes")
        self._pods = self._informers.informer("pods")
        self._plugins = plugins if plugins is not None else default_plugins(self._informers)
        self._plugins.append(DefaultBinder(client))
        self._by_name = {plugin.name: plugin for plugin in self._plugins}
        self._evaluator = evaluator or PluginEvaluator(self._plugins)
        self._cache = Cache()
        self._queue = SchedulingQueue(clock, self._wakes)
        self._slots = asyncio.Semaphore(self.config.bindings_in_flight)

    # ------------------------------------------------------------------ running
    async def run(self) -> None:
        # nodes first, or pods found at the start would be tried on too few of them
        self._nodes.add_handler(self._node_added, self._node_updated, self._node_deleted)
        await self._informers.start()
        try:
            await self._informers.wait_synced()
            self._pods.add_handler(self._pod_added, self._pod_updated, self._pod_deleted)
            self.ready.set()
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._schedule(await self._queue.pop(), group)
        finally:
            self._queue.close()
            if self._own_informers:
                await self._informers.stop()

    async def _schedule(self, entry: QueuedPod, group: asyncio.TaskGroup) -> None:
        pod = entry.pod
        if meta.is_deleting(pod.obj) or self._cache.has_pod(pod.key):
            self._queue.done(entry)
            return
        try:
            decision = self._evaluator.evaluate(pod, self._cache)
        except Exception:
            log.exception("scheduling %s failed", pod.key)
            self._queue.give_back(entry, ())
            return
        if decision.diagnosis is not None:
            self._post_filter(decision, pod, decision.diagnosis)
            self._queue.give_back(entry, decision.diagnosis.plugins)
            group.create_task(self._report(pod, decision.diagnosis), name=f"scheduler reports on {pod.key}")
            # let events and bindings in between two decisions
            await self._clock.sleep(0)
            return
        self._cache.assume(pod, decision.node)
        await self._slots.acquire()
        group.create_task(self._bind(entry, decision), name=f"scheduler binds {pod.key}")
        await self._clock.sleep(0)

    def _post_filter(self, decision: Decision, pod: PodInfo, diagnosis: Diagnosis) -> None:
        for plugin in self._plugins:
            if isinstance(plugin, PostFilter):
                diagnosis.added = plugin.post_filter(decision.state, pod, diagnosis) or diagnosis.added

    # ------------------------------------------------------------------ binding
    async def _bind(self, entry: QueuedPod, decision: Decision) -> None:
        pod, node = entry.pod, decision.node
        reserved: list[Reserve] = []
        try:
            for plugin in self._plugins:
                if isinstance(plugin, Reserve):
                    reserved.insert(0, plugin)
                    plugin.reserve(decision.state, pod, node)
            for plugin in self._plugins:
                if isinstance(plugin, Bind):
                    await plugin.bind(decision.state, pod, node)
                    break
        except Exception as error:
            for one in reserved:
                one.unreserve(decision.state, pod, node)
            self._cache.forget(pod)
            self._queue.happened(ClusterEvent.POD_REMOVED)
            await self._binding_failed(entry, error)
        else:
            self._queue.done(entry)
            message = f"Successfully assigned {pod.key} to {node}"
            self._recorder.event(pod.obj, "Normal", "Scheduled", message, action="Binding")
        finally:
            self._slots.release()

    async def _binding_failed(self, entry: QueuedPod, error: Exception) -> None:
        pod = entry.pod
        if errors.is_not_found(error):
            self._queue.done(entry)
            return
        if isinstance(error, StatusError | OSError):
            log.warning("binding %s: %s", pod.key, error)
        else:
            log.error("binding %s failed", pod.key, exc_info=error)
        self._queue.give_back(entry, ())
        message = f"running Bind plugin: {error}"
        self._recorder.event(pod.obj, "Warning", "FailedScheduling", message, action="Scheduling")

    async def _report(self, pod: PodInfo, diagnosis: Diagnosis) -> None:
        """Say in an event and in the pod's PodScheduled condition why there is no node for it."""
        message = diagnosis.message()
        self._recorder.event(pod.obj, "Warning", "FailedScheduling", message, action="Scheduling")
        await self._set_condition(pod, "Unschedulable", message)

    async def _set_condition(self, pod: PodInfo, reason: str, message: str) -> None:
        current = self._pods.get(pod.key) or pod.obj
        known = next((c for c in _conditions(current) if c["type"] == "PodScheduled"), None)
        if known is not None and (known.get("reason"), known.get("message")) == (reason, message):
            return
        since = meta.format_time(self._clock.now())
        if known is not None and known["status"] == "False":
            since = known.get("lastTransitionTime") or since
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }
        patch = {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch("pods", meta.name(pod.obj), patch, pod.namespace, subresource="status")
        except StatusError as error:
            if not errors.is_not_found(error) and not errors.is_conflict(error):
                log.warning("status of %s: %s", pod.key, error.message)
        except OSError as error:
            log.warning("status of %s: %s", pod.key, error)

    # ------------------------------------------------------------------ pods
    def _pod_added(self, obj: Object) -> None:
        pod = PodInfo(obj)
        if pod.node:
            self._queue.remove(pod.key)
            if not is_finished(obj):
                self._cache.add_pod(pod)
                self._queue.happened(ClusterEvent.POD_PLACED)
        elif self._is_mine(obj):
            self._queue.add(pod, gated=self._is_gated(pod))

    def _pod_updated(self, old: Object, new: Object) -> None:
        if new["spec"].get("nodeName"):
            self._bound_pod_updated(old, new)
        elif not self._is_mine(new):
            self._queue.remove(meta.key(new))
        elif not self._cache.is_assumed(meta.key(new)) and (
            meta.key(new) not in self._queue or _scheduling_facts(old) != _scheduling_facts(new)
        ):
            pod = PodInfo(new)
            self._queue.update(pod, gated=self._is_gated(pod))

    def _bound_pod_updated(self, old: Object, new: Object) -> None:
        key = meta.key(new)
        if is_finished(new):
            if self._cache.has_pod(key):
                self._cache.remove_pod(key)
                self._queue.happened(ClusterEvent.POD_REMOVED)
            return
        bound_now = not old["spec"].get("nodeName")
        if bound_now or _scheduling_facts(old) != _scheduling_facts(new):
            self._queue.remove(key)
            self._cache.add_pod(PodInfo(new))
            self._queue.happened(ClusterEvent.POD_PLACED)
            if not bound_now:
                self._queue.happened(ClusterEvent.POD_REMOVED)

    def _pod_deleted(self, obj: Object) -> None:
        key = meta.key(obj)
        self._queue.remove(key)
        if self._cache.has_pod(key):
            self._cache.remove_pod(key)
            self._queue.happened(ClusterEvent.POD_REMOVED)

    def _is_mine(self, obj: Object) -> bool:
        name = obj["spec"].get("schedulerName") or "default-scheduler"
        return name == self.config.name and not is_finished(obj) and not meta.is_deleting(obj)

    def _is_gated(self, pod: PodInfo) -> bool:
        return any(plugin.pre_enqueue(pod) for plugin in self._plugins if isinstance(plugin, PreEnqueue))

    # ------------------------------------------------------------------ nodes
    def _node_added(self, node: Object) -> None:
        self._cache.set_node(node)
        self._queue.happened(ClusterEvent.NODE_ADDED)

    def _node_updated(self, old: Object, new: Object) -> None:
        self._cache.set_node(new)
        for event in node_events(old, new):
            self._queue.happened(event)

    def _node_deleted(self, node: Object) -> None:
        self._cache.remove_node(meta.name(node))

    def _wakes(self, plugin: str) -> frozenset[ClusterEvent]:
        return self._by_name[plugin].wakes


def node_events(old: Object, new: Object) -> Iterator[ClusterEvent]:
    """What of a node changed that matters to scheduling."""
    before, after = old.get("status") or {}, new.get("status") or {}
    if before.get("allocatable") != after.get("allocatable") and amounts(before.get("allocatable")) != amounts(
        after.get("allocatable")
    ):
        yield ClusterEvent.NODE_RESOURCES
    if meta.labels(old) != meta.labels(new):
        yield ClusterEvent.NODE_LABELS
    if any(old["spec"].get(name) != new["spec"].get(name) for name in ("taints", "unschedulable")):
        yield ClusterEvent.NODE_TAINTS


def _conditions(pod: Object) -> list[Object]:
    return (pod.get("status") or {}).get("conditions") or []


def _scheduling_facts(pod: Object) -> tuple[object, ...]:
    return (pod["spec"], meta.labels(pod), meta.uid(pod), meta.is_deleting(pod))
