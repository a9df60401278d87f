"""A shared, indexed copy of a resource's objects that tells handlers of every change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from kubecore.api import meta
from kubecore.client.client import Client, Object
from kubecore.client.decoding import decoder_of
from kubecore.client.reflector import Reflector
from kubecore.clock import Clock

log = logging.getLogger(__name__)

Objects = list[Object]
IndexFunction = Callable[[Object], Sequence[str]]


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
        self._index_functions: dict[str, IndexFunction] = {}
        self._indexes: dict[str, dict[str, dict[str, Object]]] = {}
        self._on_add: list[Callable[[Object], None]] = []
        self._on_update: list[Callable[[Object, Object], None]] = []
        self._on_delete: list[Callable[[Object], None]] = []
        self._synced = asyncio.Event()
        known = client.resource(resource)
        self._reflector: Reflector[Object] = Reflector(
            client,
            clock,
            resource,
            self,
            decoder_of(known),
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

    def get(self, key: str) -> Object | None:
        return self._objects.get(key)

    def list(self, namespace: str = "") -> Objects:
        if not namespace:
            return list(self._objects.values())
        return self.by_index(NAMESPACE_INDEX, namespace)

    def by_index(self, index: str, value: str) -> Objects:
        if index == NAMESPACE_INDEX and index not in self._indexes:
            self.add_index(NAMESPACE_INDEX, lambda obj: (meta.namespace(obj),))
        return list(self._indexes[index].get(value, {}).values())

    def __len__(self) -> int:
        return len(self._objects)

    # ------------------------------------------------------------------ set-up
    def add_index(self, name: str, function: IndexFunction) -> None:
        """Index objects by the values `function` gives. The informer may be shared: the same name with the same
        function is one index, with another function it is a ValueError."""
        known = self._index_functions.get(name)
        if known is function:
            return
        if known is not None:
            raise ValueError(f"index {name!r} of {self.resource} is somebody else's: choose another name")
        self._index_functions[name] = function
        self._indexes[name] = {}
        for key, obj in self._objects.items():
            self._index(name, key, obj)

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

    def apply(self, type: str, item: Object) -> None:
        key = meta.key(item)
        known = self._objects.get(key)
        if type != "DELETED":
            self._replace_one(known, item)
        elif known is not None:
            del self._objects[key]
            for name, function in self._index_functions.items():
                self._unindex(name, key, function(known))
            _call(self._on_delete, item)

    def _replace_one(self, known: Object | None, item: Object) -> None:
        key = meta.key(item)
        if known is not None and meta.uid(known) != meta.uid(item):
            # deleted and made anew between two lists: handlers must see both
            self.apply("DELETED", known)
            known = None
        self._objects[key] = item
        if known is None:
            for name in self._index_functions:
                self._index(name, key, item)
            _call(self._on_add, item)
        else:
            _share(known, item)
            for name in self._index_functions:
                self._index(name, key, item, known)
            _call(self._on_update, known, item)

    # ------------------------------------------------------------------ indexes
    def _index(self, name: str, key: str, obj: Object, known: Object | None = None) -> None:
        """Put `obj` where it belongs, and take it from where it is no more: `known` is what it was."""
        index, function = self._indexes[name], self._index_functions[name]
        values = function(obj)
        if known is not None and (before := function(known)) != values:
            self._unindex(name, key, before)
        for value in values:
            entries = index.get(value)
            if entries is None:
                index[value] = {key: obj}
            else:
                entries[key] = obj

    def _unindex(self, name: str, key: str, values: Iterable[str]) -> None:
        index = self._indexes[name]
        for value in values:
            entries = index.get(value)
            if entries is not None:
                entries.pop(key, None)
                if not entries:
                    del index[value]


NAMESPACE_INDEX = "namespace"
_LASTING = ("labels", "annotations", "ownerReferences", "finalizers")


def _call(callbacks: list[Callable[..., None]], *arguments: Object) -> None:
    for callback in callbacks:
        try:
            callback(*arguments)
        except Exception:
            # one consumer's bug must not keep the others from seeing the change
            log.exception("handler %r failed", callback)


def _share(known: Object, item: Object) -> None:
    """Let a new version of an object have the very same parts as the former one where they are equal. Handlers compare
    these again and again, which costs nothing then, and who keeps the former version keeps little of its own."""
    before, now = known.get("spec"), item.get("spec")
    if before and now and before == now:
        item["spec"] = before
    elif before and now:
        _share_parts(before, now, tuple(now))
    _share_parts(known["metadata"], item["metadata"], _LASTING)


def _share_parts(known: Object, item: Object, names: Iterable[str]) -> None:
    for name in names:
        value = known.get(name)
        if value and value == item.get(name):
            item[name] = value


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
