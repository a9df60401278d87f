"""What all controllers share: a queue of keys, workers, and the one place that decides about retries.

A controller reconciles from keys, never from events: handlers keep light books and enqueue, `sync` reads anew what the
key names and moves the world one step towards it. (Shape: controller-runtime `pkg/internal/controller/controller.go`.)
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object
from kubecore.client.events import EventRecorder
from kubecore.client.informer import InformerFactory, SharedInformer
from kubecore.client.workqueue import RateLimitingQueue, RateLimits, ShutDown
from kubecore.clock import Clock
from kubecore.metrics import Metric

log = logging.getLogger(__name__)


class RetryLater(Exception):
    """Raised by `sync` when a step cannot be made yet: retry with back-off, quietly."""


@dataclass(frozen=True, slots=True)
class ControllerContext:
    """What every controller is handed."""

    client: Client
    clock: Clock
    informers: InformerFactory

    def recorder(self, component: str) -> EventRecorder:
        return EventRecorder(self.client, self.clock, component)


class Controller(ABC):
    """A subclass names itself, registers handlers in its constructor and implements `sync`."""

    name: ClassVar[str]
    queue_name: ClassVar[str] = ""
    """In metrics, where upstream's is another than the first part of the name."""
    workers: ClassVar[int] = 2
    limits: ClassVar[RateLimits | None] = None
    metrics: Sequence[Metric] = ()
    """What is told of it beside its queue's."""

    def __init__(self, context: ControllerContext) -> None:
        self.client = context.client
        self.clock = context.clock
        self.informers = context.informers
        self.queue: RateLimitingQueue[str] = RateLimitingQueue(context.clock, self.limits)
        self.ready = asyncio.Event()
        self._needs: list[SharedInformer] = []

    # ------------------------------------------------------------------ for subclasses
    @abstractmethod
    async def sync(self, key: str) -> float | None:
        """Reconcile one key. A number asks to be called again in that many seconds; an exception is retried."""

    def informer(self, resource: str) -> SharedInformer:
        """A shared informer this controller waits for before it works."""
        return self.needs(self.informers.informer(resource))

    def needs(self, informer: SharedInformer) -> SharedInformer:
        """Likewise, of one with a namespace or selectors."""
        if informer not in self._needs:
            self._needs.append(informer)
        return informer

    def enqueue(self, obj: Object) -> None:
        self.queue.add(meta.key(obj))

    def enqueue_on_change(
        self, informer: SharedInformer, keys: Callable[[Object], Iterable[str]] | None = None
    ) -> None:
        """Enqueue on every change of an object, itself or the keys it maps to (both its old and its new ones)."""
        key_of = keys or (lambda obj: (meta.key(obj),))

        def one(obj: Object) -> None:
            for key in key_of(obj):
                self.queue.add(key)

        def both(old: Object, new: Object) -> None:
            before, now = key_of(old), key_of(new)
            for key in before:
                self.queue.add(key)
            if now != before:
                for key in now:
                    self.queue.add(key)

        informer.add_handler(one, both, one)

    async def started(self) -> None:  # noqa: B027 - most need nothing here
        """Called once when the caches are complete, before the workers start."""

    # ------------------------------------------------------------------ running
    async def run(self) -> None:
        """Work until cancelled."""
        for informer in self._needs:
            await informer.wait_synced()
        await self.started()
        self.ready.set()
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(self.workers):
                    group.create_task(self._work(), name=f"{self.name} worker {index}")
        finally:
            self.queue.shut_down()

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except ShutDown:
                return
            try:
                await self.reconcile(key)
            finally:
                self.queue.done(key)

    async def reconcile(self, key: str) -> None:
        """One sync and, by its outcome, what becomes of the key. The only retry switch there is."""
        try:
            again = await self.sync(key)
        except StatusError as error:
            if error.has_cause("NamespaceTerminating"):
                # nothing can be made there any more, and the namespace controller removes what there is
                self.queue.forget(key)
            elif errors.is_conflict(error) or errors.is_already_exists(error) or errors.is_not_found(error):
                # the cache was behind: what changed is on its way, the retry is for safety
                log.debug("%s %s: %s", self.name, key, error.message)
                self.queue.add_rate_limited(key)
            else:
                # a quota may refuse for hours: its event counts the tries, the log tells of the first
                say = log.debug if self.queue.failures(key) else log.warning
                say("%s %s: %s", self.name, key, error.message)
                self.queue.add_rate_limited(key)
        except RetryLater as error:
            log.debug("%s %s: %s", self.name, key, error)
            self.queue.add_rate_limited(key)
        except OSError as error:
            log.warning("%s %s: %s", self.name, key, error)
            self.queue.add_rate_limited(key)
        except Exception:
            log.exception("%s %s failed", self.name, key)
            self.queue.add_rate_limited(key)
        else:
            self.queue.forget(key)
            if again is not None:
                self.queue.add_after(key, again)
