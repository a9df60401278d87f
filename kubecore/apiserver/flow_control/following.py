"""Puts FlowSchemas and PriorityLevelConfigurations in force as they change, and says of each FlowSchema whether the
level that it names is there.

Who gets a seat is decided in `native/flow`; it is told all objects at once. After upstream k8s.io/apiserver
`pkg/util/flowcontrol/apf_controller.go`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors, meta
from kubecore.apiserver.flow_control.defaults import LEVELS, SCHEMAS, wanted
from kubecore.apiserver.flow_control.ensuring import context, ensure
from kubecore.apiserver.registry.codec import dumps, loads
from kubecore.apiserver.registry.writes import Change

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubecore import _native
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.storage.interface import Stored

log = logging.getLogger("kubecore.apiserver")

JSON = dict[str, Any]

_HEAD = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema"}
_DANGLING = "Dangling"
_MANAGER = "api-priority-and-fairness-config-consumer-v1"
# Within what time changed defaults are brought back.
_ENSURE_SECONDS = 60.0
_RETRY_SECONDS = 1.0
# Servers that do not agree about an object's status do not fight over it all the time.
_MOST_UPDATES_A_MINUTE = 6


class FlowControl:
    """`start` puts in force what is stored; `run` follows changes until it is cancelled."""

    def __init__(self, registry: Registry, hub: WatchHub, native: _native.Flow, seats: int) -> None:
        """`seats`: of all levels together."""
        self._registry = registry
        self._hub = hub
        self._native = native
        self._seats = seats
        self._clock = registry.clock
        self._changed = asyncio.Event()
        self._ensures_at: float | None = None
        self._updates: list[tuple[float, str]] = []

    async def start(self) -> None:
        """Raises StatusError."""
        await ensure(self._registry)
        await self._digest()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(SCHEMAS), name="flow schemas watch")
            group.create_task(self._follow(LEVELS), name="priority levels watch")
            group.create_task(self._work(), name="flow control")

    async def _follow(self, key: str) -> None:
        while True:
            watch = self._hub.query(key, "")
            # Whatever a former watch has missed is seen by looking at all of them.
            self._see()
            async for batch in watch.batches():
                if any(event.type not in ("BOOKMARK", "ERROR") for event in batch):
                    self._see()

    def _see(self) -> None:
        self._changed.set()
        if self._ensures_at is None:
            self._ensures_at = self._clock.monotonic() + _ENSURE_SECONDS
            self._clock.call_later(_ENSURE_SECONDS, self._changed.set)

    async def _work(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                if self._ensures_at is not None and self._clock.monotonic() >= self._ensures_at:
                    self._ensures_at = None
                    await ensure(self._registry)
                delay = await self._digest()
            except errors.StatusError as error:
                log.warning("flow control: %s", error)
                delay = _RETRY_SECONDS
            if delay:
                self._clock.call_later(delay, self._changed.set)

    async def _digest(self) -> float:
        """Seconds after which to do so again, because something could not be said yet; 0 for no need."""
        schemas, levels = self._registry.list(SCHEMAS), self._registry.list(LEVELS)
        names = {meta.name(level) for level in levels}
        self._native.configure(_all(self._seats, schemas, levels))
        told = [changed for schema in schemas if (changed := _judged(schema, names, self._now)) is not None]
        may = [one for one in told if not self._was_told_often(meta.name(one))]
        await asyncio.gather(*(self._write(one) for one in may))
        return random.uniform(30.0, 75.0) if len(may) < len(told) else 0.0

    @property
    def _now(self) -> str:
        return meta.format_time(self._clock.now())

    def _was_told_often(self, name: str) -> bool:
        since = self._clock.monotonic() - 60.0
        self._updates = [(at, other) for at, other in self._updates if at >= since]
        return sum(other == name for _, other in self._updates) >= _MOST_UPDATES_A_MINUTE

    async def _write(self, schema: JSON) -> None:
        name = meta.name(schema)
        self._updates.append((self._clock.monotonic(), name))
        store = self._registry.store(SCHEMAS)
        assert store is not None
        asked = context(self._registry, SCHEMAS, name, "update", _MANAGER)
        asked.subresource = "status"

        def applied(_: JSON, stored: Stored) -> JSON:
            """As upstream, which owns its condition and no more."""
            condition = meta.condition(schema, _DANGLING)
            config = {**_HEAD, "metadata": {"name": name}, "status": {"conditions": [condition]}}
            made = store.schema.apply(
                stored.value,
                dumps(config),
                manager=_MANAGER,
                time=asked.now,
                subresource="status",
                force=True,
                reset=("metadata", "spec"),
            )
            asked.managed = made.managed
            return loads(made.body)  # type: ignore[no-any-return]

        try:
            await store.update(asked, Change(applied))
        except errors.StatusError as error:
            # Changed or gone meanwhile: the watch says so, too.
            if not errors.is_not_found(error) and not errors.is_conflict(error):
                raise


def _all(seats: int, schemas: Iterable[JSON], levels: Iterable[JSON]) -> bytes:
    """For `native/flow`: with mandatory objects that somebody has taken away."""
    told = {SCHEMAS: {meta.name(one): one for one in schemas}, LEVELS: {meta.name(one): one for one in levels}}
    for default in wanted():
        if default.mandatory:
            told[default.resource_key].setdefault(meta.name(default.obj), default.obj)
    return orjson.dumps(
        {
            "seats": seats,
            "levels": [_brief(one) for one in told[LEVELS].values()],
            "schemas": [_brief(one) for one in told[SCHEMAS].values()],
        }
    )


def _brief(obj: JSON) -> JSON:
    return {"name": meta.name(obj), "uid": obj["metadata"].get("uid") or "", "spec": _present(obj["spec"])}


def _present(value: Any) -> Any:
    """Without nulls."""
    if isinstance(value, dict):
        return {name: _present(one) for name, one in value.items() if one is not None}
    return [_present(one) for one in value] if isinstance(value, list) else value


def _judged(schema: JSON, levels: set[str], now: str) -> JSON | None:
    """The schema with a condition that says whether its level is there; None where it says so already."""
    level = schema["spec"]["priorityLevelConfiguration"]["name"]
    told = f"This FlowSchema references the PriorityLevelConfiguration object named {orjson.dumps(level).decode()}"
    if level in levels:
        status, reason, message = "False", "Found", f"{told} and it exists"
    else:
        status, reason, message = "True", "NotFound", f"{told} but there is no such object"
    held = meta.condition(schema, _DANGLING) or {}
    if (held.get("status"), held.get("reason"), held.get("message")) == (status, reason, message):
        return None
    changed: JSON = meta.deepcopy(schema)
    changed["status"] = changed.get("status") or {}
    meta.set_condition(changed, _DANGLING, status, reason, message, now=now)
    return changed
