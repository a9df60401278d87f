"""Since when what is told of a Service's endpoints has been so, which their consumers measure their own delay by.

(kubernetes `endpointslice/util/trigger_time_tracker.go`.)
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from kubecore.api import meta
from kubecore.client.client import Object

TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(slots=True)
class _Seen:
    """The times of the last look. RFC 3339 in whole seconds, so that they compare as they are."""

    service: str
    pods: dict[str, str]


class TriggerTimes:
    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def since(self, service: Object, pods: Sequence[Object]) -> str:
        """When the first of what is new since the last look began: a pod's being ready or not, or the Service. Nothing
        if no such change brought us here, as when a pod has gone.
        """
        key, made = meta.key(service), service["metadata"].get("creationTimestamp") or ""
        times = {meta.name(pod): _ready_since(pod) for pod in pods}
        before, self._seen[key] = self._seen.get(key), _Seen(made, times)
        if before is None:
            return made
        new = [time for name, time in times.items() if time > before.pods.get(name, "")]
        if made > before.service:
            new.append(made)
        return min(new, default="")

    def forget(self, key: str) -> None:
        self._seen.pop(key, None)


def annotate(annotations: MutableMapping[str, str], since: str) -> None:
    if since:
        annotations[TRIGGER_ANNOTATION] = since
    else:
        annotations.pop(TRIGGER_ANNOTATION, None)


def _ready_since(pod: Object) -> str:
    return (meta.condition(pod, "Ready") or {}).get("lastTransitionTime") or ""
