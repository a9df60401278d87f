"""How pods reach the API is put right whenever somebody changes it: Service default/kubernetes, where it leads, and the
ranges of addresses.

After upstream `pkg/controlplane/controller/kubernetesservice` and `defaultservicecidr`, which look every ten seconds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from kubecore.api import errors

if TYPE_CHECKING:
    from kubecore.apiserver.bootstrap.objects import Advertised
    from kubecore.apiserver.bootstrap.reconcile import Bootstrap
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

_NAME = "kubernetes"
# By key, with the namespace.
_KEPT = (
    ("services", "default"),
    ("endpoints", "default"),
    ("endpointslices.discovery.k8s.io", "default"),
    ("servicecidrs.networking.k8s.io", ""),
)
# Somebody may insist on something else.
_BETWEEN_REPAIRS = 1.0
_RETRY_SECONDS = 10.0


class KeptKubernetes:
    """`run` keeps it until it is cancelled."""

    def __init__(self, bootstrap: Bootstrap, advertised: Advertised, hub: WatchHub, clock: Clock) -> None:
        self._bootstrap = bootstrap
        self._advertised = advertised
        self._hub = hub
        self._clock = clock
        self._changed = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for key, namespace in _KEPT:
                group.create_task(self._follow(key, namespace), name=f"{key} kubernetes")
            group.create_task(self._work(), name="kubernetes is kept")

    async def _follow(self, key: str, namespace: str) -> None:
        while True:
            watch = self._hub.query(key, "", namespace, _NAME)
            async for batch in watch.batches():
                if any(event.type not in ("BOOKMARK", "ERROR") for event in batch):
                    self._changed.set()
            # It fell behind.
            self._changed.set()

    async def _work(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._bootstrap.keep_kubernetes(self._advertised)
            except errors.StatusError as error:
                log.warning("Service default/kubernetes is not as it should be: %s", error.message)
                await self._try_again()
            except Exception:
                log.exception("Service default/kubernetes is not kept")
                await self._try_again()
            else:
                await self._clock.sleep(_BETWEEN_REPAIRS)

    async def _try_again(self) -> None:
        await self._clock.sleep(_RETRY_SECONDS)
        self._changed.set()
