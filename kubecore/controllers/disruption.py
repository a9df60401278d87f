"""Works out how many pods of each PodDisruptionBudget may be evicted now. (kubernetes `pkg/controller/disruption`.)"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.api.selectors import Selector, as_go_prints
from kubecore.client.client import Object
from kubecore.controllers import conditions, pods
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.int_or_percent import scaled
from kubecore.controllers.label_index import by_labels, having

log = logging.getLogger(__name__)

BUDGETS = "poddisruptionbudgets.policy"
_DELETION_TIMEOUT = timedelta(minutes=2)
"""An eviction that was granted counts as under way for so long; the pod should be going by then."""
_STALE = timedelta(minutes=2)
"""A pod marked as a disruption's target that is not going by then is none any more."""
_POD = "pod:"
"""Starts the keys of pods whose mark may be stale; all others are budgets'."""
_CONDITION = "DisruptionAllowed"
_WORKLOADS = {
    "ReplicaSet": "replicasets.apps",
    "Deployment": "deployments.apps",
    "StatefulSet": "statefulsets.apps",
    "ReplicationController": "replicationcontrollers",
}
_UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of "
    "the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please "
    'set ".spec.minAvailable" field of the PDB to an integer value.'
)


class NoScale(Exception):
    """It cannot be told how many pods there should be; the message says why."""


@dataclass(frozen=True, slots=True)
class Expected:
    """How many pods there should be and how many of them healthy; `unmanaged` names those nobody controls."""

    pods: int
    healthy: int
    unmanaged: Sequence[str] = ()


