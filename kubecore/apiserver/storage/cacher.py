"""The watch cache fed from the store: what was committed is readable before its write is answered.

Facade of `_native.WatchCache` for Python. The feed runs in the store's writer thread; reads come from the loop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubecore import _native
from kubecore.api.errors import StatusError
from kubecore.apiserver.storage.interface import DELETE, Event, Storage, Stored

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource, Scheme

log = logging.getLogger(__name__)

ROOT = "/registry/"
_HISTORY = 8192

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
    normalize: Callable[[bytes], bytes] | None = None
    outdated: set[str] = field(default_factory=set)

    def as_shown(self, key: str, value: bytes) -> bytes:
        if self.normalize is None:
            return value
        try:
            return self.normalize(value)
        except ValueError:
            log.exception("%s cannot be read as its definition says", key)
            return value

    def load(self, key: str, value: bytes) -> bytes:
        """`as_shown`, of the present value of a key."""
        made = self.as_shown(key, value)
        if made != value:
            self.outdated.add(key)
        return made


class Cacher:
    """Registers resources with the watch cache, fills it at start, and passes commits on to it (an EventSink)."""

    def __init__(self, *, history: int = _HISTORY) -> None:
        self.native = _native.WatchCache(history=history)
        self._by_prefix: dict[str, Cached] = {}
        self._by_key: dict[str, Cached] = {}
        # Held by the writer while it publishes, and while a resource is put in another's place.
        self._publishing = threading.Lock()
        self._replacing: dict[str, list[Event]] = {}

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
        )
        return Cached(number, storage_prefix(resource), resource, normalize)

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
        missed = self._replacing[prefix] = []
        try:
            page = await storage.list(prefix)
            skip = len(prefix)
            items = {key[skip:]: (stored.revision, cached.load(key, stored.value)) for key, stored in page.items}
        except BaseException:
            del self._replacing[prefix]
            self.native.unregister(cached.number)
            raise
        with self._publishing:
            del self._replacing[prefix]
            for kind, key, revision, value, _ in missed:
                if revision > page.revision:
                    items.pop(key[skip:], None)
                    if kind != DELETE:
                        items[key[skip:]] = (revision, value)
            self.native.load(cached.number, [(name, *item) for name, item in items.items()])
            self.native.progress(self.native.revision)
            known = self._by_prefix.get(prefix)
            before = None if known is None else known.number
            if known is None:
                self._by_prefix[prefix] = self._by_key[resource.key] = known = cached
            else:
                # Whoever is at work on the resource goes on with its new copy.
                known.number, known.resource = cached.number, cached.resource
                known.normalize, known.outdated = cached.normalize, cached.outdated
        if before is not None:
            self.native.unregister(before)
        return known

    def unregister(self, key: str) -> None:
        """Forgets a resource; its watches end."""
        with self._publishing:
            cached = self._by_key.pop(key, None)
            if cached is not None:
                del self._by_prefix[cached.prefix]
        if cached is not None:
            self.native.unregister(cached.number)

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
            skip = len(cached.prefix)
            items = by_resource.get(cached.number, [])
            self.native.load(
                cached.number, [(key[skip:], revision, cached.load(key, value)) for key, revision, value in items]
            )
        if storage.revision:
            if storage.compacted:
                self.native.compacted(storage.compacted)
            events = self._normalized(await storage.events(storage.compacted))
            self.native.replay(*_replayable(self._translate(events), events))
            self.native.progress(page.revision)

    # --- EventSink, in the writer thread

    def publish(self, revision: int, events: Sequence[Event]) -> None:
        with self._publishing:
            if self._replacing:
                for event in events:
                    missed = self._replacing.get(_prefix_of(event.key))
                    if missed is not None:
                        missed.append(event)
            self.native.publish(revision, self._translate(events, written=True))

    def compacted(self, revision: int) -> None:
        self.native.compacted(revision)

    # --- reads

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

    def _translate(self, events: Iterable[Event], *, written: bool = False) -> NativeEvents:
        translated: NativeEvents = []
        find = self._by_prefix.get
        skip = len(ROOT)
        for kind, key, revision, value, _ in events:
            end = key.find("/", key.find("/", skip) + 1) + 1
            cached = find(key[:end])
            if cached is not None:
                if written and cached.outdated:
                    cached.outdated.discard(key)
                translated.append((cached.number, 1 if kind == DELETE else 0, key[end:], revision, value))
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
