"""The scheduling loop: take the next pod, choose a node, assume it, bind it while the next one is being decided.

(kubernetes `pkg/scheduler/schedule_one.go` and `eventhandlers.go`.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Client, Object
from kubecore.client.informer import InformerFactory, SharedInformer
from kubecore.clock import Clock
from kubecore.driving import drive, taking_over
from kubecore.scheduler import pod_resources
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.evaluator import PluginEvaluator
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
from kubecore.scheduler.extender import Extender, ExtenderConfig, ExtenderError, HTTPExtender
from kubecore.scheduler.extenders import Extenders
from kubecore.scheduler.framework import (
    CycleState,
    Decision,
    Diagnosis,
    Evaluator,
    PluginError,
    PostFilter,
    PostFilterResult,
)
from kubecore.scheduler.handle import Handle
from kubecore.scheduler.metrics import ERROR, SCHEDULED, PointTimes, SchedulerMetrics
from kubecore.scheduler.metrics import UNSCHEDULABLE as NOT_SCHEDULABLE
from kubecore.scheduler.placement import evaluator_for
from kubecore.scheduler.placing import Failure, Placing
from kubecore.scheduler.plugins import Factory
from kubecore.scheduler.plugins import installed as installed_plugins
from kubecore.scheduler.pods import PodInfo, is_finished, same_scheduling_facts, scheduler_name
from kubecore.scheduler.profile import Profile
from kubecore.scheduler.profiles import ProfileConfig, make_profile
from kubecore.scheduler.queue import BackOff, Place, QueuedPod, SchedulingQueue
from kubecore.scheduler.reporting import SCHEDULER_ERROR, UNSCHEDULABLE, Reporter
from kubecore.scheduler.waiting_pods import WaitingPods

log = logging.getLogger(__name__)

_DECISIONS_IN_A_ROW = 16

_STORAGE = {
    EventKind.CLAIM: "persistentvolumeclaims",
    EventKind.VOLUME: "persistentvolumes",
    EventKind.STORAGE_CLASS: "storageclasses.storage.k8s.io",
    EventKind.CSI_NODE: "csinodes.storage.k8s.io",
    EventKind.CSI_DRIVER: "csidrivers.storage.k8s.io",
    EventKind.STORAGE_CAPACITY: "csistoragecapacities.storage.k8s.io",
    EventKind.ATTACHMENT_REMOVED: "volumeattachments.storage.k8s.io",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    profiles: tuple[ProfileConfig, ...] = (ProfileConfig(),)
    """At least one; each of another name."""
    back_off: BackOff = field(default_factory=BackOff)
    percentage: int = 0
    """Of nodes to score, where the profile does not say; 0 lets their number decide."""
    leader_election: Mapping[str, Any] = field(default_factory=dict)
    """For whoever runs the scheduler: the fields of `leaderElection` that are given."""
    extenders: tuple[ExtenderConfig, ...] = ()
    bindings_in_flight: int = 128


@dataclass(frozen=True, slots=True)
class _Lane:
    """What schedules the pods of one profile."""

    profile: Profile
    evaluator: Evaluator
    with_extenders: PluginEvaluator
    """Decides when extenders have a say, which are asked in the midst of it."""
    placing: Placing
    reporter: Reporter
    times: PointTimes


class Scheduler:
    """`ready` is set once the caches are complete and pods are being scheduled; `run` works until cancelled.

    `waiting` are the pods that Permit plugins hold, `profiles` those that pods are scheduled by, by scheduler name,
    `metrics` what may be told of all of it, and `documents`, by path, the texts to be told beside these.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        config: SchedulerConfig | None = None,
        *,
        informers: InformerFactory | None = None,
        registry: Mapping[str, Factory] | None = None,
        make_evaluator: Callable[[Profile], Evaluator] = evaluator_for,
        make_extender: Callable[[ExtenderConfig, Clock], Extender] = HTTPExtender,
    ) -> None:
        """`registry` makes plugins by name; by default those that are installed. Raises InvalidProfile."""
        self.config = config or SchedulerConfig()
        self.ready = asyncio.Event()
        self._clock = clock
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client, clock)
        self._nodes = self._informers.informer("nodes")
        self._pods = self._informers.informer("pods")
        self._storage = {kind: self._informers.informer(resource) for kind, resource in _STORAGE.items()}
        self._cache = Cache()
        self._measures = SchedulerMetrics()
        self.waiting = WaitingPods(clock)
        self._extenders = Extenders([make_extender(one, clock) for one in self.config.extenders])
        self._group: asyncio.TaskGroup | None = None
        self._go_on_binding = taking_over(lambda begun: self._spawn(begun, "scheduler binds a pod"))
        names = [name for one in self.config.profiles for _, name in one.names()]
        known = registry if registry is not None else installed_plugins(names)
        self._lanes = {one.name: self._lane(client, one, known, make_evaluator) for one in self.config.profiles}
        self.profiles = {name: lane.profile for name, lane in self._lanes.items()}
        self._queue = SchedulingQueue(clock, self.profiles, self.config.back_off)
        self._slots = asyncio.Semaphore(self.config.bindings_in_flight)
        self.metrics = self._measures.of(self._queue, self._cache)
        self.documents = {pod_resources.PATH: lambda: pod_resources.render(self._pods.list())}

    def _lane(
        self,
        client: Client,
        config: ProfileConfig,
        registry: Mapping[str, Factory],
        make_evaluator: Callable[[Profile], Evaluator],
    ) -> _Lane:
        reporter = Reporter(client, self._clock, config.name, spawn=self._spawn)
        handle = Handle(
            client=client,
            clock=self._clock,
            informers=self._informers,
            cache=self._cache,
            waiting=self.waiting,
            reporter=reporter,
            spawn=self._spawn,
            activate=lambda key: self._queue.activate(key),
            reopen=lambda key: self._queue.reopen(key),
            take_back_nomination=self._take_back_nomination,
            metrics=self._measures,
            extenders=self._extenders,
        )
        profile = make_profile(config, handle, registry, self.config.percentage)
        times = self._measures.times(config.name, self._clock)
        placing = Placing(profile, self.waiting, times, self._extenders)
        return _Lane(profile, make_evaluator(profile), PluginEvaluator(profile), placing, reporter, times)

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
            async with asyncio.TaskGroup() as self._group:
                while True:
                    for _ in range(_DECISIONS_IN_A_ROW):
                        await self._schedule(await self._queue.pop())
                    # let events and bindings in between
                    await self._clock.sleep(0)
        finally:
            self.ready.clear()
            self._queue.close()
            for lane in self._lanes.values():
                await lane.reporter.stop()
            await self._extenders.close()
            if self._own_informers:
                await self._informers.stop()

    async def flush(self) -> None:
        """Until all events recorded so far are written or given up."""
        for lane in self._lanes.values():
            await lane.reporter.flush()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        assert self._group is not None, "only while running"
        self._group.create_task(work, name=name)

    async def _schedule(self, entry: QueuedPod) -> None:
        pod = entry.pod
        lane = self._lanes[pod.scheduler_name]
        if meta.is_deleting(pod.obj):
            lane.reporter.failed(pod, f"skip schedule deleting pod: {pod.key}")
            self._queue.done(entry)
            return
        extenders = self._extenders.for_pod(pod)
        began = self._clock.monotonic()
        try:
            if extenders is None:
                decision = lane.evaluator.evaluate(pod, self._cache)
            else:
                decision = await lane.with_extenders.evaluate_with(extenders, pod, self._cache)
                if entry.place is not Place.TRYING:
                    # it has gone, or was given a node by somebody else
                    return
            self._measures.algorithm.observe(self._clock.monotonic() - began)
            # all that is decided by Rust at once, scores too
            lane.times.ended("Filter", began)
            if decision.diagnosis is None:
                self._cache.assume(pod, decision.node)
                self._take_back_nomination(pod, unless=decision.node)
        except ExtenderError as error:
            self._give_back(entry, Failure(SCHEDULER_ERROR, str(error)))
            return
        except Exception as error:
            lane.times.ended("Filter", began, "Error")
            log.exception("scheduling %s failed", pod.key)
            self._give_back(entry, Failure(SCHEDULER_ERROR, str(error)))
            return
        if decision.diagnosis is not None:
            diagnosis = decision.diagnosis
            began = self._clock.monotonic()
            nominated = await self._post_filter(lane, decision.state, pod, diagnosis)
            lane.times.ended("PostFilter", began, "Success" if nominated else "Unschedulable")
            failure = Failure(UNSCHEDULABLE, diagnosis.message(), frozenset(diagnosis.plugins))
            self._give_back(entry, failure, nominated)
            return
        if failed := lane.placing.commit(decision.state, pod, decision.node):
            self._cache.forget(pod)
            self._give_back(entry, failed)
            return
        if not lane.placing.is_waiting(pod):
            self._queue.binding(entry)
        takes_time = lane.placing.takes_time(decision.state, pod, decision.node)
        if not takes_time:
            await self._slots.acquire()
        binding = self._bind(lane, entry, pod, decision, takes_time=takes_time)
        drive(binding, self._go_on_binding)

    async def _post_filter(self, lane: _Lane, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> str | None:
        """Let plugins make room; the node that the pod is nominated for, "" for none, None for what it was."""
        if not diagnosis.nodes:
            return ""
        said: list[str] = []
        nominated: str | None = None
        for plugin in lane.profile.at(PostFilter):
            try:
                made = plugin.post_filter(state, pod, diagnosis)
                result = made if isinstance(made, PostFilterResult) else await made
            except PluginError as error:
                diagnosis.added = str(error)
                return None
            except Exception as error:
                log.exception("making room for %s failed", pod.key)
                diagnosis.added = str(error)
                return None
            if result.node:
                return result.node
            nominated = result.node if nominated is None else nominated
            if result.message:
                said.append(result.message)
        diagnosis.added = ", ".join(said)
        return nominated

    # ------------------------------------------------------------------ binding
    async def _bind(self, lane: _Lane, entry: QueuedPod, pod: PodInfo, decision: Decision, *, takes_time: bool) -> None:
        """What takes time may take minutes, and holds no slot; without it the slot is held already."""
        state, node = decision.state, decision.node
        if takes_time:
            await lane.reporter.nominate(pod.obj, node)
            failed = await lane.placing.permitted(pod)
            if failed is None:
                self._queue.binding(entry)
                failed = await lane.placing.prepare(state, pod, node)
            if failed is not None:
                self._not_bound(lane, entry, pod, decision, failed)
                return
            await self._slots.acquire()
        try:
            failure = await lane.placing.bind(state, pod, node)
        finally:
            self._slots.release()
        if not self.ready.is_set():
            # The store has answered after the end.
            return
        if failure is not None:
            self._not_bound(lane, entry, pod, decision, failure)
            return
        self._queue.done(entry)
        self._measures.concluded(entry, SCHEDULED, self._clock.monotonic())
        lane.reporter.scheduled(pod, node)
        lane.placing.bound(state, pod, node)

    def _not_bound(self, lane: _Lane, entry: QueuedPod, pod: PodInfo, decision: Decision, failure: Failure) -> None:
        lane.placing.unreserve(decision.state, pod, decision.node)
        if self._cache.forget(pod):
            self._queue.happened(pod_removed(pod))
        self._give_back(entry, failure)

    # ------------------------------------------------------------------ failing
    def _give_back(self, entry: QueuedPod, failure: Failure, nominated: str | None = "") -> None:
        """Queue the pod again, unless it is gone or somebody else gave it a node, and say why it has none.

        `nominated` is the node that it is to get once that is free; "" for none, None for what it was.
        """
        pod = entry.pod
        lane = self._lanes[pod.scheduler_name]
        result = NOT_SCHEDULABLE if failure.reason == UNSCHEDULABLE else ERROR
        self._measures.concluded(entry, result, self._clock.monotonic())
        current = self._pods.get(pod.key)
        waits = current is not None and meta.uid(current) == pod.uid and not current["spec"].get("nodeName")
        if current is not None and waits:
            changed = not same_scheduling_facts(current, pod.obj)
            self._queue.give_back(entry, failure.refused_by, PodInfo(current) if changed else None)
            if nominated is not None:
                self._cache.nominations.put(entry.pod, nominated)
            lane.reporter.set_unscheduled(current, failure.reason, failure.message, nominated=nominated)
        else:
            self._queue.done(entry)
        lane.reporter.failed(pod, failure.message, as_it_is=current if waits else None)

    # ------------------------------------------------------------------ pods
    def _pod_added(self, obj: Object) -> None:
        pod = PodInfo(obj)
        if pod.node:
            if not is_finished(obj):
                self._place(pod)
        elif self._is_mine(obj) and not is_finished(obj):
            self._cache.nominations.updated(None, pod)
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
                self._reject(new)
                self._remove(key)
        else:
            nominations, before = self._cache.nominations, PodInfo(old)
            pod = (nominations.pod(before.uid) or before).renewed(new)
            nominated = nominations.node_of(pod.uid)
            nominations.updated(before, pod)
            if nominated and nominations.node_of(pod.uid) != nominated:
                self._queue.happened(pod_removed(before), to_priority=before.priority)
            if key not in self._queue or not same_scheduling_facts(old, new):
                self._queue.update(pod, list(pod_changes(before, pod)))

    def _bound_pod_updated(self, old: Object, new: Object) -> None:
        key = meta.key(new)
        if is_finished(new):
            self._pod_deleted(new)
        elif not old["spec"].get("nodeName"):
            confirmed = self._cache.confirm(new)
            if confirmed is None:
                self._place(PodInfo(new))
            else:
                self._queue.remove(key)
                self._take_back_nomination(confirmed, unless=confirmed.node)
                self._queue.happened(pod_placed(confirmed))
        elif not same_scheduling_facts(old, new) or self._cache.pod(key) is None:
            before = self._cache.pod(key) or PodInfo(old)
            pod = before.renewed(new)
            self._cache.add_pod(pod)
            for event in pod_changes(before, pod):
                self._queue.happened(event)
        elif (old.get("status") or {}).get("startTime") != (new.get("status") or {}).get("startTime"):
            self._cache.started(new)

    def _pod_deleted(self, obj: Object) -> None:
        key = meta.key(obj)
        self._reject(obj)
        self._queue.remove(key)
        self._remove(key)
        if self._cache.nominations.node_of(meta.uid(obj)):
            self._take_back_nomination(PodInfo(obj))

    def _reject(self, obj: Object) -> None:
        """A pod that goes need not wait to be bound any more."""
        waiting = self.waiting.get(meta.uid(obj))
        if waiting is not None:
            waiting.reject("", "removed")

    def _take_back_nomination(self, pod: PodInfo, *, unless: str = "") -> None:
        """Pods of no higher priority had to leave room for the pod, unless it is the node that it got."""
        before = self._cache.nominations.remove(pod.uid)
        if before and before != unless:
            self._queue.happened(pod_removed(pod), to_priority=pod.priority)

    def _place(self, pod: PodInfo) -> None:
        """The pod was bound, by us or by somebody else."""
        self._queue.remove(pod.key)
        self._take_back_nomination(pod, unless=pod.node)
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
        return scheduler_name(obj) in self._lanes

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
        def happened(obj: Object, old: Object | None = None) -> None:
            self._queue.happened(StorageEvent(kind, obj, old))

        if kind is EventKind.ATTACHMENT_REMOVED:
            informer.add_handler(on_delete=happened)
        else:
            informer.add_handler(happened, lambda old, new: happened(new, old))
