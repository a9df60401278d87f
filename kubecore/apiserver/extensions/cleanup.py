"""The end of a definition: its instances go first, and it only after the last of them.

After upstream k8s.io/apiextensions-apiserver pkg/controller/finalizer/crd_finalizer.go; where that polls, this watches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.apiserver.registry import deletion
from kubecore.apiserver.registry.custom.definition import DEFINITIONS
from kubecore.apiserver.registry.options import DeleteOptions
from kubecore.apiserver.registry.own_requests import own_request
from kubecore.apiserver.registry.resources.customresourcedefinitions import CLEANUP, is_established
from kubecore.apiserver.registry.writes import Change

if TYPE_CHECKING:
    from kubecore.apiserver.extensions.serving import CustomResources
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.store import Store

log = logging.getLogger("kubecore.apiserver.extensions")

JSON = dict[str, Any]
Condition = tuple[str, str, str]

# Upstream looks for a minute before it says that instances remain.
_PATIENCE_SECONDS = 60.0
_RETRY_SECONDS = 5.0

_IN_PROGRESS = ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress")
_COMPLETED = ("False", "InstanceDeletionCompleted", "removed all instances")
_NEVER = ("False", "NeverEstablished", "resource was never established")
_OVERLAPPING = ("False", "OverlappingBuiltInResource", "instances overlap with built-in resources in storage")
# What upstream stores where it would store custom resources of these names.
_BUILT_IN = frozenset({"apiservices.apiregistration.k8s.io", "customresourcedefinitions.apiextensions.k8s.io"})
_REMAINING = (
    "True",
    "InstanceDeletionCheck",
    "could not confirm zero CustomResources remaining: timed out waiting for the condition",
)


class Cleanup:
    """Definitions that are being deleted. `enqueue` asks for another `proceed`."""

    def __init__(
        self, registry: Registry, serving: CustomResources, hub: WatchHub, enqueue: Callable[[str], None]
    ) -> None:
        self._registry = registry
        self._serving = serving
        self._hub = hub
        self._clock = registry.clock
        self._enqueue = enqueue
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def proceed(self, definition: JSON) -> None:
        """One step of a definition that is marked deleted and has the finalizer."""
        name = definition["metadata"]["name"]
        if name in self._tasks:
            return
        await self._say(name, _IN_PROGRESS)
        if name in _BUILT_IN:
            await self._let_go(name, _OVERLAPPING)
        elif not is_established(definition):
            await self._let_go(name, _NEVER)
        elif not self._remaining(name):
            await self._let_go(name, _COMPLETED)
        else:
            task = asyncio.get_running_loop().create_task(self._delete_instances(name), name=f"cleanup of {name}")
            self._tasks[name] = task

    def forget(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remaining(self, name: str) -> int:
        # A definition that is not served may have the name of a built-in resource.
        known = self._serving.definition(name) is not None
        cached = self._registry.cacher.cached(name) if known else None
        return 0 if cached is None else self._registry.cacher.native.count(cached.number)

    async def _delete_instances(self, name: str) -> None:
        """Deletes all instances, waits for the last one to go, and has the definition looked at again."""
        try:
            store = self._serving.storage_store(name)
            if store is not None:
                await self._delete_all(name, store)
                await self._wait_until_empty(name)
        except Exception as error:
            log.exception("instances of %s cannot be deleted", name)
            await self._say_failure(name, error)
            await self._clock.sleep(_RETRY_SECONDS)
        finally:
            self._tasks.pop(name, None)
        self._enqueue(name)

    async def _delete_all(self, name: str, store: Store) -> None:
        context = own_request(self._registry, name, "deletecollection")
        items = self._registry.cacher.query(name, "").items
        await deletion.delete_all(store, context, DeleteOptions(), items)

    async def _wait_until_empty(self, name: str) -> None:
        watch = self._hub.query(name, f"resourceVersion={self._registry.cacher.native.revision}")
        patience = self._clock.call_later(_PATIENCE_SECONDS, lambda: self._enqueue_saying(name))
        try:
            if not self._remaining(name):
                return
            async for batch in watch.batches():
                if any(event.type in ("DELETED", "ERROR") for event in batch) and not self._remaining(name):
                    return
        finally:
            patience.cancel()
            watch.close()

    def _enqueue_saying(self, name: str) -> None:
        task = asyncio.get_running_loop().create_task(self._say(name, _REMAINING), name=f"instances of {name} remain")
        self._tasks[f"{name} (patience)"] = task
        task.add_done_callback(lambda _: self._tasks.pop(f"{name} (patience)", None))

    # --- what is said of it

    async def _say_failure(self, name: str, error: Exception) -> None:
        message = error.message if isinstance(error, StatusError) else str(error)
        await self._say(name, ("True", "InstanceDeletionFailed", f"could not issue all deletes: {message}"))

    async def _say(self, name: str, condition: Condition) -> None:
        def change(definition: JSON) -> None:
            self._set(definition, condition)

        await self._update(name, change)

    async def _let_go(self, name: str, condition: Condition) -> None:
        def change(definition: JSON) -> None:
            self._set(definition, condition)
            metadata = definition["metadata"]
            metadata["finalizers"] = [one for one in metadata.get("finalizers") or () if one != CLEANUP]

        await self._update(name, change)

    def _set(self, definition: JSON, condition: Condition) -> None:
        meta.set_condition(definition, "Terminating", *condition, now=meta.format_time(self._clock.now()))

    async def _update(self, name: str, change: Callable[[JSON], None]) -> None:
        """Writes the status, as upstream also to remove the finalizer: nobody judges the rest of what is going."""

        def make(old: JSON, _: object) -> JSON:
            obj: JSON = meta.deepcopy(old)
            obj["metadata"].pop("resourceVersion", None)
            change(obj)
            return obj

        store = self._registry.store(DEFINITIONS)
        assert store is not None
        # A patch: whoever else changes the definition meanwhile is not in the way.
        context = own_request(self._registry, DEFINITIONS, "patch", name, subresource="status")
        try:
            await store.update(context, Change(make))
        except StatusError as error:
            if not errors.is_not_found(error):
                raise
