"""Service account tokens for pods: requested once, kept while fresh, replaced in good time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.clock import Clock
from kubecore.kubelet.volumes.sources import VolumeError

Object = dict[str, Any]

# Upstream `pkg/kubelet/token/token_manager.go`: after 80% of its life, or a day.
_FRESH_SHARE = 0.8
_LONGEST = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    refresh_at: datetime


class TokenManager:
    """Tokens by pod, audience and lifetime; bound to the pod, so they die with it."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens: dict[tuple[str, str, int], _Token] = {}

    async def token(self, pod: Object, audience: str, expiration_seconds: int) -> str:
        """Raises VolumeError when there is no token to be had and none that is still valid."""
        key = (meta.uid(pod), audience, expiration_seconds)
        held = self._tokens.get(key)
        now = self._clock.now()
        if held is not None and now < held.refresh_at:
            return held.text
        try:
            answer = await self._request(pod, audience, expiration_seconds)
        except (StatusError, OSError) as error:
            if held is not None:
                # The old one lives a while yet; the next refresh tries again.
                return held.text
            raise VolumeError(f"failed to fetch token: {error}") from error
        expires = meta.parse_time(answer["status"]["expirationTimestamp"])
        fresh_for = min((expires - now) * _FRESH_SHARE, _LONGEST)
        self._tokens[key] = _Token(answer["status"]["token"], now + fresh_for)
        return str(answer["status"]["token"])

    async def _request(self, pod: Object, audience: str, expiration_seconds: int) -> Object:
        spec: Object = {
            "expirationSeconds": expiration_seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta.name(pod), "uid": meta.uid(pod)},
            "audiences": [audience] if audience else [],
        }
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        account = pod["spec"].get("serviceAccountName") or "default"
        namespace = meta.namespace(pod)
        return await self._client.create("serviceaccounts", request, namespace, name=account, subresource="token")

    def next_refresh(self, uid: str) -> datetime | None:
        """When the first of the pod's tokens wants replacing."""
        return min((token.refresh_at for key, token in self._tokens.items() if key[0] == uid), default=None)

    def forget(self, uid: str) -> None:
        for key in [key for key in self._tokens if key[0] == uid]:
            del self._tokens[key]
