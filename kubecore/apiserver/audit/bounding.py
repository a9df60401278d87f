"""What keeps a receiver of audit events from getting too much: by size, and by time.

After upstream k8s.io/apiserver `plugin/pkg/audit/{truncate,buffered}`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from kubecore.apiserver.audit.options import WebhookOptions
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

_TRUNCATED = "audit.k8s.io/truncated"
_WITH_OBJECTS = ("Request", "RequestResponse")


class Bucket:
    """Tokens that come back at `rate` a second, `burst` of them at most."""

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens = float(burst)
        self._since = clock.monotonic()

    async def take(self) -> None:
        """One token, waiting until it is there."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._since) * self._rate)
        self._since = now
        self._tokens -= 1
        if self._tokens < 0:
            await self._clock.sleep(-self._tokens / self._rate)


def truncated(events: Sequence[bytes], options: WebhookOptions) -> Iterator[list[bytes]]:
    """The events in batches, neither larger than they may be. What does not fit at all is told in the log."""
    batch: list[bytes] = []
    size = 0
    for event in events:
        fitting = _fitting(event, options.event_bytes)
        if fitting is None:
            log.error("an audit event is too large even after truncating")
            continue
        if batch and size + len(fitting) > options.batch_bytes:
            yield batch
            batch, size = [], 0
        batch.append(fitting)
        size += len(fitting)
    if batch:
        yield batch


def _fitting(event: bytes, limit: int) -> bytes | None:
    """The event, without its objects if need be."""
    if len(event) <= limit:
        return event
    told = orjson.loads(event)
    if told.get("level") not in _WITH_OBJECTS:
        return None
    for field in ("requestObject", "responseObject"):
        told.pop(field, None)
    told["annotations"] = {**(told.get("annotations") or {}), _TRUNCATED: "true"}
    smaller = orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
    return smaller if len(smaller) <= limit else None
