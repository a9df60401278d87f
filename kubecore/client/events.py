"""Records events about objects, correlated as Kubernetes does it, so that a loop cannot flood the cluster.

Rules and numbers are client-go's `tools/record/events_cache.go`: an event seen before only counts up; from the tenth
on that differs in its message alone within ten minutes they are combined; one source may tell 25 events about one
object at once and one every five minutes after that.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict, deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.api.label_names import SUBDOMAIN_RE
from kubecore.client.client import Client, Object
from kubecore.clock import Clock

log = logging.getLogger(__name__)

_REMEMBERED = 4096
_LONGEST_NAME = 253
# A burst of a component's work is told in full; only what never ends is cut off.
_QUEUED = 20_000
_AT_ONCE = 64
_SIMILAR_LIMIT = 10
_SIMILAR_SECONDS = 600.0
_SPAM_BURST = 25
_SPAM_SECONDS_PER_TOKEN = 300.0
_TRIES = 12
_RETRY_SECONDS = 10.0
_COMBINED = "(combined from similar events): "


_Key = tuple[str | None, ...]
"""What events have in common that are counted together."""

_Chain = list[tuple[Object, bool]]
"""What is to be written about one event, in its order, and whether that counts up what was written."""


@dataclass(slots=True)
class _Recorded:
    """The Event object that stands for one key."""

    name: str
    namespace: str
    count: int
    first: str


@dataclass(slots=True)
class _Similar:
    messages: set[str] = field(default_factory=set)
    last: float = 0.0


class EventCorrelator:
    """Decides what becomes of an event, without I/O: dropped, counted up, or new. Memory is bounded (LRU)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recorded: OrderedDict[_Key, _Recorded] = OrderedDict()
        self._similar: OrderedDict[_Key, _Similar] = OrderedDict()
        self._buckets: OrderedDict[_Key, tuple[float, float]] = OrderedDict()

    def correlate(self, event: Object) -> tuple[Object, bool] | None:
        """The event to write and whether it counts up one that was written; None if there are too many of them."""
        source = _source_key(event)
        if self._is_spam(source):
            return None
        similar = (*source, event["type"], event["reason"], event.get("action", ""))
        key = similar
        if self._combine(similar, event["message"]):
            # as upstream's, it names its source and not who reports it
            event["message"], event["reportingComponent"] = _COMBINED + event["message"], ""
        else:
            key = (*similar, event["message"])
        known = self._recorded.get(key)
        if known is None:
            metadata = event["metadata"]
            known = _Recorded(metadata["name"], metadata["namespace"], 1, event["firstTimestamp"])
            remember(self._recorded, key, known)
            return event, False
        known.count += 1
        self._recorded.move_to_end(key)
        event["metadata"]["name"], event["firstTimestamp"], event["count"] = known.name, known.first, known.count
        return event, True

    def _combine(self, key: _Key, message: str) -> bool:
        now = self._clock.monotonic()
        similar = self._similar.get(key)
        if similar is None or now - similar.last > _SIMILAR_SECONDS:
            similar = _Similar()
        similar.last = now
        if len(similar.messages) < _SIMILAR_LIMIT - 1:
            similar.messages.add(message)
        remember(self._similar, key, similar)
        return message not in similar.messages

    def _is_spam(self, key: _Key) -> bool:
        now = self._clock.monotonic()
        tokens, since = self._buckets.get(key, (float(_SPAM_BURST), now))
        tokens = min(_SPAM_BURST, tokens + (now - since) / _SPAM_SECONDS_PER_TOKEN)
        spam = tokens < 1.0
        remember(self._buckets, key, (tokens if spam else tokens - 1.0, now))
        return spam


class Correlator(Protocol):
    def correlate(self, event: Object) -> tuple[Object, bool] | None:
        """The event to write and whether it counts up one that was written; None if there is nothing to write."""


