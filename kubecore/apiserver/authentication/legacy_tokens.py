"""Tokens without expiry, kept in Secrets of type kubernetes.io/service-account-token.

Such a token is good while the Secret holds it, and each day that somebody comes with it is written on the Secret, for
whoever wants to know which are still needed. (kubernetes `pkg/serviceaccount/legacy.go`.)
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from kubecore import _native
from kubecore.api import errors, meta
from kubecore.apiserver.authentication.modules import REMEMBERED_SECONDS, Accepted, TokenRefused, intersection
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.own_requests import own_request
from kubecore.apiserver.registry.store import Change
from kubecore.metrics import Counter, Named

if TYPE_CHECKING:
    from kubecore.apiserver.authentication.tokens import LegacyToken, TokenIssuer
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.clock import Clock

JSON = dict[str, Any]

log = logging.getLogger("kubecore.apiserver.authentication")

INVALID = "kubernetes.io/legacy-token-invalid-since"
LAST_USED = "kubernetes.io/legacy-token-last-used"
_SELECTED = "fieldSelector=type%3Dkubernetes.io%2Fservice-account-token"


class LegacyTokens:
    """A `TokenModule`; it knows tokens while there `are_any`, which `changed` is called about, and when one that may
    have been found good is so no more."""

    def __init__(self, cacher: Cacher, issuer: TokenIssuer, clock: Clock) -> None:
        self._cacher = cacher
        self._issuer = issuer
        self._clock = clock
        self._held: dict[str, str] = {}
        """Key of a Secret → the token it holds, and whether that was said to be invalid."""
        self._registry: Registry | None = None
        self.changed: Callable[[], None] = lambda: None
        self._used, self._manual, self._generated, self._invalid = self.metrics = [
            Counter(Named(f"serviceaccount_{name}_total", f"[ALPHA] Cumulative {told} used"))
            for name, told in (
                ("legacy_tokens", "legacy service account tokens"),
                ("legacy_manual_token_uses", "manually created legacy tokens"),
                ("legacy_auto_token_uses", "auto-generated legacy tokens"),
                ("invalid_legacy_auto_token_uses", "invalid auto-generated legacy tokens"),
            )
        ]

    @property
    def are_any(self) -> bool:
        return bool(self._held)

    # --- whose a token is

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Accepted | None:
        fitting = intersection(audiences, self._issuer.audiences)
        said = self._issuer.read_legacy(token) if fitting else None
        if said is None:
            return None
        secret, account = self._looked_up(said, token)
        self._used.add()
        if meta.labels(secret).get(INVALID):
            self._invalid.add()
            await self._note_use(secret)
            raise TokenRefused(
                f"the token in secret {meta.key(secret)} for service account {said.namespace}/{said.account} has been "
                "marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or "
                f"remove the '{INVALID}' label from the secret to temporarily allow use of this token"
            )
        generated = any(one.get("name") == said.secret for one in account.get("secrets") or ())
        (self._generated if generated else self._manual).add()
        await self._note_use(secret)
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{said.namespace}"]
        name = f"system:serviceaccount:{said.namespace}:{said.account}"
        return Accepted(_native.UserInfo(name, said.account_uid, groups, {}), REMEMBERED_SECONDS, fitting)

    def _looked_up(self, said: LegacyToken, token: str) -> tuple[JSON, JSON]:
        """The Secret and the account that the token names. Raises TokenRefused unless they are still those."""
        secret = self._get("secrets", said.namespace, said.secret)
        if secret is None or meta.is_deleting(secret):
            raise TokenRefused("Token has been invalidated")
        if not hmac.compare_digest(_token(secret).encode(), token.encode()):
            raise TokenRefused("Token does not match server's copy")
        account = self._get("serviceaccounts", said.namespace, said.account)
        whose = f"{said.namespace}/{said.account}"
        if account is None or meta.is_deleting(account):
            raise TokenRefused(f"ServiceAccount {whose} has been deleted")
        if meta.uid(account) != said.account_uid:
            raise TokenRefused(f"ServiceAccount UID ({meta.uid(account)}) does not match claim ({said.account_uid})")
        return secret, account

    def _get(self, resource: str, namespace: str, name: str) -> JSON | None:
        found = self._cacher.get(resource, namespace, name)
        return None if found is None else loads(found.value)

    # --- when it was used

    async def _note_use(self, secret: JSON) -> None:
        """The first one of the day. A server whose clock is ahead may have noted tomorrow's."""
        now = self._clock.now()
        if self._registry is None or meta.labels(secret).get(LAST_USED) in (_day(now), _day(now + timedelta(days=1))):
            return
        store = self._registry.store("secrets")
        assert store is not None
        namespace, name, uid = meta.namespace(secret), meta.name(secret), meta.uid(secret)

        def noted(old: JSON, _: object) -> JSON:
            if meta.uid(old) != uid:
                raise errors.conflict("", "secrets", name, "it is another one by now")
            metadata = old["metadata"]
            return {**old, "metadata": {**metadata, "labels": {**meta.labels(old), LAST_USED: _day(now)}}}

        request = own_request(self._registry, "secrets", "patch", name, namespace=namespace, exempt=False)
        try:
            await store.update(request, Change(noted))
        except errors.StatusError as error:
            log.error("cannot label Secret %s/%s with the day it was last used: %s", namespace, name, error.message)

    # --- following the Secrets

    async def run(self, registry: Registry, hub: WatchHub) -> None:
        """Until cancelled."""
        self._registry = registry
        while True:
            watch = hub.query("secrets", _SELECTED)
            # The last one may have fallen behind: this one tells of what is there, not of what went meanwhile.
            for key in [key for key in self._held if self._cacher.get("secrets", *meta.split_key(key)) is None]:
                self._hold(key, "")
            async for batch in watch.batches():
                for event in batch:
                    if event.type not in ("BOOKMARK", "ERROR"):
                        self._see(loads(event.object), gone=event.type == "DELETED")

    def _see(self, secret: JSON, *, gone: bool) -> None:
        token = "" if gone or meta.is_deleting(secret) else _token(secret)
        self._hold(meta.key(secret), token and meta.labels(secret).get(INVALID, "") + " " + token)

    def _hold(self, key: str, state: str) -> None:
        before, were_any = self._held.get(key, ""), self.are_any
        if state:
            self._held[key] = state
        else:
            self._held.pop(key, None)
        if (before and state != before) or were_any != self.are_any:
            self.changed()


def _token(secret: JSON) -> str:
    try:
        return base64.b64decode((secret.get("data") or {}).get("token") or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _day(time: datetime) -> str:
    return time.strftime("%Y-%m-%d")
