"""Bootstrap tokens: `ID.SECRET`, kept in Secrets of kube-system, by which nodes join a cluster.

After upstream plugin/pkg/auth/authenticator/token/bootstrap and k8s.io/cluster-bootstrap util/secrets.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kubecore import _native
from kubecore.api import meta
from kubecore.apiserver.authentication.modules import Accepted, intersection
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.clock import Clock

JSON = dict[str, Any]

log = logging.getLogger("kubecore.apiserver.authentication")

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_TYPE = "bootstrap.kubernetes.io/token"
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
_EVERYBODY = "system:bootstrappers"


class BootstrapTokens:
    """Looked up at each use, so that nothing is remembered of a token that is deleted."""

    def __init__(self, cacher: Cacher, clock: Clock, audiences: Sequence[str]) -> None:
        self._cacher = cacher
        self._clock = clock
        self._audiences = tuple(audiences)

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Accepted | None:
        parsed = _TOKEN.fullmatch(token)
        fitting = intersection(audiences, self._audiences)
        if parsed is None or not fitting:
            return None
        stored = self._cacher.get("secrets", "kube-system", f"bootstrap-token-{parsed[1]}")
        if stored is None:
            return None
        user, problem = self._user(loads(stored.value), parsed[1], parsed[2])
        if user is None:
            log.info("bootstrap secret kube-system/bootstrap-token-%s matching bearer token %s", parsed[1], problem)
            return None
        return Accepted(user, 0.0, fitting)

    def _user(self, secret: JSON, number: str, password: str) -> tuple[_native.UserInfo | None, str]:
        """The user, or why it is none."""
        if meta.is_deleting(secret):
            return None, "is deleted and awaiting removal"
        if secret.get("type") != _TYPE:
            return None, f"has invalid type, expected {_TYPE}."
        data = _decoded(secret)
        if not hmac.compare_digest(data.get("token-secret", "").encode(), password.encode()):
            return None, "has invalid value for key token-secret."
        if data.get("token-id") != number:
            return None, "has invalid value for key token-id."
        if self._has_expired(data.get("expiration", "")):
            return None, "has expired."
        if data.get("usage-bootstrap-authentication") != "true":
            return None, "not marked usage-bootstrap-authentication=true."
        groups = {_EVERYBODY}
        extra = data.get("auth-extra-groups", "")
        for group in extra.split(",") if extra else ():
            if not _GROUP.fullmatch(group):
                return None, "has invalid value for key auth-extra-groups."
            groups.add(group)
        return _native.UserInfo(f"system:bootstrap:{number}", "", sorted(groups)), ""

    def _has_expired(self, expiration: str) -> bool:
        """Never without an expiration; one that is no time counts as passed."""
        if not expiration:
            return False
        try:
            until = datetime.fromisoformat(expiration)
        except ValueError:
            return True
        return until.tzinfo is None or until <= self._clock.now()


def _decoded(secret: JSON) -> dict[str, str]:
    decoded = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            decoded[key] = base64.b64decode(value or "").decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return decoded