class EventRecorder:
    """`event` never blocks and never raises; events are written by a task that lives only while there are any."""

    def __init__(
        self, client: Client, clock: Clock, component: str, *, host: str = "", correlator: Correlator | None = None
    ) -> None:
        self._client = client
        self._clock = clock
        self._component = component
        self._host = host
        self._correlator: Correlator = correlator or EventCorrelator(clock)
        self._queue: deque[tuple[Object, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._sequence = 0
        self._dropping = False

    def event(
        self,
        obj: Object,
        type: str,
        reason: str,
        message: str,
        *,
        action: str = "",
        field_path: str = "",
        related: Object | None = None,
        annotations: dict[str, str] | None = None,
    ) -> None:
        """Tell that something happened to `obj`; `type` is Normal or Warning, `field_path` names a container in it."""
        if len(self._queue) >= _QUEUED:
            if not self._dropping:
                log.warning("events are dropped, %d wait: %s %s", _QUEUED, reason, message)
            self._dropping = True
            return
        event = self._make(obj, type, reason, message)
        if action:
            event["action"] = action
        if field_path:
            event["involvedObject"]["fieldPath"] = field_path
        if related is not None:
            event["related"] = reference(related)
        if annotations:
            event["metadata"]["annotations"] = annotations
        # told at once, so that what is too much never waits
        correlated = self._correlator.correlate(event)
        if correlated is None:
            return
        self._put(correlated)

    def _put(self, correlated: tuple[Object, bool]) -> None:
        self._queue.append(correlated)
        if self._task is None:
            self._task = asyncio.create_task(self._write_all(), name=f"events of {self._component}")

    async def flush(self) -> None:
        """Until everything recorded so far is written or given up."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Drop what is not written yet."""
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _make(self, obj: Object, type: str, reason: str, message: str) -> Object:
        now = self._clock.now()
        told = meta.format_time(now)
        source = {"component": self._component, "host": self._host} if self._host else {"component": self._component}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": self._name(obj, now),
                # events about objects without namespace are kept in the default one
                "namespace": meta.namespace(obj) or "default",
            },
            "involvedObject": reference(obj),
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": told,
            "lastTimestamp": told,
            "count": 1,
            "type": type,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }

    def _name(self, obj: Object, now: datetime) -> str:
        """With nanoseconds, made unique, since two events about one object may come within one reading of the clock."""
        self._sequence = max(self._sequence + 1, int(now.timestamp() * 1e6) * 1000)
        name = f"{meta.name(obj)}.{self._sequence:x}"
        if len(name) <= _LONGEST_NAME and SUBDOMAIN_RE.fullmatch(name):
            return name
        # the object may have a name that no event can have
        return str(uuid.uuid4())

    async def _write_all(self) -> None:
        try:
            while self._queue:
                await self._write_some()
        finally:
            self._task = None
            self._dropping = False

    async def _write_some(self) -> None:
        """A few at once, which share the server's commit; those that count up one event go in their order."""
        chains: dict[tuple[str, str], _Chain] = {}
        for _ in range(min(_AT_ONCE, len(self._queue))):
            correlated = self._queue.popleft()
            metadata = correlated[0]["metadata"]
            chains.setdefault((metadata["namespace"], metadata["name"]), []).append(correlated)
        new: dict[str, list[_Chain]] = {}
        writes: list[Coroutine[Any, Any, None]] = []
        for (namespace, _), chain in chains.items():
            if chain[0][1]:
                writes.append(self._write_chain(chain))
            else:
                new.setdefault(namespace, []).append(chain)
        writes += [self._write_new(namespace, begun) for namespace, begun in new.items()]
        await _all(writes)

    async def _write_new(self, namespace: str, chains: list[_Chain]) -> None:
        """The first events of these chains together, then what counts them up, and again what was not written."""
        try:
            outcomes = await self._client.post_all("events", [chain[0][0] for chain in chains], namespace)
        except (StatusError, OSError, TypeError, ValueError):
            # One that cannot be sent at all (of text that is no Unicode) must not take the others with it. Anything
            # else is a mistake of ours, which is to show and not to make every burst slow.
            await _all([self._write_chain(chain) for chain in chains])
            return
        left: list[Coroutine[Any, Any, None]] = []
        for chain, outcome in zip(chains, outcomes, strict=True):
            if not isinstance(outcome, bytes) and _passes(outcome):
                left.append(self._write_chain(chain, tried=1))
            elif len(chain) > 1:
                left.append(self._write_chain(chain[1:]))
        await _all(left)

    async def _write_chain(self, chain: _Chain, *, tried: int = 0) -> None:
        """`tried`: how often the first of it has been tried."""
        for event, counts_up in chain:
            await self._write(event, counts_up, tried)
            tried = 0

    async def _write(self, event: Object, counts_up: bool, tried: int) -> None:
        for attempt in range(tried, _TRIES):
            if attempt:
                await self._clock.sleep(_RETRY_SECONDS)
            try:
                await self._send(event, counts_up)
                return
            except Exception as error:
                if not _passes(error):
                    return
        log.warning("event given up: %s %s", event["reason"], event["message"])

    async def _send(self, event: Object, counts_up: bool) -> None:
        if counts_up:
            name, namespace = event["metadata"]["name"], event["metadata"]["namespace"]
            changed = self._counted(event)
            try:
                await self._client.patch_raw("events", name, changed, namespace, patch_type="merge")
                return
            except StatusError as error:
                if not errors.is_not_found(error):
                    raise
                # it expired meanwhile: begin again with this one, keeping the count as Kubernetes does
        await self._client.post("events", event)

    def _counted(self, event: Object) -> dict[str, Any]:
        """What changes when an event is counted up."""
        return {k: event[k] for k in ("count", "lastTimestamp", "message")}


def _passes(error: Exception) -> bool:
    """Whether the write may well succeed later."""
    if isinstance(error, OSError):
        log.debug("event not written: %s", error)
        return True
    if not isinstance(error, StatusError):
        log.error("event not written", exc_info=error)
        return False
    # refused for good: a namespace that is being deleted, most often
    refused = error.code < 500 and error.code != 429
    if refused:
        log.debug("event refused: %s", error.message)
    return not refused


async def _all(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Most often there is one, or none, which needs no task."""
    if len(works) > 1:
        await asyncio.gather(*works)
    else:
        for one in works:
            await one


def reference(obj: Object) -> Object:
    """The ObjectReference to an object."""
    metadata = obj["metadata"]
    ref = {
        "kind": obj.get("kind"),
        "namespace": metadata.get("namespace"),
        "name": metadata.get("name"),
        "uid": metadata.get("uid"),
        "apiVersion": obj.get("apiVersion"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    return ref if all(ref.values()) else {k: v for k, v in ref.items() if v}


_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")


def _source_key(event: Object) -> _Key:
    source = event["source"]
    return (source["component"], source.get("host"), *map(event["involvedObject"].get, _INVOLVED))


def remember(memory: OrderedDict[_Key, Any], key: _Key, value: Any) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)
