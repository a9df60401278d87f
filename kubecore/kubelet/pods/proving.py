"""Containers without probes, which are ready as soon as they are believed to run."""

from __future__ import annotations

import math
from collections.abc import Callable

from kubecore.clock import Clock, Timer
from kubecore.kubelet.pods.records import ContainerRecord

_PROBES = frozenset({"startupProbe", "readinessProbe"})
_SECONDS, _AGAIN_SECONDS = 0.03, 1.0


class Proving:
    """Of one pod. `changed` is called when one has become ready."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._proofs: dict[str, tuple[float, Timer]] = {}
        self._names: dict[str, str] = {}

    def watch(self, record: ContainerRecord) -> None:
        """Without probes it is ready once it runs. But one that ends at once must not be called ready, or a Deployment
        takes it for available: it is to run for a moment first, and for longer when it ended soon before, when it is
        told as ended meanwhile (`doubted`). Upstream sees starts and ends a second late, by its relists."""
        if record.kind not in ("sidecar", "main") or not _PROBES.isdisjoint(record.spec) or record.ready:
            return
        container_id = record.id

        def proven() -> None:
            self._forget(container_id)
            record.ready = True
            self._changed()

        seconds = _AGAIN_SECONDS if record.ended_soon else _SECONDS
        self._proofs[container_id] = (seconds, self._clock.call_later(seconds, proven))
        self._names[container_id] = record.name

    @property
    def doubted(self) -> frozenset[str]:
        """Names of those that have been started again and may end as soon as they did before."""
        return frozenset(self._names[one] for one, (seconds, _) in self._proofs.items() if seconds > _SECONDS)

    @property
    def soon(self) -> bool:
        """Some container will be ready in a moment, unless it ends; `changed` is called then."""
        return any(seconds <= _SECONDS for seconds, _ in self._proofs.values())

    def take(self, record: ContainerRecord) -> None:
        """It is ready if it would be in a moment."""
        seconds, timer = self._proofs.get(record.id, (math.inf, None))
        if timer is not None and seconds <= _SECONDS:
            self._forget(record.id)
            record.ready = True

    def ended(self, container_id: str) -> None:
        if container_id in self._proofs:
            self._forget(container_id)

    def _forget(self, container_id: str) -> None:
        self._proofs.pop(container_id)[1].cancel()
        del self._names[container_id]

    def close(self) -> None:
        for _, timer in self._proofs.values():
            timer.cancel()
        self._proofs.clear()
        self._names.clear()
