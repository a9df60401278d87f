"""Deletes pods that do not tolerate their node's NoExecute taints, at once or after their tolerationSeconds.

(kubernetes `pkg/controller/tainteviction`.) The time runs from the taint's timeAdded, so that a restart loses none of
it; a taint that somebody put there without one counts from when it was seen.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.api.taints import tolerates
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers import conditions, pods
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.nodes.node_lifecycle import NODE_INDEX, pod_node
from kubecore.metrics import Counter, Histogram, Named

Taint = dict[str, Any]

_DELETIONS = "[ALPHA] Total number of Pods deleted by TaintEvictionController since its start."
_LATENCY = (
    "[ALPHA] Latency, in seconds, between the time when a taint effect has been activated for the Pod and its "
    "deletion via TaintEvictionController."
)
_LATENCY_BOUNDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0)


class TaintEvictionController(Controller):
    """Keys are pods."""

    name = "taint-eviction-controller"
    queue_name = "noexec_taint_pod"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder(self.name)
        self._deletions = Counter(Named("taint_eviction_controller_pod_deletions_total", _DELETIONS))
        latency = Named("taint_eviction_controller_pod_deletion_duration_seconds", _LATENCY)
        self._latency = Histogram(latency, _LATENCY_BOUNDS)
        self.metrics = (self._deletions, self._latency)
        self._nodes = self.informer("nodes")
        self._pods = self.informer("pods")
        self._pods.add_index(NODE_INDEX, pod_node, of=Of.SPEC)
        self._nodes.add_handler(self._node_changed, self._node_updated)
        self._pods.add_handler(self._pod_added, self._pod_updated, self._pod_deleted)
        self._scheduled: dict[str, datetime] = {}  # pods that will have to go, since when that is known

    def _node_updated(self, old: Object, new: Object) -> None:
        if no_execute(old) != no_execute(new):
            self._node_changed(new)

    def _node_changed(self, node: Object) -> None:
        for pod in self._pods.by_index(NODE_INDEX, meta.name(node)):
            if no_execute(node) or meta.key(pod) in self._scheduled:
                self.enqueue(pod)

    def _pod_added(self, pod: Object) -> None:
        """Nothing is to be done on a node without such taints; when it gets one, its pods are looked at."""
        node = self._nodes.get(pods.node_name(pod))
        if node is not None and (no_execute(node) or meta.key(pod) in self._scheduled):
            self.enqueue(pod)

    def _pod_updated(self, old: Object, new: Object) -> None:
        same = pods.node_name(old) == pods.node_name(new)
        if not same or old["spec"].get("tolerations") != new["spec"].get("tolerations"):
            self._pod_added(new)

    def _pod_deleted(self, pod: Object) -> None:
        self._cancel(pod)

    def _cancel(self, pod: Object) -> None:
        """What was to be done later is done now, or not at all."""
        if self._scheduled.pop(meta.key(pod), None) is not None:
            message = f"Cancelling deletion of Pod {meta.key(pod)}"
            self._recorder.event(pod, "Normal", "TaintManagerEviction", message)

    async def sync(self, key: str) -> float | None:
        pod = self._pods.get(key)
        node = self._nodes.get(pods.node_name(pod)) if pod is not None else None
        if pod is None or node is None or meta.is_deleting(pod):
            return None
        now, taints = self.clock.now(), no_execute(node)
        due = eviction_due(pod, taints, now, seen=self._scheduled.get(key, now))
        if due is None or not all(_toleration(pod, taint) for taint in taints):
            self._cancel(pod)
        if due is None:
            return None
        if due > 0:
            self._scheduled.setdefault(key, now)
            return due
        await self._evict(pod, late=-due)
        return None

    async def _evict(self, pod: Object, *, late: float) -> None:
        key = meta.key(pod)
        self._recorder.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {key}")
        message = "Taint manager: deleting due to NoExecute taint"
        target = conditions.of_pod(pod, "DisruptionTarget", "True", self.clock.now(), "DeletionByTaintManager", message)
        status = pod.get("status") or {}
        status = {**status, "conditions": conditions.put(status.get("conditions") or [], target)}
        try:
            await self.client.update("pods", {**pod, "status": status}, subresource="status")
            await self.client.delete("pods", meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
            self._deletions.add()
            self._latency.observe(late)
        except StatusError as error:
            if not errors.is_not_found(error):
                raise
        self._scheduled.pop(key, None)


def no_execute(node: Object) -> list[Taint]:
    return [taint for taint in node["spec"].get("taints") or () if taint["effect"] == "NoExecute"]


def eviction_due(pod: Object, taints: list[Taint], now: datetime, *, seen: datetime) -> float | None:
    """Seconds until the pod must go (0 or less: now); None while it may stay for ever. `seen`: since when taints have
    been there that do not say it themselves."""
    due: list[float] = []
    for taint in taints:
        chosen = _toleration(pod, taint)
        if chosen is None:
            return 0.0
        limit = chosen.get("tolerationSeconds")
        if limit is not None:
            since = meta.parse_time(taint["timeAdded"]) if taint.get("timeAdded") else seen
            due.append(limit - (now - since).total_seconds())
    return min(due, default=None)


def _toleration(pod: Object, taint: Taint) -> Object | None:
    """As for the scheduler, the first that tolerates the taint decides."""
    return next((one for one in pod["spec"].get("tolerations") or () if tolerates(one, taint)), None)
