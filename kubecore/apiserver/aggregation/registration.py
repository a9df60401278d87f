"""APIServices of what this server serves itself: of built-in versions, made at start, and of those that definitions
serve, kept in step with them. After upstream kube-aggregator `pkg/controllers/autoregister` and kubernetes
`pkg/controlplane/controller/crdregistration`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.apiserver.discovery import priorities
from kubecore.apiserver.discovery.priorities import Priority
from kubecore.apiserver.registry import deletion
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.custom.definition import DEFINITIONS
from kubecore.apiserver.registry.options import DeleteOptions
from kubecore.apiserver.registry.own_requests import own_request
from kubecore.apiserver.registry.resources.apiservices import API_SERVICES
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.writes import Change

if TYPE_CHECKING:
    from kubecore.api.scheme import Scheme
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.store import Store

log = logging.getLogger("kubecore.apiserver.aggregation")

JSON = dict[str, Any]

MANAGED = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"
_RETRY_SECONDS = 1.0


def local_service(group: str, version: str, priority: Priority, managed: str) -> JSON:
    """An APIService of a version that this server serves."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {MANAGED: managed}},
        "spec": {
            **({"group": group} if group else {}),
            "groupPriorityMinimum": priority.group,
            "version": version,
            "versionPriority": priority.version,
        },
    }


def built_in(scheme: Scheme) -> list[JSON]:
    made = []
    for group in scheme.groups():
        for version in group.versions:
            priority = priorities.of_built_in(group.name, version)
            if priority is not None:
                made.append(local_service(group.name, version, priority, ON_START))
    return made


class Registration:
    """`start` brings about what there is to be at start; `run` follows definitions until it is cancelled."""

    def __init__(self, registry: Registry, hub: WatchHub) -> None:
        self._registry = registry
        self._hub = hub
        self._clock = registry.clock
        self._queue: dict[str, None] = {}
        self._wake = asyncio.Event()
        # Versions that definitions serve, by the names of definitions.
        self._custom: dict[str, set[tuple[str, str]]] = {}

    async def start(self) -> None:
        """Raises StatusError. All is handed to the store together."""
        for definition in self._registry.list(DEFINITIONS):
            self._learn(definition)
        wanted = {meta.name(one): one for one in built_in(self._registry.scheme)}
        for group, version in self._served():
            made = local_service(group, version, priorities.CUSTOM, ALWAYS)
            wanted.setdefault(meta.name(made), made)
        held = {meta.name(one): one for one in self._registry.list(API_SERVICES)}
        managed = (ON_START, ALWAYS)
        steps = [self._reconcile(name, wanted.get(name), held.get(name), managed) for name in {**wanted, **held}]
        failed = [one for one in await asyncio.gather(*steps, return_exceptions=True) if one is not None]
        if failed:
            raise failed[0]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_definitions(), name="definitions to register")
            group.create_task(self._follow_services(), name="registered versions watch")
            group.create_task(self._work(), name="registration")

    # --- what is wanted

    def _learn(self, definition: JSON) -> None:
        group = definition["spec"]["group"]
        served = {(group, one["name"]) for one in definition["spec"].get("versions") or [] if one.get("served")}
        self._custom[meta.name(definition)] = served

    def _served(self) -> set[tuple[str, str]]:
        return set().union(*self._custom.values())

    async def _follow_definitions(self) -> None:
        while True:
            watch = self._hub.query(DEFINITIONS, "")
            async for batch in watch.batches():
                for event in batch:
                    if event.type not in ("BOOKMARK", "ERROR"):
                        self._saw_definition(event.type, loads(event.object))
            # It fell behind.
            self._forget({meta.name(one) for one in self._registry.list(DEFINITIONS)})

    def _saw_definition(self, event: str, definition: JSON) -> None:
        name = meta.name(definition)
        before = self._custom.pop(name, set())
        if event != "DELETED":
            self._learn(definition)
        self._enqueue(before ^ self._custom.get(name, set()))

    def _forget(self, names: set[str]) -> None:
        for name in self._custom.keys() - names:
            self._enqueue(self._custom.pop(name))

    def _enqueue(self, versions: Iterable[tuple[str, str]]) -> None:
        for group, version in versions:
            self._queue[f"{version}.{group}"] = None
            self._wake.set()

    async def _follow_services(self) -> None:
        """Those of definitions that somebody deletes or changes are put right."""
        while True:
            watch = self._hub.query(API_SERVICES, "")
            async for batch in watch.batches():
                told = [one.object for one in batch if one.type not in ("BOOKMARK", "ERROR")]
                names = [meta.name(loads(one)) for one in told]
                served = {f"{version}.{group}": (group, version) for group, version in self._served()}
                self._enqueue(served[name] for name in names if name in served)
            self._enqueue(self._served())

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            names = list(self._queue)
            self._queue.clear()
            steps = [self._reconcile(name, self._wanted(name), self._held(name), (ALWAYS,)) for name in names]
            for name, result in zip(names, await asyncio.gather(*steps, return_exceptions=True), strict=True):
                if isinstance(result, BaseException):
                    log.error("registration of %s", name, exc_info=result)
                    self._clock.call_later(_RETRY_SECONDS, partial(self._again, name))

    def _again(self, name: str) -> None:
        self._queue[name] = None
        self._wake.set()

    def _wanted(self, name: str) -> JSON | None:
        version, _, group = name.partition(".")
        if (group, version) not in self._served():
            return None
        return local_service(group, version, priorities.CUSTOM, ALWAYS)

    def _held(self, name: str) -> JSON | None:
        return self._registry.get(API_SERVICES, "", name)

    # --- bringing it about

    async def _reconcile(self, name: str, wanted: JSON | None, held: JSON | None, managed: Sequence[str]) -> None:
        """What is not managed in one of these ways stays as it is."""
        try:
            if held is None:
                if wanted is not None:
                    await self._store.create(self._own("create", name), meta.deepcopy(wanted))
                return
            if meta.labels(held).get(MANAGED) not in managed:
                return
            if wanted is None:
                options = DeleteOptions(uid=held["metadata"]["uid"])
                await deletion.delete(self._store, self._own("delete", name), options)
            elif held["spec"] != wanted["spec"]:
                changed = {**held, "spec": wanted["spec"]}
                await self._store.update(self._own("update", name), Change(lambda *_: changed))
        except errors.StatusError as error:
            # Somebody was faster: the watch tells of it.
            expected = (errors.is_already_exists, errors.is_conflict, errors.is_not_found)
            if not any(is_so(error) for is_so in expected):
                raise

    @property
    def _store(self) -> Store:
        store = self._registry.store(API_SERVICES)
        assert store is not None
        return store

    def _own(self, verb: str, name: str) -> RequestContext:
        return own_request(self._registry, API_SERVICES, verb, name)
