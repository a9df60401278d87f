"""Tells what became of a pod: events, and its PodScheduled condition."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.amendment import Amendment
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object, Outcomes
from kubecore.client.event_series import SeriesRecorder
from kubecore.clock import Clock
from kubecore.scheduler.amending import PodAmender
from kubecore.scheduler.pods import PodInfo

log = logging.getLogger(__name__)

UNSCHEDULABLE = "Unschedulable"
"""No node fits."""
SCHEDULER_ERROR = "SchedulerError"
"""The scheduler failed, or the server refused the binding."""

_LONGEST_NOTE = 1024
_TRIES = 4
_FIRST_RETRY_SECONDS = 0.01


class Reporter:
    """`spawn` runs a coroutine, which does not raise, beside whoever reports, under that name."""

    def __init__(
        self, client: Client, clock: Clock, name: str, *, spawn: Callable[[Coroutine[Any, Any, None], str], None]
    ) -> None:
        self._client = client
        self._clock = clock
        self._spawn = spawn
        self._amending = PodAmender(client, spawn)
        self._recorder = SeriesRecorder(client, clock, name)
        self._shown: dict[str, str] = {}
        """By uid, the nominated node that was written for a pod whose binding is under way."""

    def scheduled(self, pod: PodInfo, node: str) -> None:
        self._shown.pop(pod.uid, None)
        message = f"Successfully assigned {pod.namespace}/{meta.name(pod.obj)} to {node}"
        self._recorder.event(pod.obj, "Normal", "Scheduled", message, action="Binding")

    def failed(self, pod: PodInfo, message: str, *, as_it_is: Object | None = None) -> None:
        """`as_it_is`: the pod with what was reported since it was queued, which makes this an event of its own."""
        self._shown.pop(pod.uid, None)
        if len(message) > _LONGEST_NOTE:
            message = message[: _LONGEST_NOTE - 4] + " ..."
        self._recorder.event(as_it_is or pod.obj, "Warning", "FailedScheduling", message, action="Scheduling")

    def preempted(self, victim: PodInfo, by: PodInfo, node: str) -> None:
        message = f"Preempted by pod {by.uid} on node {node}"
        self._recorder.event(victim.obj, "Normal", "Preempted", message, action="Preempting", related=by.obj)

    async def take_away(self, pods: Sequence[Object], reason: str, message: str) -> list[Exception | None]:
        """Set the pods' condition DisruptionTarget and delete them; how it failed, for each."""
        if not pods:
            return []
        amendments = [
            Amendment(meta.namespace(pod), meta.name(pod), meta.uid(pod), condition, goes=True)
            for pod in pods
            if (condition := self._disruption(pod, reason, message)) is not None
        ]
        outcomes = await self._amending.outcomes(amendments) if len(amendments) == len(pods) else None
        if outcomes is None:
            return await asyncio.gather(*(self._take_away(pod, reason, message) for pod in pods))
        return [
            await self._take_away(pod, reason, message) if _passes(outcome) else _failure(outcome)
            for pod, outcome in zip(pods, outcomes, strict=True)
        ]

    async def _take_away(self, pod: Object, reason: str, message: str) -> Exception | None:
        try:
            await self.disrupted(pod, reason, message)
            await self._client.delete("pods", meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except Exception as error:
            return error
        return None

    async def disrupted(self, pod: Object, reason: str, message: str) -> None:
        """Set the pod's condition DisruptionTarget. Raises StatusError and OSError."""
        condition = self._disruption(pod, reason, message)
        if condition is not None:
            patch = {"metadata": {"uid": meta.uid(pod)}, "status": meta.condition_patch(pod, condition)}
            await self._patch(pod, patch)

    def _disruption(self, pod: Object, reason: str, message: str) -> Object | None:
        """None where the pod has that condition."""
        known = meta.condition(pod, "DisruptionTarget") or {}
        if (known.get("status"), known.get("reason"), known.get("message")) == ("True", reason, message):
            return None
        return self._condition(pod, "DisruptionTarget", "True", reason, message)

    async def flush(self) -> None:
        """Until all events recorded so far are written or given up."""
        await self._recorder.flush()

    async def stop(self) -> None:
        await self._recorder.stop()

    def set_unscheduled(self, pod: Object, reason: str, message: str, *, nominated: str | None = None) -> None:
        """Have the pod's condition PodScheduled set to False, and the node it is nominated for unless that is None."""
        members: dict[str, str | None] = {}
        shown = self._shown.pop(meta.uid(pod), None) or (pod.get("status") or {}).get("nominatedNodeName") or ""
        if nominated is not None and nominated != shown:
            members["nominatedNodeName"] = nominated or None
        known = meta.condition(pod, "PodScheduled") or {}
        if (known.get("status"), known.get("reason"), known.get("message")) != ("False", reason, message):
            condition = self._condition(pod, "PodScheduled", "False", reason, message)
            one = Amendment(meta.namespace(pod), meta.name(pod), meta.uid(pod), condition, members)
            self._amending.ask([one], lambda outcomes: self._condition_set(pod, one, outcomes))
        elif members:
            self._patch_beside(pod, members)

    def _condition_set(self, pod: Object, one: Amendment, outcomes: Outcomes | None) -> None:
        if outcomes is None or _passes(outcomes[0]):
            self._patch_beside(pod, {**one.status, **meta.condition_patch(pod, one.condition)})
        elif failure := _failure(outcomes[0]):
            _tell(pod, failure)

    def _patch_beside(self, pod: Object, status: Object) -> None:
        self._spawn(self._patch_status(pod, status), f"scheduler reports on {meta.key(pod)}")

    async def nominate(self, pod: Object, node: str) -> None:
        """Show the node that the pod is about to get, or with "" that none is kept for it. Never raises."""
        if node != ((pod.get("status") or {}).get("nominatedNodeName") or ""):
            if node:
                self._shown[meta.uid(pod)] = node
            await self._patch_status(pod, {"nominatedNodeName": node or None})

    def _condition(self, pod: Object, kind: str, status: str, reason: str, message: str) -> Object:
        now = meta.format_time(self._clock.now())
        condition = {
            "type": kind,
            "status": status,
            "lastTransitionTime": meta.transition_time(meta.condition(pod, kind), status, now),
            "observedGeneration": meta.generation(pod),
            "reason": reason,
            "message": message,
        }
        if not condition["observedGeneration"]:
            del condition["observedGeneration"]
        return condition

    async def _patch_status(self, pod: Object, status: Object) -> None:
        """Never raises."""
        # the uid keeps it off another pod of the same name
        patch = {"metadata": {"uid": meta.uid(pod)}, "status": status}
        try:
            await self._patch(pod, patch)
        except Exception as error:
            _tell(pod, error)

    async def _patch(self, pod: Object, patch: Object) -> None:
        delay = _FIRST_RETRY_SECONDS
        for left in reversed(range(_TRIES)):
            try:
                await self._client.patch_raw("pods", meta.name(pod), patch, meta.namespace(pod), subresource="status")
                return
            except (StatusError, ConnectionRefusedError) as error:
                if not _passes(error) or not left:
                    raise
            await self._clock.sleep(delay)
            delay *= 5


def _passes(error: bytes | Exception) -> bool:
    """Whether it may well succeed a moment later."""
    return isinstance(error, ConnectionRefusedError) or (isinstance(error, StatusError) and error.code in (500, 503))


def _failure(outcome: bytes | Exception) -> Exception | None:
    return None if isinstance(outcome, bytes) else outcome


def _tell(pod: Object, failure: Exception) -> None:
    """That the pod's status could not be written, unless the pod has gone or become another one."""
    if errors.is_not_found(failure) or errors.is_conflict(failure):
        return
    if isinstance(failure, StatusError):
        log.warning("status of %s: %s", meta.key(pod), failure.message)
    elif isinstance(failure, OSError):
        log.warning("status of %s: %s", meta.key(pod), failure)
    else:
        log.error("status of %s", meta.key(pod), exc_info=failure)