class DisruptionController(Controller):
    """Keys are budgets, and pods behind a prefix."""

    name = "disruption-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder("controllermanager")
        self._budgets = self.informer(BUDGETS)
        self._pods = self.informer("pods")
        self._workloads = {kind: self.informer(resource) for kind, resource in _WORKLOADS.items()}
        by_labels(self._pods)
        self._selectors: dict[str, Selector] = {}
        """By key of a budget: each event of a pod asks all of its namespace."""
        self._budgets.add_handler(self._budget_seen, lambda _, new: self._budget_seen(new), self._budget_gone)
        self._pods.add_handler(self._pod_seen, self._pod_updated, self._pod_seen)
        for informer in self._workloads.values():
            self.enqueue_on_change(informer, self._keys_of_workload)

    # ------------------------------------------------------------------ books
    def _budget_seen(self, budget: Object) -> None:
        self._selectors[meta.key(budget)] = Selector.from_label_selector(budget["spec"].get("selector"))
        self.enqueue(budget)

    def _budget_gone(self, budget: Object) -> None:
        self._selectors.pop(meta.key(budget), None)

    def _pod_seen(self, pod: Object) -> None:
        keys = self._selecting(meta.namespace(pod), meta.labels(pod))
        for key in keys:
            self.queue.add(key)
        if len(keys) > 1:
            self._tell_of_several(pod, keys)
        if _marked_since(pod) is not None:
            self.queue.add(_POD + meta.key(pod))

    def _tell_of_several(self, pod: Object, keys: Sequence[str]) -> None:
        """All of them are counted anew here; the words are upstream's, which goes on with one."""
        _, chosen = meta.split_key(keys[0])
        told = (
            f'Pod "{meta.namespace(pod)}"/"{meta.name(pod)}" matches multiple PodDisruptionBudgets.  '
            f'Chose "{chosen}" arbitrarily.'
        )
        self._recorder.event(pod, "Warning", "MultiplePodDisruptionBudgets", told)

    def _pod_updated(self, old: Object, new: Object) -> None:
        self._pod_seen(new)
        if meta.labels(old) != meta.labels(new):
            self._pod_seen(old)

    def _keys_of_workload(self, workload: Object) -> Iterable[str]:
        """Those whose pods the workload makes: its scale counts."""
        labels = ((workload["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
        return self._selecting(meta.namespace(workload), labels)

    def _selecting(self, namespace: str, labels: dict[str, str]) -> list[str]:
        """Keys of the budgets that select what has these labels."""
        if not self._selectors:
            return []
        keys = map(meta.key, self._budgets.list(namespace))
        return [key for key in keys if self._selectors[key].matches(labels)]

    # ------------------------------------------------------------------ sync
    async def sync(self, key: str) -> float | None:
        if key.startswith(_POD):
            return await self._clear_stale_mark(key.removeprefix(_POD))
        budget = self._budgets.get(key)
        if budget is None:
            return None
        selector = self._selectors[key]
        mine = [pod for pod in self._candidates(budget) if selector.matches(meta.labels(pod))]
        if not mine:
            self._recorder.event(budget, "Normal", "NoPods", "No matching pods found")
        try:
            expected = await self._expected(budget, mine)
        except (NoScale, ValueError, StatusError) as error:
            if isinstance(error, StatusError) and errors.is_conflict(error):
                raise
            await self._close(budget, error)
            return None
        if expected.unmanaged:
            text = _UNMANAGED.format(as_go_prints(budget["spec"].get("selector") or {}))
            self._recorder.event(budget, "Warning", "UnmanagedPods", text)
        now = self.clock.now()
        granted, recheck = self._under_way(budget, mine, now)
        healthy = sum(
            1 for pod in mine if not meta.is_deleting(pod) and meta.name(pod) not in granted and pods.is_ready(pod)
        )
        await self._write(budget, self._status(budget, expected, healthy, granted))
        return recheck

    def _candidates(self, budget: Object) -> list[Object]:
        """All pods that the budget may select, if not many more."""
        namespace, wanted = meta.namespace(budget), (budget["spec"].get("selector") or {}).get("matchLabels")
        return having(self._pods, namespace, wanted) if wanted else self._pods.list(namespace)

    def _under_way(self, budget: Object, mine: Iterable[Object], now: datetime) -> tuple[dict[str, str], float | None]:
        """Evictions that were granted and not seen yet, with their time; and when the next of them is given up."""
        granted, waits = {}, []
        disrupted = (budget.get("status") or {}).get("disruptedPods") or {}
        for pod in mine:
            since = disrupted.get(meta.name(pod))
            if since is None or meta.is_deleting(pod):
                continue
            rest = meta.parse_time(since) + _DELETION_TIMEOUT - now
            if rest <= timedelta(0):
                told = f"Pod was expected by PDB {meta.key(budget)} to be deleted but it wasn't"
                self._recorder.event(pod, "Warning", "NotDeleted", told)
            else:
                granted[meta.name(pod)] = since
                waits.append(rest.total_seconds())
        return granted, min(waits, default=None)

    def _status(self, budget: Object, expected: Expected, healthy: int, granted: dict[str, str]) -> Object:
        allowed = max(healthy - expected.healthy, 0) if expected.pods > 0 else 0
        status: Object = {
            "currentHealthy": healthy,
            "desiredHealthy": expected.healthy,
            "expectedPods": expected.pods,
            "disruptionsAllowed": allowed,
            "observedGeneration": meta.generation(budget),
        }
        if granted:
            status["disruptedPods"] = granted
        reason = "SufficientPods" if allowed else "InsufficientPods"
        generation = meta.generation(budget)
        status["conditions"] = self._conditions(budget, generation, allowed=bool(allowed), reason=reason)
        return status

    def _conditions(
        self, budget: Object, generation: int, *, allowed: bool, reason: str, message: str = ""
    ) -> list[Object]:
        made: Object = {
            "type": _CONDITION,
            "status": "True" if allowed else "False",
            "lastTransitionTime": meta.format_time(self.clock.now()),
            "reason": reason,
            "message": message,
            "observedGeneration": generation,
        }
        if not generation:
            del made["observedGeneration"]
        return conditions.put((budget.get("status") or {}).get("conditions") or [], made)

    async def _close(self, budget: Object, error: Exception) -> None:
        """Nothing may be evicted while it is not known what there should be."""
        told = error.message if isinstance(error, StatusError) else str(error)
        text = f"Failed to calculate the number of expected pods: {told}"
        self._recorder.event(budget, "Warning", "CalculateExpectedPodCountFailed", text)
        status = {"currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0, **(budget.get("status") or {})}
        status["disruptionsAllowed"] = 0
        # of the generation that was counted last, which the status still tells of
        counted = status.get("observedGeneration") or 0
        status["conditions"] = self._conditions(budget, counted, allowed=False, reason="SyncFailed", message=told)
        await self._write(budget, status)

    async def _write(self, budget: Object, status: Object) -> None:
        if status != budget.get("status"):
            await self.client.update(BUDGETS, {**budget, "status": status}, subresource="status")

    # ------------------------------------------------------------------ what there should be
    async def _expected(self, budget: Object, mine: Sequence[Object]) -> Expected:
        spec = budget["spec"]
        unavailable, available = spec.get("maxUnavailable"), spec.get("minAvailable")
        if unavailable is None and not isinstance(available, str):
            return Expected(len(mine) if available is not None else 0, int(available or 0))
        count, unmanaged = await self._scale(mine)
        if unavailable is not None:
            return Expected(count, max(count - scaled(unavailable, count, up=True), 0), unmanaged)
        return Expected(count, scaled(available, count, up=True), unmanaged)

    async def _scale(self, mine: Iterable[Object]) -> tuple[int, list[str]]:
        """What all controllers of the pods together should have, and the pods without one."""
        scales: dict[str, int] = {}
        asked: set[str] = set()
        unmanaged = []
        for pod in mine:
            reference = meta.controller_of(pod)
            if reference is None:
                unmanaged.append(meta.name(pod))
            elif reference["uid"] not in asked:
                asked.add(reference["uid"])
                found = await self._scale_of(reference, meta.namespace(pod))
                if found is None:
                    raise NoScale(f'found no controllers for pod "{meta.name(pod)}"')
                scales[found[0]] = found[1]
        return sum(scales.values()), unmanaged

    async def _scale_of(self, reference: Object, namespace: str) -> tuple[str, int] | None:
        """Uid and scale of the controller, or of the Deployment behind a ReplicaSet; None when it is gone."""
        kind = reference["kind"]
        resource = self.client.resource_for_kind(reference["apiVersion"], kind)
        if resource is None:
            raise NoScale(f'no matches for kind "{kind}" in version "{reference["apiVersion"]}"')
        if _WORKLOADS.get(kind) != resource.key:
            return await self._scale_of_others(resource, reference, namespace)
        found = self._workloads[kind].get(f"{namespace}/{reference['name']}")
        if found is None or meta.uid(found) != reference["uid"]:
            return None
        above = meta.controller_of(found)
        if kind == "ReplicaSet" and above is not None and above["kind"] == "Deployment":
            return await self._scale_of(above, namespace)
        replicas = found["spec"].get("replicas")
        return meta.uid(found), 1 if replicas is None else replicas

    async def _scale_of_others(self, resource: Any, reference: Object, namespace: str) -> tuple[str, int] | None:
        if "scale" not in resource.subresources:
            raise NoScale(f"{resource.key} does not implement the scale subresource")
        scale = await self.client.find(resource.key, reference["name"], namespace, subresource="scale")
        if scale is None or meta.uid(scale) != reference["uid"]:
            return None
        return meta.uid(scale), scale["spec"].get("replicas") or 0

    # ------------------------------------------------------------------ marks
    async def _clear_stale_mark(self, key: str) -> float | None:
        pod = self._pods.get(key)
        since = _marked_since(pod) if pod is not None else None
        if pod is None or since is None:
            return None
        now = self.clock.now()
        rest = (since + _STALE - now).total_seconds()
        if rest > 0:
            return rest
        unmarked = conditions.of_pod(pod, "DisruptionTarget", "False", now)
        status = {**pod["status"], "conditions": conditions.put(pod["status"]["conditions"], unmarked)}
        await self.client.update("pods", {**pod, "status": status}, subresource="status")
        return None


def _marked_since(pod: Object) -> datetime | None:
    """Since when the pod is to be disrupted without that anything came of it."""
    mark = conditions.find(pod, "DisruptionTarget")
    if mark is None or mark["status"] != "True" or mark.get("reason") == "TerminationByKubelet":
        return None
    if meta.is_deleting(pod) or pods.is_finished(pod):
        return None
    return meta.parse_time(mark["lastTransitionTime"])
