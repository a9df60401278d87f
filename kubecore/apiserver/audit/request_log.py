"""Log entries of requests, each with its id, where the log is to have them (`-v 3`).

They are made of audit events, since the front answers most requests alone: all there are without a policy of the
audit, else those that it wants to hear of. After upstream k8s.io/apiserver pkg/server/httplog.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver.requests")

POLICY = b'{"rules":[{"level":"Metadata","omitStages":["RequestReceived","ResponseStarted"]}]}'
"""By which all requests are told of, once."""
LONGEST_ID = 64
"""Of a request, whatever its client says: what is more is not logged."""
_WAITING, _AT_ONCE = 10_000, 256
_ENDS = ("ResponseComplete", "Panic")
_MILLISECOND = timedelta(milliseconds=1)


def is_wanted() -> bool:
    """By its own level alone: whoever has everything logged that there is, as an embedding program or pytest may, has
    not asked for every request."""
    return logging.NOTSET < log.level <= logging.DEBUG


def tell(events: Sequence[bytes]) -> None:
    """An entry for each event that is the end of a request."""
    for event in map(orjson.loads, events):
        if event["stage"] in _ENDS:
            log.debug("HTTP", extra={"values": _values(event)})


def _values(event: dict[str, Any]) -> dict[str, Any]:
    took = _time(event, "stageTimestamp") - _time(event, "requestReceivedTimestamp")
    return {
        "verb": event["verb"].upper(),
        "URI": event["requestURI"],
        "latency": f"{took / _MILLISECOND:.3f}ms",
        "userAgent": event.get("userAgent") or "",
        "audit-ID": event["auditID"][:LONGEST_ID],
        "srcIP": (event.get("sourceIPs") or [""])[-1],
        "user": (event.get("user") or {}).get("username") or "",
        "resp": (event.get("responseStatus") or {}).get("code") or 0,
    }


def _time(event: dict[str, Any], name: str) -> datetime:
    return datetime.fromisoformat(event[name])


class RequestLog:
    """Where no webhook comes for the events."""

    def __init__(self, native: _native.Audit, clock: Clock) -> None:
        self._clock = clock
        self._there = asyncio.Event()
        self.outbox = native.outbox(_WAITING, self._there.set)

    async def run(self) -> None:
        while True:
            self._there.clear()
            while events := self.outbox.collect(_AT_ONCE):
                tell(events)
                # The front may answer faster than this logs.
                await self._clock.sleep(0)
            await self._there.wait()

    def flush(self) -> None:
        """At the end, when nobody asks any more."""
        while events := self.outbox.collect(_AT_ONCE):
            tell(events)
