"""The watch cache fed from the store: what was committed is readable before its write is answered.

Facade of `_native.WatchCache` for Python. The feed runs in the store's writer thread; reads come from the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Cached:
    """A stored resource as the cache knows it: its number there and the prefix of its keys in the store."""

    number: int
    prefix: str
    resource: Resource


class Cacher:
    """Registers resources with the watch cache, fills it at start, and passes commits on to it (an EventSink)."""

    def __init__(self, *, history: int = _HISTORY) -> None:
        self.native = _native.WatchCache(history=history)
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

    def register(self, resource: Resource, versions: Sequence[str], fields: Sequence[tuple[str, str]]) -> Cached:
        number = self.native.register(
            resource.key,
            resource.group,
            resource.plural,
            resource.version,
            resource.kind,
            resource.namespaced,
            list(versions),
            list(fields),
        )
        cached = Cached(number, storage_prefix(resource), resource)
        self._by_prefix[cached.prefix] = cached
        self._by_key[resource.key] = cached
        return cached

    def cached(self, key: str) -> Cached | None:
        """By group resource; two groups that serve the same objects give the same."""
        return self._by_key.get(key)

    async def fill(self, storage: Storage) -> None:
        """What the store holds, and its log, so that watches go on where they were before a restart."""
        page = await storage.list(ROOT)
        by_resource: dict[int, list[tuple[str, int, bytes]]] = {}
        for key, stored in page.items:
            cached, name = self._split(key)
            if cached is not None:
                by_resource.setdefault(cached.number, []).append((name, stored.revision, stored.value))
        for cached in self._by_prefix.values():
            self.native.load(cached.number, by_resource.get(cached.number, []))
        if storage.revision:
            if storage.compacted:
                self.native.compacted(storage.compacted)
            events = await storage.events(storage.compacted)
            self.native.replay(*_replayable(self._translate(events), events))
            self.native.progress(page.revision)

    # --- EventSink, in the writer thread

    def publish(self, revision: int, events: Sequence[Event]) -> None:
        self.native.publish(revision, self._translate(events))

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

    def _split(self, key: str) -> tuple[Cached | None, str]:
        """`/registry/apps/deployments/ns/name` → (deployments.apps, `ns/name`)."""
        end = key.find("/", key.find("/", len(ROOT)) + 1) + 1
        return self._by_prefix.get(key[:end]), key[end:]

    def _translate(self, events: Iterable[Event]) -> NativeEvents:
        translated: NativeEvents = []
        find = self._by_prefix.get
        skip = len(ROOT)
        for kind, key, revision, value, _ in events:
            end = key.find("/", key.find("/", skip) + 1) + 1
            cached = find(key[:end])
            if cached is not None:
                translated.append((cached.number, 1 if kind == DELETE else 0, key[end:], revision, value))
        return translated


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
