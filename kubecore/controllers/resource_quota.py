"""Counts what each ResourceQuota's namespace uses, and says so in its status.

(kubernetes `pkg/controller/resourcequota`.) The API server charges quotas as objects are made; this controller sets
what is charged against (`status.hard`), and counts anew when something that counts has gone or counts for less, and
every few minutes. It watches what some quota limits, and nothing else: without quotas it costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from kubecore.api import amounts, meta, scheme
from kubecore.api.amounts import Amounts
from kubecore.api.quota.claims import status_counts
from kubecore.api.quota.evaluator import Evaluator, in_scopes, requirements
from kubecore.api.quota.evaluators import Evaluators
from kubecore.api.quota.pods import PodEvaluator, charged_until, is_terminating
from kubecore.api.quota.services import charged_type
from kubecore.client.client import Object
from kubecore.client.discovery import custom_resources
from kubecore.client.informer import SharedInformer
from kubecore.client.reflector import Reflector
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.gc_graph import Metadata, decode_metadata

_RECOUNT_SECONDS = 2.5
"""What a count may have missed, the next one sees: writes under way, and what the server would not let it lower."""
_SYNC_SECONDS = 10.0
_BATCH_SECONDS = 0.1
"""What goes within this time is counted together: each count looks at all that is left."""

_DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
_DISCOVERY = "discovery"
_DISCOVERY_DELAY_SECONDS = 0.1


class ResourceQuotaController(Controller):
    """Keys are quotas, and "discovery"."""

    name = "resourcequota-controller"
    queue_name = "resourcequota_primary"
    workers = 5

    def __init__(self, context: ControllerContext, *, sync_seconds: float = 300.0) -> None:
        """`sync_seconds` 0: nothing is counted anew just because time has passed."""
        super().__init__(context)
        self._sync_seconds = sync_seconds
        self._evaluators = Evaluators(context.clock)
        self._quotas = self.informer("resourcequotas")
        self._quotas.add_handler(self.enqueue, self._quota_changed)
        self._informers: dict[str, SharedInformer] = {}
        self._counters: dict[str, _Counter] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _quota_changed(self, old: Object, new: Object) -> None:
        # what was charged to it is no news
        if old.get("spec") != new.get("spec"):
            self.enqueue(new)

    # ------------------------------------------------------------------ sync
    async def sync(self, key: str) -> float | None:
        if key == _DISCOVERY:
            await self._rediscover()
            return None
        quota = self._quotas.get(key)
        if quota is None:
            return None
        hard = amounts.parse((quota.get("spec") or {}).get("hard"))
        evaluators = [one for one in self._evaluators.for_names(hard) if await self._watch(one)]
        # what was waited for may have changed it
        quota = self._quotas.get(key)
        if quota is None:
            return None
        status = quota.get("status") or {}
        known = amounts.parse(status.get("used"))
        used = amounts.masked({**known, **self._count(quota, hard, evaluators)}, hard)
        told = amounts.same(hard, amounts.parse(status.get("hard"))) and (not hard or "used" in status)
        if told and amounts.same(used, known):
            period = [self._sync_seconds] if self._sync_seconds else []
            return min([*period, *self._ends(quota, evaluators)], default=None)
        counted = {**quota, "status": {"hard": amounts.render(hard), "used": amounts.render(used)}}
        await self.client.update("resourcequotas", counted, subresource="status")
        return _RECOUNT_SECONDS

    def _count(self, quota: Object, hard: Amounts, evaluators: Iterable[Evaluator]) -> Amounts:
        """What is used of each name that something counts against."""
        namespace = meta.namespace(quota)
        scoped = any(True for _ in requirements(quota))
        total: Amounts = {}
        for evaluator in evaluators:
            names = evaluator.matching(hard)
            found = dict.fromkeys(names, amounts.ZERO)
            informer = self._informers.get(evaluator.resource_key)
            if informer is not None:
                for obj in informer.list(namespace):
                    if in_scopes(evaluator, quota, obj):
                        amounts.accumulate(found, evaluator.usage(obj))
            elif not scoped:
                # what is only counted is in no scope
                number = self._counters[evaluator.resource_key].of(namespace)
                found = dict.fromkeys(names, amounts.units(number))
            total.update(amounts.masked(found, names))
        return total

    # ------------------------------------------------------------------ watching
    async def _watch(self, evaluator: Evaluator) -> bool:
        """Whether objects of the resource can be counted: they are watched from now on. False for unknown ones."""
        key = evaluator.resource_key
        if type(evaluator) is not Evaluator:
            await self._informer(evaluator).wait_synced()
            return True
        if key not in self._counters and not await self._start_counter(key):
            return False
        try:
            async with self.clock.timeout(_SYNC_SECONDS):
                await self._counters[key].synced.wait()
        except TimeoutError:
            # gone between discovery and the list; the others can be counted
            return False
        return True

    def _informer(self, evaluator: Evaluator) -> SharedInformer:
        key = evaluator.resource_key
        informer = self._informers.get(key)
        if informer is None:
            informer = self._informers[key] = self.informers.informer(key)
            informer.add_handler(None, self._watcher(evaluator), lambda obj: self._replenish(evaluator, obj))
        return informer

    def _watcher(self, evaluator: Evaluator) -> Callable[[Object, Object], None]:
        """Of updates after which an object may count for less, or in another scope."""

        def updated(old: Object, new: Object) -> None:
            if isinstance(evaluator, PodEvaluator):
                self._wait_for_end(evaluator, old, new)
                less = evaluator.is_charged(old) and not evaluator.is_charged(new)
                changed = less or is_terminating(old) != is_terminating(new) or _sizes(old) != _sizes(new)
            elif evaluator.resource_key == "services":
                changed = charged_type(old) != charged_type(new)
            else:
                changed = evaluator.resource_key == "persistentvolumeclaims" and status_counts(new, old)
            if changed:
                self._replenish(evaluator, new)

        return updated

    def _wait_for_end(self, evaluator: Evaluator, old: Object, new: Object) -> None:
        """A pod whose node does not end it counts no more once its time is over."""
        ends = charged_until(new)
        if ends is not None and ends != charged_until(old):
            for quota in self._concerned(evaluator, meta.namespace(new)):
                self.queue.add_after(meta.key(quota), self._seconds_after(ends))

    def _ends(self, quota: Object, evaluators: Iterable[Evaluator]) -> list[float]:
        """In how many seconds each of the pods that are being deleted counts no more."""
        if not any(isinstance(one, PodEvaluator) for one in evaluators):
            return []
        ends = map(charged_until, self._informers["pods"].list(meta.namespace(quota)))
        return [left for end in ends if end is not None and (left := self._seconds_after(end)) > 0]

    def _seconds_after(self, end: datetime) -> float:
        return (end - self.clock.now()).total_seconds() + 1.0

    def _replenish(self, evaluator: Evaluator, obj: Object) -> None:
        self.replenish(evaluator.resource_key, meta.namespace(obj))

    def replenish(self, resource_key: str, namespace: str) -> None:
        """Count anew, soon, what quotas of the namespace limit of this resource."""
        for quota in self._concerned(self._evaluators.of(resource_key), namespace):
            self.queue.add_after(meta.key(quota), _BATCH_SECONDS)

    def _concerned(self, evaluator: Evaluator, namespace: str) -> list[Object]:
        quotas = self._quotas.list(namespace)
        return [one for one in quotas if evaluator.matching((one.get("spec") or {}).get("hard") or ())]

    async def _start_counter(self, key: str) -> bool:
        """False for a resource that is not served (yet), or has no namespaces."""
        if not scheme.default().knows(key):
            self._follow_definitions()
            served, _ = await custom_resources(self.client)
            if not any(resource.key == key for resource in served):
                return False
        resource = self.client.resource(key)
        if not resource.namespaced or not {"list", "watch"} <= resource.verbs:
            return False
        if key not in self._counters:
            self._counters[key] = _Counter(lambda namespace: self.replenish(key, namespace))
            self._run_counter(key, self._counters[key])
        return True

    def _run_counter(self, key: str, counter: _Counter) -> None:
        reflector = Reflector(self.client, self.clock, key, counter, decode_metadata)
        self._tasks[key] = asyncio.create_task(reflector.run(), name=f"{self.name} watches {key}")

    def _follow_definitions(self) -> None:
        """From the first quota on that limits what is not built in."""
        if _DEFINITIONS not in self._counters:
            changed = self._counters[_DEFINITIONS] = _Counter(None, self._definitions_changed)
            self._run_counter(_DEFINITIONS, changed)

    def _definitions_changed(self) -> None:
        self.queue.add_after(_DISCOVERY, _DISCOVERY_DELAY_SECONDS)

    async def _rediscover(self) -> None:
        """Counts custom resources that are new, and lets go of those that are served no more."""
        served, failed = await custom_resources(self.client)
        keys = {resource.key for resource in served}
        if not failed:
            for key in [key for key in self._counters if key not in keys and not scheme.default().knows(key)]:
                del self._counters[key]
                self._tasks.pop(key).cancel()
        for quota in self._quotas.list():
            evaluators = self._evaluators.for_names((quota.get("spec") or {}).get("hard") or ())
            if not all(scheme.default().knows(one.resource_key) for one in evaluators):
                self.enqueue(quota)


class _Counter:
    """How many objects of one resource each namespace has, and who hears of those that go."""

    def __init__(self, gone: Callable[[str], None] | None, changed: Callable[[], None] | None = None) -> None:
        self._gone = gone
        self._changed = changed
        self._namespaces: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self.synced = asyncio.Event()

    def of(self, namespace: str) -> int:
        return self._counts[namespace]

    def replace(self, items: Sequence[Metadata]) -> None:
        before = self._counts
        self._namespaces = {item.uid: item.namespace for item in items}
        self._counts = Counter(self._namespaces.values())
        self.synced.set()
        for namespace, count in before.items():
            if count > self._counts[namespace]:
                self._tell(namespace)

    def apply(self, type: str, item: Metadata) -> None:
        if type != "DELETED":
            if item.uid not in self._namespaces:
                self._namespaces[item.uid] = item.namespace
                self._counts[item.namespace] += 1
        elif self._namespaces.pop(item.uid, None) is not None:
            self._counts[item.namespace] -= 1
            self._tell(item.namespace)
        if self._changed is not None:
            self._changed()

    def _tell(self, namespace: str) -> None:
        if self._gone is not None:
            self._gone(namespace)


def _sizes(pod: Object) -> list[object]:
    """What the node has given the pod's containers."""
    status = pod.get("status") or {}
    return [
        (one.get("name"), one.get("resources"))
        for kind in ("containerStatuses", "initContainerStatuses")
        for one in status.get(kind) or ()
    ]
