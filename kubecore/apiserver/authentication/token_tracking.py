"""ConfigMap kube-system/kube-apiserver-legacy-service-account-token-tracking: the day since which Secrets of service
account tokens say when they were used, so that nobody takes one for unused that nobody has watched.

After upstream `pkg/controlplane/controller/legacytokentracking`.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.apiserver.registry.own_requests import own_request
from kubecore.apiserver.registry.writes import Change

if TYPE_CHECKING:
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.registry.registry import Registry

JSON = dict[str, Any]

log = logging.getLogger("kubecore.apiserver.authentication")

NAMESPACE, NAME = "kube-system", "kube-apiserver-legacy-service-account-token-tracking"
_SELECTED = f"fieldSelector=metadata.name%3D{NAME},metadata.namespace%3D{NAMESPACE}"
_FORMAT = "%Y-%m-%d"
# Servers of which some do not track would delete it, each time anew.
_BETWEEN_CREATIONS = 30 * 60.0
_RETRY_SECONDS = 5.0


class TokenTracking:
    """`start` makes it, `run` keeps it until it is cancelled."""

    def __init__(self, registry: Registry, hub: WatchHub) -> None:
        self._registry = registry
        self._hub = hub
        self._clock = registry.clock
        self._created: float | None = None

    async def start(self) -> None:
        """Raises StatusError."""
        await self._ensure()

    async def run(self) -> None:
        while True:
            watch = self._hub.query("configmaps", _SELECTED)
            await self._keep()
            async for batch in watch.batches():
                if any(event.type not in ("BOOKMARK", "ERROR") for event in batch):
                    await self._keep()

    async def _keep(self) -> None:
        while True:
            try:
                await self._ensure()
                return
            except errors.StatusError as error:
                log.warning("ConfigMap %s/%s is not kept: %s", NAMESPACE, NAME, error.message)
                await self._clock.sleep(_RETRY_SECONDS)

    async def _ensure(self) -> None:
        found = self._registry.get("configmaps", NAMESPACE, NAME)
        if found is not None and _is_day(_since(found)):
            return
        if found is None and self._created is not None:
            await self._clock.sleep(max(0.0, self._created + _BETWEEN_CREATIONS - self._clock.monotonic()))
        store = self._registry.store("configmaps")
        assert store is not None
        request = own_request(self._registry, "configmaps", "update", NAME, namespace=NAMESPACE)
        if (await store.update(request, Change(self._dated, creates=self._made))).created:
            self._created = self._clock.monotonic()

    def _made(self) -> JSON:
        """For an update that finds none."""
        metadata = {"name": NAME, "namespace": NAMESPACE}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": self._today()}

    def _dated(self, old: JSON, _: object) -> JSON:
        return old if _is_day(_since(old)) else {**old, "data": {**(old.get("data") or {}), **self._today()}}

    def _today(self) -> dict[str, str]:
        return {"since": self._clock.now().strftime(_FORMAT)}


def _since(found: JSON) -> str:
    return str((found.get("data") or {}).get("since", ""))


def _is_day(text: str) -> bool:
    try:
        return datetime.strptime(text, _FORMAT).strftime(_FORMAT) == text
    except ValueError:
        return False
