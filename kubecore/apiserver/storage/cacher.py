"""The watch cache fed from the store: what was committed is readable before its write is answered.

Facade of `_native.WatchCache` for Python. `Cacher.feed` is what the store's writer thread feeds, without the GIL; reads
come from the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubecore import _native
from kubecore.api.errors import StatusError
from kubecore.apiserver.storage.empty_objects import empty_objects
from kubecore.apiserver.storage.interface import DELETE, Event, Storage, Stored
from kubecore.clock import RealClock, native_clock

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource, Scheme
    from kubecore.clock import Clock

log = logging.getLogger(__name__)

ROOT = "/registry/"
# Objects of a custom resource that are made to be shown while everybody waits: some milliseconds.
_AT_ONCE = 256
_LOOKS = 4

NativeEvent = tuple[int, int, str, int, bytes]
NativeEvents = list[NativeEvent]


@dataclass(slots=True, eq=False)
class Cached:
    """A stored resource as the cache knows it: its number there and the prefix of its keys in the store.

    A resource that is replaced keeps this object, with another number. `normalize` makes of stored bytes what readers
    are to see (custom resources, whose schemas change); keys of objects that it changed are `outdated` until they are
    written again.
    """

    number: int
    prefix: str
    resource: Resource
    feed: _native.Feed
    normalize: Callable[[bytes], bytes] | None = None

    @property
    def outdated(self) -> set[str]:
        return self.feed.outdated(self.prefix)

    def is_outdated(self, key: str) -> bool:
        return self.feed.is_outdated(self.prefix, key)

    def as_shown(self, key: str, value: bytes) -> bytes:
        if self.normalize is None:
            return value
        try:
            return self.normalize(value)
        except ValueError:
            log.exception("%s cannot be read as its definition says", key)
            return value

    def load(self, stored: Iterable[tuple[str, int, bytes]]) -> tuple[list[tuple[str, int, bytes]], list[str]]:
        """Of what is stored, (key, revision, value) each: (name, revision, value) as shown, and the keys of those that
        are outdated."""
        skip = len(self.prefix)
        items, outdated = [], []
        for key, revision, value in stored:
            made = self.as_shown(key, value)
            if made != value:
                outdated.append(key)
            items.append((key[skip:], revision, made))
        return items, outdated


class Cacher:
    """Registers resources with the watch cache, fills it at start, and passes commits on to it (an EventSink)."""

    def __init__(self, clock: Clock | None = None) -> None:
        """`clock`, the system's by default, is that by which events grow too old to be kept."""
        self._clock = clock or RealClock()
        self.native = _native.WatchCache(clock=None if clock is None else native_clock(clock))
        self.feed = _native.Feed(self.native)
        self._by_prefix: dict[str, Cached] = {}
        self._by_key: dict[str, Cached] = {}

    def register_all(self, scheme: Scheme, fields: dict[str, list[tuple[str, str]]]) -> None:
        """Every resource that is stored; `fields` are the selectable ones by group resource."""
        keys = scheme.keys()
        for key in keys:
            resource = scheme.storage(key)
            if resource.key == key and "create" in resource.verbs and "get" in resource.verbs:
                self.register(resource, scheme.versions(key), fields.get(key, []))
        for key in keys:
            stored = self._by_key.get(scheme.storage(key).key)
            if stored is not None:
                self._by_key.setdefault(key, stored)

    def register(
        self,
        resource: Resource,
        versions: Sequence[str],
        fields: Sequence[tuple[str, str]],
        normalize: Callable[[bytes], bytes] | None = None,
    ) -> Cached:
        """Empty until `fill`; while the server runs, `replace` is what makes a resource known."""
        cached = self._make(resource, versions, fields, normalize)
        self._by_prefix[cached.prefix] = cached
        self._by_key[resource.key] = cached
        self.feed.route(cached.prefix, cached.number)
        return cached

    def _make(
        self,
        resource: Resource,
        versions: Sequence[str],
        fields: Sequence[tuple[str, str]],
        normalize: Callable[[bytes], bytes] | None,
    ) -> Cached:
        number = self.native.register(
            resource.key,
            resource.group,
            resource.plural,
            resource.storage_version or resource.version,
            resource.kind,
            resource.namespaced,
            list(versions),
            list(fields),
            list_kind=resource.list_kind,
            custom=bool(resource.storage_version),
            empty=empty_objects(resource, versions),
        )
        return Cached(number, storage_prefix(resource), resource, self.feed, normalize)

    async def replace(
        self,
        storage: Storage,
        resource: Resource,
        versions: Sequence[str],
        fields: Sequence[tuple[str, str]],
        normalize: Callable[[bytes], bytes] | None = None,
    ) -> Cached:
        """Registers a resource, filled from the store, while writes go on; another of the same key makes way, and its
        watches end."""
        cached = self._make(resource, versions, fields, normalize)
        prefix = cached.prefix
        self.feed.hold(prefix)
        try:
            revision, items, outdated = await self._shown(storage, cached)
        except BaseException:
            self.feed.forget(prefix)
            self.native.unregister(cached.number)
            raise
        self.feed.adopt(prefix, cached.number, revision, items, outdated)
        known = self._by_prefix.get(prefix)
        before = None if known is None else known.number
        if known is None:
            self._by_prefix[prefix] = self._by_key[resource.key] = known = cached
        else:
            # Whoever is at work on the resource goes on with its new copy.
            known.number, known.resource, known.normalize = cached.number, cached.resource, cached.normalize
        if before is not None:
            self.native.unregister(before)
        return known

    async def _shown(self, storage: Storage, cached: Cached) -> tuple[int, list[tuple[str, int, bytes]], list[str]]:
        """All that is stored of it, as of a revision; where that takes its time, what was written meanwhile is looked
        at again, for it was written by other rules. Where that never ends, others wait for the last look."""
        shown: dict[str, tuple[int, bytes]] = {}
        outdated: set[str] = set()
        for left in reversed(range(_LOOKS)):
            page = await storage.list(cached.prefix)
            fresh = [(key, *stored) for key, stored in page.items if shown.get(key, (0,))[0] != stored.revision]
            for start in range(0, len(fresh), _AT_ONCE):
                if start and left:
                    await self._clock.sleep(0)
                items, changed = cached.load(fresh[start : start + _AT_ONCE])
                shown.update((cached.prefix + name, (at, body)) for name, at, body in items)
                outdated.difference_update(key for key, _, _ in fresh[start : start + _AT_ONCE])
                outdated.update(changed)
            if len(fresh) <= _AT_ONCE:
                break
        skip = len(cached.prefix)
        there = [(key[skip:], *shown[key]) for key, _ in page.items]
        return page.revision, there, [key for key, _ in page.items if key in outdated]

    def unregister(self, key: str) -> None:
        """Forgets a resource; its watches end."""
        cached = self._by_key.pop(key, None)
        if cached is not None:
            del self._by_prefix[cached.prefix]
            self.feed.unroute(cached.prefix)
            self.native.unregister(cached.number)

    def counts(self) -> list[tuple[Resource, int]]:
        """All resources, and how many objects of each are stored. May be asked on another thread."""
        found = []
        for one in list(self._by_prefix.values()):
            with suppress(KeyError):  # one that has just gone
                found.append((one.resource, self.native.count(one.number)))
        return found

    def cached(self, key: str) -> Cached | None:
        """By group resource; two groups that serve the same objects give the same."""
        return self._by_key.get(key)

    async def fill(self, storage: Storage) -> None:
        """What the store holds, and its log, so that watches go on where they were before a restart."""
        page = await storage.list(ROOT)
        by_resource: dict[int, list[tuple[str, int, bytes]]] = {}
        for key, stored in page.items:
            cached = self._find(key)
            if cached is not None:
                by_resource.setdefault(cached.number, []).append((key, stored.revision, stored.value))
        # Definitions come first, and what their objects are normalized by is read from them.
        for cached in self._by_prefix.values():
            items, outdated = cached.load(by_resource.get(cached.number, []))
            self.native.load(cached.number, items)
            if outdated:
                self.feed.set_outdated(cached.prefix, outdated)
        if storage.revision:
            if storage.compacted:
                self.native.compacted(storage.compacted)
            events = self._normalized(await storage.events(storage.compacted))
            self.native.replay(*_replayable(self._translate(events), events))
            self.native.progress(page.revision)

    # --- EventSink, for whoever commits in Python

    def publish(self, revision: int, events: Sequence[Event]) -> None:
        self.feed.publish(revision, events)

    def compacted(self, revision: int) -> None:
        self.feed.compacted(revision)

    # --- reads

    def changed(self, key: str) -> int:
        """The revision of the resource's last change, 0 when there was none since the start."""
        return self.native.changed(self._by_key[key].number)

    def get(self, key: str, namespace: str, name: str) -> Stored | None:
        found = self.native.get(self._by_key[key].number, namespace, name)
        return None if found is None else Stored(*found)

    def list(
        self,
        key: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        start: str | None = None,
        at: int | None = None,
    ) -> _native.Listing:
        """`start` is a continue token. Raises StatusError."""
        number = self._by_key[key].number
        try:
            return self.native.list(number, namespace or None, label_selector, field_selector, limit, start, at)
        except _native.NativeStatus as refused:
            raise StatusError.from_body(refused.code, refused.body) from None

    def query(self, key: str, query: str, namespace: str = "", name: str = "") -> _native.Listing:
        """A list by the query string of its request. Raises StatusError."""
        try:
            return self.native.query(self._by_key[key].number, query, namespace or None, name or None)
        except _native.NativeStatus as refused:
            raise StatusError.from_body(refused.code, refused.body) from None

    def _find(self, key: str) -> Cached | None:
        return self._by_prefix.get(_prefix_of(key))

    def _normalized(self, events: Sequence[Event]) -> Sequence[Event]:
        """Events of the log as readers are to see their objects."""
        found = []
        for event in events:
            cached = self._find(event.key)
            if cached is not None and cached.normalize is not None:
                event = event._replace(value=cached.as_shown(event.key, event.value))
            found.append(event)
        return found

    def _translate(self, events: Iterable[Event]) -> NativeEvents:
        translated: NativeEvents = []
        for kind, key, revision, value, _ in events:
            prefix = _prefix_of(key)
            cached = self._by_prefix.get(prefix)
            if cached is not None:
                name = key[len(prefix) :]
                translated.append((cached.number, 1 if kind == DELETE else 0, name, revision, value))
        return translated


def _prefix_of(key: str) -> str:
    """`/registry/apps/deployments/ns/name` → `/registry/apps/deployments/`"""
    return key[: key.find("/", key.find("/", len(ROOT)) + 1) + 1]


def storage_prefix(resource: Resource) -> str:
    """Where a resource's objects are kept: `/registry/apps/deployments/`, `/registry/core/pods/`."""
    return f"{ROOT}{resource.group or 'core'}/{resource.plural}/"


def _replayable(translated: list[NativeEvent], events: Sequence[Event]) -> tuple[list[NativeEvent], list[bytes | None]]:
    """Events with what each one replaced, as far as the log still has it."""
    values: dict[int, bytes] = {event.revision: event.value for event in events}
    replaced = {event.revision: event.previous for event in events}
    before: list[bytes | None] = []
    for event in translated:
        previous = replaced[event[3]]
        before.append(values.get(previous) if previous else b"")
    return translated, before
