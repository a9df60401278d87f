"""Tokens of a service account for whoever may request them: one identity for each controller of a manager.

After upstream `staging/src/k8s.io/controller-manager/pkg/clientbuilder/client_builder_dynamic.go`.
"""

from __future__ import annotations

import asyncio

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.clock import Clock

_SECONDS = 3600
_RENEWED_AFTER = 0.8


class ServiceAccountToken:
    """Called for a token, it requests one when it has none that is good for a while; the account is made if need be.

    `client` must have the right to. Raises StatusError, OSError.
    """

    def __init__(self, client: Client, clock: Clock, name: str, *, namespace: str = "kube-system") -> None:
        self._client = client
        self._clock = clock
        self._name = name
        self._namespace = namespace
        self._token = ""
        self._good_until = 0.0
        self._lock = asyncio.Lock()

    async def __call__(self) -> str:
        async with self._lock:
            if self._clock.monotonic() >= self._good_until:
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        await self._ensure_account()
        answer = await self._client.create(
            "serviceaccounts",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": _SECONDS}},
            self._namespace,
            name=self._name,
            subresource="token",
        )
        expires = meta.parse_time(answer["status"]["expirationTimestamp"])
        lifetime = (expires - self._clock.now()).total_seconds()
        self._token = answer["status"]["token"]
        self._good_until = self._clock.monotonic() + lifetime * _RENEWED_AFTER

    async def _ensure_account(self) -> None:
        if await self._client.find("serviceaccounts", self._name, self._namespace) is not None:
            return
        try:
            await self._client.create("serviceaccounts", {"metadata": {"name": self._name}}, self._namespace)
        except StatusError as refused:
            if not errors.is_already_exists(refused):
                raise
