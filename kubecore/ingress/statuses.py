"""Writes where an Ingress is served into its status."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.client.informer import SharedInformer
from kubecore.client.workqueue import RateLimitingQueue
from kubecore.clock import Clock

log = logging.getLogger(__name__)

Object = dict[str, Any]

_INGRESSES = "ingresses.networking.k8s.io"
_AT_ONCE = 4


class StatusWriter:
    """`_wanted` holds the status.loadBalancer of every Ingress that is to have one of ours; one that had it and is to
    have it no more is cleared, and then left to others."""

    def __init__(self, client: Client, clock: Clock, ingresses: SharedInformer) -> None:
        self._client = client
        self._ingresses = ingresses
        self._wanted: dict[str, Object] = {}
        self._queue: RateLimitingQueue[str] = RateLimitingQueue(clock)

    def want(self, key: str, status: Object | None) -> None:
        """None: the Ingress is not ours (any more)."""
        if status is not None:
            if self._wanted.get(key) != status or self._shown(key) != status:
                self._wanted[key] = status
                self._queue.add(key)
        elif self._wanted.get(key):
            self._wanted[key] = {}
            self._queue.add(key)
        else:
            self._wanted.pop(key, None)

    def check(self, ingress: Object) -> None:
        """Somebody has changed its status."""
        key = meta.key(ingress)
        if key in self._wanted and self._shown(key) != self._wanted[key]:
            self._queue.add(key)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for index in range(_AT_ONCE):
                group.create_task(self._work(), name=f"ingress status {index}")

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._write(key)
                self._queue.forget(key)
            except (StatusError, OSError) as error:
                if isinstance(error, StatusError) and errors.is_not_found(error):
                    self._queue.forget(key)
                else:
                    log.debug("status of ingress %s: %s", key, error)
                    self._queue.add_rate_limited(key)
            finally:
                self._queue.done(key)

    async def _write(self, key: str) -> None:
        ingress, wanted = self._ingresses.get(key), self._wanted.get(key)
        if ingress is None:
            self._wanted.pop(key, None)
            return
        if wanted is None:
            return
        if self._shown(key) != wanted:
            changed = {**ingress, "status": {"loadBalancer": wanted}}
            await self._client.update(_INGRESSES, changed, subresource="status")
        if not wanted and not self._wanted.get(key):
            self._wanted.pop(key, None)

    def _shown(self, key: str) -> Object:
        ingress = self._ingresses.get(key) or {}
        return (ingress.get("status") or {}).get("loadBalancer") or {}
