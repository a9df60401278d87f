"""Bootstrap tokens, which let machines join: the expired go, and the others sign what newcomers may trust.

(kubernetes `pkg/controller/bootstrap`.) A token is a Secret `kube-system/bootstrap-token-<id>`; ConfigMap
`kube-public/cluster-info` carries for each a signature of its kubeconfig (detached JWS, RFC 7515 appendix F).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.client.informer import SharedInformer
from kubecore.controllers.base import Controller, ControllerContext

_TYPE = "bootstrap.kubernetes.io/token"
_NAME = re.compile(r"bootstrap-token-([a-z0-9]{6})")
_INFO = "kube-public/cluster-info"
_SIGNATURE = "jws-kubeconfig-"


def _tokens(controller: Controller) -> SharedInformer:
    selected = {"namespace": "kube-system", "field_selector": f"type={_TYPE}"}
    return controller.informers.informer("secrets", **selected)


class TokenCleaner(Controller):
    """Keys are Secrets."""

    name = "token-cleaner-controller"
    queue_name = "token_cleaner"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._tokens = self.needs(_tokens(self))
        self.enqueue_on_change(self._tokens)

    async def sync(self, key: str) -> float | None:
        secret = self._tokens.get(key)
        if secret is None:
            return None
        left = _seconds_left(secret, self.clock.now().timestamp())
        if left is None or left > 0:
            return left
        try:
            await self.client.delete("secrets", meta.name(secret), meta.namespace(secret), uid=meta.uid(secret))
        except StatusError as error:
            if not errors.is_not_found(error) and not errors.is_conflict(error):
                raise
        return None


class BootstrapSigner(Controller):
    """The one key is that of the ConfigMap."""

    name = "bootstrap-signer-controller"
    queue_name = "bootstrap_signer_queue"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._tokens = self.needs(_tokens(self))
        selected = {"namespace": "kube-public", "field_selector": "metadata.name=cluster-info"}
        self._info = self.needs(context.informers.informer("configmaps", **selected))
        self.enqueue_on_change(self._tokens, lambda _: (_INFO,))
        self.enqueue_on_change(self._info)

    async def sync(self, key: str) -> float | None:
        info = self._info.get(_INFO)
        data: dict[str, str] = (info or {}).get("data") or {}
        content = data.get("kubeconfig")
        if info is None or content is None:
            return None
        now = self.clock.now().timestamp()
        secrets = [one for one in self._tokens.list() if _may_sign(one, now)]
        signed = {_SIGNATURE + _datum(one, "token-id"): _signature(content, one) for one in secrets}
        kept = {name: value for name, value in data.items() if not name.startswith(_SIGNATURE)}
        if {**kept, **signed} != data:
            await self.client.update("configmaps", {**info, "data": {**kept, **signed}})
        return None


def _datum(secret: Object, name: str) -> str:
    try:
        return base64.b64decode((secret.get("data") or {}).get(name) or "").decode()
    except ValueError:
        return ""


def _seconds_left(secret: Object, now: float) -> float | None:
    """None for a token that does not expire; 0 for one that says what is no time."""
    text = _datum(secret, "expiration")
    if not text:
        return None
    try:
        return max(0.0, meta.parse_time(text).timestamp() - now)
    except ValueError:
        return 0.0


def _may_sign(secret: Object, now: float) -> bool:
    named = _NAME.fullmatch(meta.name(secret))
    if named is None or named[1] != _datum(secret, "token-id") or not _datum(secret, "token-secret"):
        return False
    return _seconds_left(secret, now) != 0 and _datum(secret, "usage-bootstrap-signing") == "true"


def _signature(content: str, secret: Object) -> str:
    header = _encoded(json.dumps({"alg": "HS256", "kid": _datum(secret, "token-id")}, separators=(",", ":")).encode())
    signed = f"{header}.{_encoded(content.encode())}".encode()
    mac = hmac.new(_datum(secret, "token-secret").encode(), signed, hashlib.sha256).digest()
    return f"{header}..{_encoded(mac)}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
