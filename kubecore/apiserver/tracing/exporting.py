"""Sends spans to a collector, many at once, by OTLP over gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kubecore.apiserver.tracing.otlp import METHOD, encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc.aio

    from kubecore.apiserver.tracing.spans import Span, Value
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

# Those of OpenTelemetry's batching processor.
_WAITING, _BATCH, _DELAY, _PATIENCE = 2048, 512, 5.0, 10.0
_LAST_PATIENCE = 3.0


class Exporter:
    """What there is no room for is lost, and so is what the collector does not take in time. `run` sends until it is
    cancelled, `finish` what is left."""

    def __init__(self, endpoint: str, clock: Clock, resource: Mapping[str, Value], scope: str) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._resource, self._scope = resource, scope
        self._spans: deque[Span] = deque(maxlen=_WAITING)
        self._enough = asyncio.Event()
        self._channel: grpc.aio.Channel | None = None
        self._failing = False

    def keep(self, span: Span) -> None:
        if len(self._spans) < _WAITING:
            self._spans.append(span)
        if len(self._spans) >= _BATCH:
            self._enough.set()

    async def run(self) -> None:
        await self._connected()
        while True:
            try:
                async with self._clock.timeout(_DELAY):
                    await self._enough.wait()
            except TimeoutError:
                pass
            self._enough.clear()
            await self._send_all()

    async def finish(self) -> None:
        if self._spans:
            # However many there are: the store is closed after this.
            await self._connected()
            with suppress(TimeoutError):
                async with self._clock.outside(_LAST_PATIENCE):
                    await self._send_all()
        if self._channel is not None:
            await self._channel.close()

    async def _send_all(self) -> None:
        while self._spans:
            channel = await self._connected()
            batch = [self._spans.popleft() for _ in range(min(_BATCH, len(self._spans)))]
            try:
                async with self._clock.outside(_PATIENCE):
                    await channel.unary_unary(METHOD)(encoded(batch, self._resource, self._scope))
            except Exception as error:
                # Once and not for each batch: a collector may be away for long.
                if not self._failing:
                    log.warning("traces are not taken by %s: %s", self._endpoint, _told(error))
                self._failing = True
                return
            self._failing = False

    async def _connected(self) -> grpc.aio.Channel:
        """How long it takes to load grpc is not the collector's patience."""
        if self._channel is None:
            aio = await asyncio.to_thread(_load)
            self._channel = self._channel or aio.insecure_channel(self._endpoint)
        return self._channel


def _load() -> Any:
    import grpc.aio

    return grpc.aio


def _told(error: Exception) -> str:
    details = getattr(error, "details", None)
    return (details() if callable(details) else "") or str(error) or type(error).__name__
