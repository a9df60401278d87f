"""Keeps a sink at the server's state: list once, then watch, resume, and list anew only when the server forgot."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import orjson

from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.client.transport import WatchEvent
from kubecore.clock import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

# client-go: 0.8 s doubling to 30 s; the server is asked to end a watch after 5 to 10 minutes so that a dead
# connection is noticed at last, where there is one.
_BACK_OFF_SECONDS = 0.8
_BACK_OFF_MAXIMUM = 30.0
_HEALTHY_AFTER_SECONDS = 120.0
_WATCH_SECONDS = 300


class Sink(Protocol[T_contra]):
    """What a reflector fills. Called on the event loop, must not block and must not raise."""

    def replace(self, items: Sequence[T_contra]) -> None:
        """The whole state, after a list."""
        ...

    def apply(self, type: str, item: T_contra) -> None:
        """One change after the state: ADDED, MODIFIED or DELETED."""
        ...


class _Meta(msgspec.Struct):
    resourceVersion: str = ""


class _Head(msgspec.Struct):
    metadata: _Meta


_HEAD = msgspec.json.Decoder(_Head)


class Reflector(Generic[T]):
    """Runs until cancelled; every failure is logged and retried with jittered back-off through the clock.

    `decode` makes a sink's item of an object's JSON bytes, for items of a list (which lack kind and apiVersion) and of
    events alike, so that a sink that needs metadata only never builds the rest.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        resource: str,
        sink: Sink[T],
        decode: Callable[[bytes], T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self._client = client
        self._clock = clock
        self._resource = resource
        self._sink = sink
        self._decode = decode
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._resource_version = ""
        self._failures = 0
        self._rested: asyncio.Event | None = None
        """Set once it may try again, while it waits for that."""

    async def run(self) -> None:
        while True:
            started = self._clock.monotonic()
            try:
                if not self._resource_version:
                    await self._list()
                if await self._watch():
                    self._failures = 0
                    continue
            except StatusError as error:
                if errors.is_gone(error):
                    self._resource_version = ""
                log.debug("watch of %s: %s", self._resource, error.message)
                if errors.is_gone(error) and self._failures == 0:
                    self._failures = 1
                    continue
            except (OSError, TimeoutError) as error:
                log.warning("watch of %s: %s", self._resource, error)
            except Exception:
                # a bug in a sink or a decoder must not end the component: start from a fresh list
                self._resource_version = ""
                log.exception("watch of %s failed", self._resource)
            if self._clock.monotonic() - started > _HEALTHY_AFTER_SECONDS:
                self._failures = 0
            await self._back_off()

    async def _back_off(self) -> None:
        seconds = min(_BACK_OFF_SECONDS * 2.0**self._failures, _BACK_OFF_MAXIMUM)
        self._failures = min(self._failures + 1, 16)
        self._rested = rested = asyncio.Event()
        timer = self._clock.call_later(seconds * random.uniform(1.0, 2.0), rested.set)
        try:
            await rested.wait()
        finally:
            timer.cancel()
            self._rested = None

    def refresh(self) -> bool:
        """Lists at once where it waits to try again after a failure; whether it does."""
        if self._rested is None:
            return False
        self._resource_version = ""
        self._rested.set()
        return True

    async def _list(self) -> None:
        found = await self._client.list_raw(
            self._resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        self._sink.replace([self._decode(item) for item in found.items])
        self._resource_version = found.resource_version

    async def _watch(self) -> bool:
        """Follow one watch to its end; True if it was a useful one, which may be followed by the next at once."""
        started = self._clock.monotonic()
        # A watch of this process ends where its next event is forgotten, which no bookmark helps against: all informers
        # would wake each minute for nothing.
        is_near = self._client.is_near(self._resource)
        received = False
        stream = self._client.watch(
            self._resource,
            self._namespace,
            resource_version=self._resource_version,
            timeout_seconds=None if is_near else random.randint(_WATCH_SECONDS, 2 * _WATCH_SECONDS),
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            bookmarks=not is_near,
        )
        try:
            async for batch in stream:
                received = True
                self._receive(batch)
        finally:
            await _close(stream)
        return received or self._clock.monotonic() - started >= 1.0

    def _receive(self, batch: Sequence[WatchEvent]) -> None:
        """The version that the next watch goes on from is read of the last event alone that got through."""
        last: WatchEvent | None = None
        apply, decode = self._sink.apply, self._decode
        try:
            for event in batch:
                kind = event.type
                if kind == "ERROR":
                    raise StatusError.from_status(orjson.loads(event.object))
                if kind != "BOOKMARK":
                    apply(kind, decode(event.object))
                last = event
        finally:
            if last is not None:
                self._resource_version = _HEAD.decode(last.object).metadata.resourceVersion


async def _close(stream: AsyncIterator[Any]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
