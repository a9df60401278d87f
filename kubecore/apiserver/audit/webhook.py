"""Sends audit events to a webhook, many at once.

After upstream k8s.io/apiserver `plugin/pkg/audit/{buffered,webhook}`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from kubecore.api.kubeconfig import Kubeconfig
from kubecore.apiserver.audit.bounding import Bucket, truncated
from kubecore.apiserver.webhooks.reviewing import Reviewer, ReviewFailed

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.audit.options import WebhookOptions
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

_HEAD = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['


class AuditWebhook:
    """`run` sends what comes; once it is cancelled, `finish` sends what is left."""

    def __init__(self, native: _native.Audit, options: WebhookOptions, clock: Clock) -> None:
        """Raises KubeconfigError, OSError, ValueError for a file that does not do."""
        assert options.config_file is not None
        self._options = options
        self._clock = clock
        self._there = asyncio.Event()
        self.outbox = native.outbox(options.buffer, self._there.set)
        config = Kubeconfig.load(options.config_file)
        self._reviewer = Reviewer(config, clock, first_pause=options.back_off)
        self._bucket = Bucket(options.rate, options.burst, clock) if options.rate else None

    async def run(self) -> None:
        while True:
            await self._send(await self._collected())

    async def _collected(self) -> list[bytes]:
        """As many as go at once, or what has come in the time that may pass."""
        batch = self._options.batch
        while not (events := self.outbox.collect(batch)):
            self._there.clear()
            await self._there.wait()
        until = self._clock.monotonic() + self._options.wait
        while len(events) < batch and (left := until - self._clock.monotonic()) > 0:
            if more := self.outbox.collect(batch - len(events)):
                events += more
                continue
            self._there.clear()
            try:
                async with self._clock.timeout(left):
                    await self._there.wait()
            except TimeoutError:
                break
        return events

    async def _send(self, events: list[bytes]) -> None:
        for batch in truncated(events, self._options) if self._options.event_bytes else [events]:
            if self._bucket is not None:
                await self._bucket.take()
            await self._post(batch)

    async def _post(self, events: list[bytes]) -> None:
        body = _HEAD + b",".join(event.rstrip(b"\n") for event in events) + b"]}"
        try:
            await self._reviewer.send(body)
        except ReviewFailed as error:
            log.error("%d audit events were not sent: %s", len(events), error)

    async def finish(self) -> None:
        while events := self.outbox.collect(self._options.batch):
            await self._send(events)
        await self._reviewer.close()
