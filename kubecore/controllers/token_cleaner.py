"""Deletes bootstrap tokens that have expired (kubernetes `pkg/controller/bootstrap/tokencleaner.go`)."""

from __future__ import annotations

import base64
import binascii
import logging
from datetime import datetime

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext

log = logging.getLogger(__name__)

_NAMESPACE, _TYPE = "kube-system", "bootstrap.kubernetes.io/token"


class TokenCleaner(Controller):
    """Keys are Secrets of kube-system. A token without an expiration is kept, one that cannot be read is not."""

    name = "token-cleaner-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._tokens = self.informers.informer("secrets", namespace=_NAMESPACE, field_selector=f"type={_TYPE}")
        self._needs.append(self._tokens)
        self._tokens.add_handler(self.enqueue, lambda _, new: self.enqueue(new))

    async def sync(self, key: str) -> float | None:
        token = self._tokens.get(key)
        if token is None or not (token.get("data") or {}).get("expiration"):
            return None
        left = (_expiration(token, self.clock.now()) - self.clock.now()).total_seconds()
        if left > 0:
            return left
        try:
            await self.client.delete("secrets", meta.name(token), meta.namespace(token), uid=meta.uid(token))
        except StatusError as error:
            if not errors.is_not_found(error):
                raise
        return None


def _expiration(token: Object, now: datetime) -> datetime:
    text = token["data"]["expiration"]
    try:
        return meta.parse_time(base64.b64decode(text).decode())
    except (binascii.Error, UnicodeDecodeError, ValueError):
        log.warning("unparseable expiration of bootstrap token %s: it counts as expired", meta.key(token))
        return now
