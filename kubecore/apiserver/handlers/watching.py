"""In-process watches: one set of native subscriptions for the loop, events handed out in batches to async iterators."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from kubecore import _native
from kubecore.api.errors import StatusError

if TYPE_CHECKING:
    from kubecore.apiserver.authorization.held import HeldRight, HeldRights
    from kubecore.apiserver.storage.cacher import Cached, Cacher
    from kubecore.clock import Clock, Timer

_DRAIN = 512
# What rights come from: whoever has lost his is to hear nothing more, though nothing happens to what he watches.
_RIGHTS = tuple(
    f"{one}.rbac.authorization.k8s.io" for one in ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
)
# As apiserver's cacher.
_BOOKMARK_SECONDS = 60.0


class WatchEvent(NamedTuple):
    """ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and the object's JSON."""

    type: str
    object: bytes


class Watch:
    """Events of one watch; iterate to get them in batches. Ends after an ERROR event or `close`."""

    def __init__(self, hub: WatchHub, number: int, cached: Cached) -> None:
        self._hub = hub
        self.number = number
        self._cached, self._copy = cached, cached.number
        self._waiting: list[WatchEvent] = []
        self._wake: asyncio.Future[None] | None = None
        self._ended = False

    @property
    def outlives_its_resource(self) -> bool:
        """What it watched is not served any more, or is served anew (custom resources)."""
        return not self._hub.serves(self._cached, self._copy)

    def push(self, event: WatchEvent) -> None:
        self._waiting.append(event)
        if event.type == "ERROR":
            self._ended = True
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def next_batch(self) -> list[WatchEvent]:
        """What has come since the last call, waiting for something; empty at the end."""
        while not self._waiting and not self._ended:
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        batch, self._waiting = self._waiting, []
        return batch

    async def batches(self) -> AsyncIterator[list[WatchEvent]]:
        try:
            while batch := await self.next_batch():
                yield batch
        finally:
            self.close()

    def close(self) -> None:
        self._ended = True
        self._hub.cancel(self.number)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class WatchHub:
    """All in-process watches of a server. `rights` are told of roles and bindings."""

    def __init__(self, cacher: Cacher, clock: Clock, rights: HeldRights) -> None:
        self._cacher = cacher
        self.rights = rights
        self._native = cacher.native.subscriptions()
        self._watches: dict[int, Watch] = {}
        self._held: dict[int, HeldRight] = {}
        self._rights_watched: frozenset[int] = frozenset()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._native.fileno(), self._drain)
        self._clock = clock
        self._poll = select.poll()
        self._poll.register(self._native.fileno(), select.POLLIN)
        clock.heed(self._has_events, self._drain)
        self._timer = clock.call_later(_BOOKMARK_SECONDS, self._bookmark)
        self._watch_rights()

    def _has_events(self) -> bool:
        """Whether events wait that the loop has not heard of yet."""
        return not self._closed and bool(self._poll.poll(0))

    def query(self, key: str, query: str, namespace: str = "", name: str = "") -> Watch:
        """A watch by the query string of its request. Raises StatusError."""
        cached = self._cacher.cached(key)
        assert cached is not None, f"{key} is not stored"
        # Old paths (/api/v1/watch/...) say it in the path.
        asked = f"watch=true&{query}"
        try:
            number = self._native.watch_query(cached.number, asked, namespace or None, name or None)
        except _native.NativeStatus as refused:
            raise StatusError.from_body(refused.code, refused.body) from None
        watch = self._watches[number] = Watch(self, number, cached)
        return watch

    def serves(self, cached: Cached, copy: int) -> bool:
        """Whether that copy of a resource is the one that is served."""
        return cached.number == copy and self._cacher.cached(cached.resource.key) is cached

    def hold(self, watch: Watch, right: HeldRight) -> None:
        """The watch ends when that right has lapsed, also while nothing comes."""
        self._held[watch.number] = right
        self.rights.hold(right, watch.close)

    def _watch_rights(self) -> None:
        now = f"watch=true&resourceVersion={self._cacher.native.revision}"
        of = [cached.number for key in _RIGHTS if (cached := self._cacher.cached(key)) is not None]
        self._rights_watched = frozenset(self._native.watch_query(number, now, None, None) for number in of)

    def _renew_rights(self) -> None:
        """After one of them was ended: it had fallen too far behind."""
        if self._closed:
            return
        for number in self._rights_watched:
            self._native.cancel(number)
        self._watch_rights()
        self.rights.changed()

    def end_after(self, watch: Watch, seconds: float) -> Timer:
        """The watch ends by itself then; whoever ends it before cancels this."""
        return self._clock.call_later(max(seconds, 0), watch.close)

    def cancel(self, number: int) -> None:
        if (right := self._held.pop(number, None)) is not None:
            self.rights.release(right)
        if self._watches.pop(number, None) is not None:
            self._native.cancel(number)

    def _bookmark(self) -> None:
        """Tells those that want to know how far they are, though nothing of theirs has changed."""
        self._native.bookmark()
        self._timer = self._clock.call_later(_BOOKMARK_SECONDS, self._bookmark)

    def close(self) -> None:
        self._closed = True
        self.rights.close()
        self._timer.cancel()
        self._loop.remove_reader(self._native.fileno())
        for watch in list(self._watches.values()):
            watch.close()
        self._native.close()

    def _drain(self) -> None:
        events = self._native.drain(_DRAIN)
        find = self._watches.get
        for number, kind, _, value in events:
            watch = find(number)
            if watch is not None:
                watch.push(WatchEvent(kind, value))
                if kind == "ERROR":
                    self._watches.pop(number, None)
            elif number in self._rights_watched:
                if kind == "ERROR":
                    self._rights_watched -= {number}
                    self._loop.call_soon(self._renew_rights)
                self.rights.changed()
        if len(events) == _DRAIN:
            # Level-triggered descriptors would wake us anyway; others on the loop get their turn first.
            self._loop.call_soon(self._drain)
