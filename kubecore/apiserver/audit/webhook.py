"""Sends audit events to a webhook, many at once.

After upstream k8s.io/apiserver `plugin/pkg/audit/{buffered,webhook}`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from kubecore.api.kubeconfig import Kubeconfig
from kubecore.apiserver.audit.bounding import Bucket, truncated
from kubecore.apiserver.webhooks.reviewing import Reviewer, ReviewFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubecore import _native
    from kubecore.apiserver.audit.options import WebhookOptions
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

_HEAD = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['


class AuditWebhook:
    """`run` sends what comes; once it is cancelled, `finish` sends what is left."""

    def __init__(
        self,
        native: _native.Audit,
        options: WebhookOptions,
        clock: Clock,
        *,
        seen: Callable[[Sequence[bytes]], None] | None = None,
    ) -> None:
        """`seen` is told of events as they come. Raises KubeconfigError, OSError, ValueError for a file that does not
        do."""
        assert options.config_file is not None
        self._options = options
        self._clock = clock
        self._seen = seen
        self._there = asyncio.Event()
        self.outbox = native.outbox(options.buffer, self._there.set)
        config = Kubeconfig.load(options.config_file)
        # Events are not to be lost because nobody listens yet.
        self._reviewer = Reviewer(config, clock, first_pause=options.back_off, insists=True)
        # Events that a batch is made of, batches that are complete, and the one that is under way.
        self._taken: list[bytes] = []
        self._batches: deque[list[bytes]] = deque()
        self._posting: asyncio.Task[None] | None = None
        self._bucket = Bucket(options.rate, options.burst, clock) if options.rate else None

    async def run(self) -> None:
        while True:
            await self._gather()
            await self._send_taken()

    async def _gather(self) -> None:
        """Takes as many as go at once, or what has come in the time that may pass."""
        batch = self._options.batch
        while not self._taken and not self._take(batch):
            self._there.clear()
            await self._there.wait()
        until = self._clock.monotonic() + self._options.wait
        while len(self._taken) < batch and (left := until - self._clock.monotonic()) > 0:
            if self._take(batch - len(self._taken)):
                continue
            self._there.clear()
            try:
                async with self._clock.timeout(left):
                    await self._there.wait()
            except TimeoutError:
                break

    def _take(self, most: int) -> bool:
        """Whether there was something."""
        events = self.outbox.collect(most)
        self._taken += events
        if self._seen is not None:
            self._seen(events)
        return bool(events)

    async def _send_taken(self) -> None:
        """All of it; where that is broken off, `finish` goes on."""
        options, taken = self._options, self._taken
        self._batches += truncated(taken, options) if options.event_bytes else [taken] if taken else []
        self._taken = []
        while self._batches:
            if self._bucket is not None:
                await self._bucket.take()
            post = self._post(self._batches.popleft())
            self._posting = asyncio.get_running_loop().create_task(post, name="audit events")
            await asyncio.shield(self._posting)

    async def _post(self, events: list[bytes]) -> None:
        body = _HEAD + b",".join(event.rstrip(b"\n") for event in events) + b"]}"
        try:
            await self._reviewer.send(body)
        except ReviewFailed as error:
            log.error("%d audit events were not sent: %s", len(events), error)

    async def finish(self) -> None:
        if self._posting is not None:
            await self._posting
        while self._batches or self._taken or self._take(self._options.batch):
            await self._send_taken()
        await self._reviewer.close()
