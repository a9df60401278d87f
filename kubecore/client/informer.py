"""A shared, indexed copy of a resource's objects that tells handlers of every change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from kubecore.api import meta
from kubecore.client.client import Client, Object
from kubecore.client.decoding import decoder_of
from kubecore.client.reflector import Reflector
from kubecore.clock import Clock

log = logging.getLogger(__name__)

Objects = list[Object]
IndexFunction = Callable[[Object], Sequence[str]]


class Of(Enum):
    """What of an object an index looks at besides its name and namespace: all of it, spec and lasting metadata
    (labels, annotations, owners, finalizers), or lasting metadata alone."""

    OBJECT = "object"
    SPEC = "spec"
    METADATA = "metadata"


@dataclass(slots=True)
class _Index:
    """Keys of objects by what `function` gives for them."""

    function: IndexFunction
    of: Of
    keys: dict[str, dict[str, None]] = field(default_factory=dict)

    def put(self, key: str, values: Iterable[str]) -> None:
        for value in values:
            keys = self.keys.get(value)
            if keys is None:
                self.keys[value] = {key: None}
            else:
                keys[key] = None

    def take(self, key: str, values: Iterable[str]) -> None:
        for value in values:
            keys = self.keys.get(value)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del self.keys[value]


class SharedInformer:
    """Objects of one resource (and selector), keyed "namespace/name" or "name".

    What it hands out is shared by all: never change it, copy it first (`meta.deepcopy`). Objects carry no
    managedFields, and share with their former version what did not change of it. A handler is told of objects that
    exist already as additions; after a lost watch the differences to a fresh list are told as ordinary changes.
    Nothing is ever re-sent for its own sake.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        resource: str,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self.resource = resource
        self._objects: dict[str, Object] = {}
        self._indexes: dict[str, _Index] = {}
        self._on_add: list[Callable[[Object], None]] = []
        self._on_update: list[Callable[[Object, Object], None]] = []
        self._on_delete: list[Callable[[Object], None]] = []
        self._synced = asyncio.Event()
        self._refreshed = asyncio.Event()
        self._refreshed.set()
        self._decoder = decoder_of(client.resource(resource))
        self._reflector: Reflector[Object] = Reflector(
            client,
            clock,
            resource,
            self,
            self._decoder,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
        )

    # ------------------------------------------------------------------ reading
    @property
    def synced(self) -> bool:
        """Whether the first list has arrived."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def refresh(self) -> None:
        """Where the server has refused or not answered, asks at once, and waits for a list. What was known stays."""
        if self._reflector.refresh():
            self._refreshed.clear()
        await self._refreshed.wait()

    def get(self, key: str) -> Object | None:
        return self._objects.get(key)

    def list(self, namespace: str = "") -> Objects:
        if not namespace:
            return list(self._objects.values())
        return self.by_index(NAMESPACE_INDEX, namespace)

    def has(self, index: str, value: str) -> bool:
        """Whether `by_index` would find anything."""
        return value in self._indexes[index].keys

    def by_index(self, index: str, value: str) -> Objects:
        if index == NAMESPACE_INDEX and index not in self._indexes:
            self.add_index(NAMESPACE_INDEX, lambda obj: (meta.namespace(obj),), of=Of.METADATA)
        keys = self._indexes[index].keys.get(value)
        return list(map(self._objects.__getitem__, keys)) if keys else []

    def __len__(self) -> int:
        return len(self._objects)

    # ------------------------------------------------------------------ set-up
    def add_index(self, name: str, function: IndexFunction, *, of: Of = Of.OBJECT) -> None:
        """Index objects by the values `function` gives, which it works out of no more than `of` says. The informer may
        be shared: the same name with the same function is one index, with another function it is a ValueError."""
        known = self._indexes.get(name)
        if known is not None:
            if known.function is not function:
                raise ValueError(f"index {name!r} of {self.resource} is somebody else's: choose another name")
            return
        index = self._indexes[name] = _Index(function, of)
        for key, obj in self._objects.items():
            index.put(key, function(obj))

    def add_handler(
        self,
        on_add: Callable[[Object], None] | None = None,
        on_update: Callable[[Object, Object], None] | None = None,
        on_delete: Callable[[Object], None] | None = None,
    ) -> None:
        """They are called synchronously, in order, on the event loop: keep light books there and enqueue keys."""
        if on_update is not None:
            self._on_update.append(on_update)
        if on_delete is not None:
            self._on_delete.append(on_delete)
        if on_add is not None:
            self._on_add.append(on_add)
            for obj in list(self._objects.values()):
                _call([on_add], obj)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        await self._reflector.run()

    # ------------------------------------------------------------------ the reflector's sink
    def replace(self, items: Sequence[Object]) -> None:
        gone = self._objects.keys() - {meta.key(item) for item in items}
        for key in gone:
            self.apply("DELETED", self._objects[key])
        for item in items:
            known = self._objects.get(meta.key(item))
            if known is None or meta.resource_version(known) != meta.resource_version(item):
                self._replace_one(known, item)
        self._synced.set()
        self._refreshed.set()

    def apply(self, type: str, item: Object) -> None:
        key = meta.key(item)
        known = self._objects.get(key)
        if type != "DELETED":
            self._replace_one(known, item)
            return
        self._decoder.forget(item)
        if known is not None:
            del self._objects[key]
            for index in self._indexes.values():
                index.take(key, index.function(known))
            _call(self._on_delete, item)

    def _replace_one(self, known: Object | None, item: Object) -> None:
        key = meta.key(item)
        if known is not None and meta.uid(known) != meta.uid(item):
            # deleted and made anew between two lists: handlers must see both
            self.apply("DELETED", known)
            known = None
        self._objects[key] = item
        if known is None:
            for index in self._indexes.values():
                index.put(key, index.function(item))
            _call(self._on_add, item)
        else:
            self._reindex(key, known, item, _share(known, item))
            _call(self._on_update, known, item)

    def _reindex(self, key: str, known: Object, item: Object, changed: Collection[Of]) -> None:
        """Most changes are of a status, which few indexes look at."""
        for index in self._indexes.values():
            if index.of in changed:
                before, values = index.function(known), index.function(item)
                if before != values:
                    index.take(key, before)
                    index.put(key, values)


NAMESPACE_INDEX = "namespace"
_LASTING = ("labels", "annotations", "ownerReferences", "finalizers")
_STATUS, _SPEC, _EVERYTHING = (Of.OBJECT,), (Of.OBJECT, Of.SPEC), (Of.OBJECT, Of.SPEC, Of.METADATA)


def _call(callbacks: list[Callable[..., None]], *arguments: Object) -> None:
    for callback in callbacks:
        try:
            callback(*arguments)
        except Exception:
            # one consumer's bug must not keep the others from seeing the change
            log.exception("handler %r failed", callback)


def _share(known: Object, item: Object) -> Collection[Of]:
    """Let a new version of an object have the very same parts as the former one where they are equal. Handlers compare
    these again and again, which costs nothing then, and who keeps the former version keeps little of its own. Says what
    may have changed."""
    before, now = known.get("spec"), item.get("spec")
    same = before is now or before == now
    if before and now:
        if same:
            item["spec"] = before
        else:
            _share_parts(before, now, tuple(now))
    if not _share_parts(known["metadata"], item["metadata"], _LASTING):
        return _EVERYTHING
    return _STATUS if same else _SPEC


def _share_parts(known: Object, item: Object, names: Iterable[str]) -> bool:
    """Whether all of them are equal."""
    same = True
    for name in names:
        value, now = known.get(name), item.get(name)
        if value != now:
            same = False
        elif value:
            item[name] = value
    return same


class InformerFactory:
    """Informers shared by resource, namespace and selectors, so that a process watches each thing once."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.client = client
        self.clock = clock
        self._informers: dict[tuple[str, str, str, str], SharedInformer] = {}
        self._tasks: dict[tuple[str, str, str, str], asyncio.Task[None]] = {}
        self._started = False

    def informer(
        self, resource: str, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> SharedInformer:
        key = (resource, namespace, label_selector, field_selector)
        informer = self._informers.get(key)
        if informer is None:
            informer = self._informers[key] = SharedInformer(
                self.client,
                self.clock,
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
            )
            if self._started:
                self._start(key, informer)
        return informer

    def known(self, resource: str) -> SharedInformer | None:
        """The informer of all objects of the resource, if somebody has asked for it."""
        return self._informers.get((resource, "", "", ""))

    async def start(self) -> None:
        """Start what is asked for so far; an informer asked for later starts at once. May be called again."""
        self._started = True
        for key, informer in self._informers.items():
            if key not in self._tasks:
                self._start(key, informer)

    async def wait_synced(self) -> None:
        """Until every informer asked for so far holds its first list."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()

    async def stop(self) -> None:
        self._started = False
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: tuple[str, str, str, str], informer: SharedInformer) -> None:
        self._tasks[key] = asyncio.create_task(informer.run(), name=f"informer {' '.join(filter(None, key))}")
