"""Tells what became of a pod: events, and its PodScheduled condition."""

from __future__ import annotations

import logging

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object
from kubecore.client.events import EventRecorder
from kubecore.clock import Clock
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
    def __init__(self, client: Client, clock: Clock, name: str) -> None:
        self._client = client
        self._clock = clock
        self._recorder = EventRecorder(client, clock, name)

    def scheduled(self, pod: PodInfo, node: str) -> None:
        message = f"Successfully assigned {pod.namespace}/{meta.name(pod.obj)} to {node}"
        self._recorder.event(pod.obj, "Normal", "Scheduled", message, action="Binding")

    def failed(self, pod: PodInfo, message: str) -> None:
        if len(message) > _LONGEST_NOTE:
            message = message[: _LONGEST_NOTE - 4] + " ..."
        self._recorder.event(pod.obj, "Warning", "FailedScheduling", message, action="Scheduling")

    async def stop(self) -> None:
        await self._recorder.stop()

    async def set_unscheduled(self, pod: Object, reason: str, message: str) -> None:
        """Set the pod's condition PodScheduled to False. Never raises."""
        known = meta.condition(pod, "PodScheduled")
        was_false = known is not None and known.get("status") == "False"
        if known is not None and was_false and (known.get("reason"), known.get("message")) == (reason, message):
            return
        since = known.get("lastTransitionTime") if known is not None and was_false else None
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "lastTransitionTime": since or meta.format_time(self._clock.now()),
            "observedGeneration": meta.generation(pod),
            "reason": reason,
            "message": message,
        }
        if not condition["observedGeneration"]:
            del condition["observedGeneration"]
        # the uid keeps it off another pod of the same name
        patch = {"metadata": {"uid": meta.uid(pod)}, "status": {"conditions": [condition]}}
        try:
            await self._patch(pod, patch)
        except StatusError as error:
            if not errors.is_not_found(error) and not errors.is_conflict(error):
                log.warning("status of %s: %s", meta.key(pod), error.message)
        except OSError as error:
            log.warning("status of %s: %s", meta.key(pod), error)
        except Exception:
            log.exception("status of %s", meta.key(pod))

    async def _patch(self, pod: Object, patch: Object) -> None:
        delay = _FIRST_RETRY_SECONDS
        for left in reversed(range(_TRIES)):
            try:
                await self._client.patch("pods", meta.name(pod), patch, meta.namespace(pod), subresource="status")
                return
            except (StatusError, ConnectionRefusedError) as error:
                passing = isinstance(error, OSError) or error.code in (500, 503)
                if not passing or not left:
                    raise
            await self._clock.sleep(delay)
            delay *= 5
