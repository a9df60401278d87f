"""Tokens without expiry, kept in Secrets of type kubernetes.io/service-account-token.

Such a token is good while the Secret holds it, so the Secrets are followed, and what they hold is made known to the
authenticator. (kubernetes `pkg/serviceaccount/legacy.go`.)
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from kubecore import _native
from kubecore.api import meta
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore.apiserver.authentication.tokens import TokenIssuer
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_SELECTED = "fieldSelector=type%3Dkubernetes.io%2Fservice-account-token"
_INVALID = "kubernetes.io/legacy-token-invalid-since"


class LegacyTokens:
    """Runs until cancelled."""

    def __init__(
        self, hub: WatchHub, cacher: Cacher, issuer: TokenIssuer, authenticator: _native.Authenticator
    ) -> None:
        self._hub = hub
        self._cacher = cacher
        self._issuer = issuer
        self._authenticator = authenticator
        self._known: dict[str, str] = {}
        """Key of a Secret → the token it holds."""

    async def run(self) -> None:
        while True:
            watch = self._hub.query("secrets", _SELECTED)
            # The last one may have fallen behind: this one tells of what is there, not of what went meanwhile.
            for key in [key for key in self._known if self._cacher.get("secrets", *meta.split_key(key)) is None]:
                self._forget(key)
            async for batch in watch.batches():
                for event in batch:
                    if event.type not in ("BOOKMARK", "ERROR"):
                        self._see(loads(event.object), gone=event.type == "DELETED")

    def _see(self, secret: JSON, *, gone: bool) -> None:
        key = meta.key(secret)
        token = "" if gone or meta.is_deleting(secret) else _token(secret)
        if token == self._known.get(key, ""):
            return
        self._forget(key)
        user = self._user(secret, token) if token else None
        if user is not None:
            self._known[key] = token
            self._authenticator.keep_token(token, user)

    def _forget(self, key: str) -> None:
        token = self._known.pop(key, None)
        if token is not None:
            self._authenticator.forget_token(token)

    def _user(self, secret: JSON, token: str) -> _native.UserInfo | None:
        """The account that the token says, if we signed it for this Secret and the account is still that one."""
        said = self._issuer.read_legacy(token)
        if said is None or (said.namespace, said.secret) != (meta.namespace(secret), meta.name(secret)):
            return None
        stored = self._cacher.get("serviceaccounts", said.namespace, said.account)
        if stored is None or meta.uid(loads(stored.value)) != said.account_uid:
            return None
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{said.namespace}", "system:authenticated"]
        name = f"system:serviceaccount:{said.namespace}:{said.account}"
        return _native.UserInfo(name, said.account_uid, groups, {})


def _token(secret: JSON) -> str:
    if _INVALID in meta.labels(secret):
        return ""
    try:
        return base64.b64decode((secret.get("data") or {}).get("token") or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
