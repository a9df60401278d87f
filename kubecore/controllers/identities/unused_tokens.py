"""Secrets with tokens that were made for accounts without anybody asking, and that nobody has used for a year: they are
marked invalid, and deleted when nobody has minded for another year.

(kubernetes `pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go`.) The API server notes on its Secret
when a token is used, and in a ConfigMap since when it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.identities.account_tokens import SECRET_TYPE

_LAST_USED, _INVALID = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
_NAME, _UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
_TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
_FORMAT = "%Y-%m-%d"
_AGAIN = 24 * 3600.0
_REFERENCES = frozenset({"secretRef", "secretKeyRef", "nodePublishSecretRef", "secret"})


class UnusedTokenCleaner(Controller):
    """Keys are Secrets, each looked at once a day."""

    name = "legacy-serviceaccount-token-cleaner-controller"
    workers = 1

    def __init__(self, context: ControllerContext, *, period_seconds: float) -> None:
        super().__init__(context)
        self._period = timedelta(seconds=period_seconds)
        self._secrets = self.needs(self.informers.informer("secrets", field_selector=f"type={SECRET_TYPE}"))
        self._accounts = self.informer("serviceaccounts")
        self._pods = self.informer("pods")
        self.enqueue_on_change(self._secrets)

    async def sync(self, key: str) -> float | None:
        secret = self._secrets.get(key)
        if secret is None or meta.is_deleting(secret):
            return None
        now = self.clock.now()
        if self._is_unused(secret, now - self._period) and await self._is_tracked_since(now - self._period):
            await self._let_go(secret, now)
        return _AGAIN

    def _is_unused(self, secret: Object, since: datetime) -> bool:
        """And of the kind that were made unasked: their account names them."""
        if meta.parse_time(secret["metadata"]["creationTimestamp"]) >= since:
            return False
        used = meta.labels(secret).get(_LAST_USED)
        if used is not None and (_day(used) is None or used >= since.strftime(_FORMAT)):
            return False
        namespace, name = meta.namespace(secret), meta.name(secret)
        account = self._accounts.get(meta.make_key(namespace, meta.annotations(secret).get(_NAME, "")))
        if account is None or meta.annotations(secret).get(_UID) not in (None, "", meta.uid(account)):
            return False
        if all(one.get("name") != name for one in account.get("secrets") or ()):
            return False
        return all(name not in _secrets_in(pod["spec"]) for pod in self._pods.list(namespace))

    async def _is_tracked_since(self, time: datetime) -> bool:
        found = await self.client.find("configmaps", _TRACKING, "kube-system")
        if found is None:
            return False
        began = _day((found.get("data") or {}).get("since", ""))
        # of the day itself it is not known what was before
        return began is not None and began + timedelta(days=1) <= time

    async def _let_go(self, secret: Object, now: datetime) -> None:
        namespace, name = meta.namespace(secret), meta.name(secret)
        invalid = meta.labels(secret).get(_INVALID, "")
        if _day(invalid) is None:
            labels = {_INVALID: now.strftime(_FORMAT)}
            patch = {"metadata": {"uid": meta.uid(secret), "labels": labels}}
            await self.client.patch("secrets", name, patch, namespace, patch_type="merge")
        elif invalid < (now - self._period).strftime(_FORMAT):
            revision = secret["metadata"]["resourceVersion"]
            await self.client.delete("secrets", name, namespace, resource_version=revision)


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def _secrets_in(part: Any) -> Iterator[str]:
    """Names of Secrets that something in a pod's spec refers to."""
    if isinstance(part, list):
        for one in part:
            yield from _secrets_in(one)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key == "secretName":
                yield value
            elif key in _REFERENCES and isinstance(value, dict) and "name" in value:
                yield value["name"]
            elif key == "imagePullSecrets":
                yield from (one.get("name", "") for one in value or ())
            yield from _secrets_in(value)
