"""What a cluster cannot be without is put right whenever somebody changes it: the namespaces of its own, how pods reach
the API (Service default/kubernetes, where it leads, and the ranges of addresses), and whom extension API servers trust.

After upstream `pkg/controlplane/controller`: `systemnamespaces`, `kubernetesservice`, `defaultservicecidr` and
`clusterauthenticationtrust`, which look every ten seconds or every minute.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from kubecore.api import errors
from kubecore.apiserver.bootstrap.objects import AUTHENTICATION_CONFIG, SYSTEM_NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kubecore.apiserver.bootstrap.objects import Advertised
    from kubecore.apiserver.bootstrap.reconcile import Bootstrap
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.clock import Clock

    Trust = Callable[[], Mapping[str, str]]

log = logging.getLogger("kubecore.apiserver")

_NAME = "kubernetes"
# Key, namespace and name.
_KEPT = (
    *(("namespaces", "", name) for name in SYSTEM_NAMESPACES),
    ("services", "default", _NAME),
    ("endpoints", "default", _NAME),
    ("endpointslices.discovery.k8s.io", "default", _NAME),
    ("servicecidrs.networking.k8s.io", "", _NAME),
    ("configmaps", "kube-system", AUTHENTICATION_CONFIG),
)
# Somebody may insist on something else.
_BETWEEN_REPAIRS = 1.0
_RETRY_SECONDS = 10.0


class KeptKubernetes:
    """`run` keeps it until it is cancelled."""

    def __init__(self, bootstrap: Bootstrap, advertised: Advertised, trust: Trust, hub: WatchHub, clock: Clock) -> None:
        """`trust` tells what extension API servers are to trust now."""
        self._trust = trust
        self._bootstrap = bootstrap
        self._advertised = advertised
        self._hub = hub
        self._clock = clock
        self._changed = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for key, namespace, name in _KEPT:
                group.create_task(self._follow(key, namespace, name), name=f"{key} {name}")
            group.create_task(self._work(), name="kubernetes is kept")

    async def _follow(self, key: str, namespace: str, name: str) -> None:
        while True:
            watch = self._hub.query(key, "", namespace, name)
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
                await self._bootstrap.keep_namespaces()
                is_kept = await self._bootstrap.keep_kubernetes(self._advertised)
                await self._bootstrap.ensure_trust(self._trust())
            except errors.StatusError as error:
                log.warning("what the cluster cannot be without is not as it should be: %s", error.message)
                await self._try_again()
            except Exception:
                log.exception("what the cluster cannot be without is not kept")
                await self._try_again()
            else:
                await self._clock.sleep(_BETWEEN_REPAIRS)
                if not is_kept:
                    self._changed.set()

    async def _try_again(self) -> None:
        await self._clock.sleep(_RETRY_SECONDS)
        self._changed.set()
