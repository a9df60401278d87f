"""Fills Secrets of type kubernetes.io/service-account-token, and deletes them with their account.

(kubernetes `pkg/controller/serviceaccount/tokens_controller.go`.)
"""

from __future__ import annotations

import base64
from typing import Protocol

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext

SECRET_TYPE = "kubernetes.io/service-account-token"
_NAME, _UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
_BY_ACCOUNT = "account-tokens-account"


class TokenSource(Protocol):
    def __call__(self, *, namespace: str, account: str, account_uid: str, secret: str) -> str:
        """A token of the account that lasts as long as the Secret."""


class AccountTokensController(Controller):
    """Keys are Secrets. `root_ca` is PEM, and may be empty."""

    name = "serviceaccount-token-controller"
    queue_name = "serviceaccount_tokens_service"

    def __init__(self, context: ControllerContext, issue: TokenSource, root_ca: bytes) -> None:
        super().__init__(context)
        self._issue = issue
        self._root_ca = base64.b64encode(root_ca).decode()
        self._accounts = self.informer("serviceaccounts")
        self._secrets = self.informers.informer("secrets", field_selector=f"type={SECRET_TYPE}")
        self._needs.append(self._secrets)
        self._secrets.add_index(_BY_ACCOUNT, _account_key)
        self._secrets.add_handler(self.enqueue, lambda _, new: self.enqueue(new), self._secret_gone)
        self._accounts.add_handler(self._account_changed, None, self._account_changed)

    def _account_changed(self, account: Object) -> None:
        for secret in self._secrets.by_index(_BY_ACCOUNT, meta.key(account)):
            self.enqueue(secret)

    def _secret_gone(self, secret: Object) -> None:
        """The account must not name it any longer."""
        for key in _account_key(secret):
            account = self._accounts.get(key)
            if account is not None and meta.name(secret) in _names(account):
                self.enqueue(secret)

    async def sync(self, key: str) -> float | None:
        secret = self._secrets.get(key)
        if secret is None:
            await self._forget(*meta.split_key(key))
        elif not meta.is_deleting(secret):
            account = await self._account_of(secret)
            if account is None:
                await self._delete(secret)
            else:
                await self._fill(secret, account)
        return None

    async def _account_of(self, secret: Object) -> Object | None:
        """Before a Secret counts as nobody's, the server is asked."""
        name, uid = meta.annotations(secret).get(_NAME, ""), meta.annotations(secret).get(_UID)
        account = self._accounts.get(meta.make_key(meta.namespace(secret), name))
        if account is None or (uid and meta.uid(account) != uid):
            account = await self.client.find("serviceaccounts", name, meta.namespace(secret))
        return account if account is not None and (not uid or meta.uid(account) == uid) else None

    async def _fill(self, secret: Object, account: Object) -> None:
        data = dict(secret.get("data") or {})
        if self._root_ca:
            data["ca.crt"] = self._root_ca
        namespace = meta.namespace(secret)
        data["namespace"] = data.get("namespace") or base64.b64encode(namespace.encode()).decode()
        if not data.get("token"):
            token = self._issue(
                namespace=namespace,
                account=meta.name(account),
                account_uid=meta.uid(account),
                secret=meta.name(secret),
            )
            data["token"] = base64.b64encode(token.encode()).decode()
        if data == secret.get("data"):
            return
        copy = {**meta.deepcopy(secret), "data": data}
        marks = {_NAME: meta.name(account), _UID: meta.uid(account)}
        copy["metadata"]["annotations"] = {**meta.annotations(secret), **marks}
        await self.client.update("secrets", copy)

    async def _delete(self, secret: Object) -> None:
        try:
            await self.client.delete("secrets", meta.name(secret), meta.namespace(secret), uid=meta.uid(secret))
        except StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def _forget(self, namespace: str, name: str) -> None:
        for account in self._accounts.list(namespace):
            if name in _names(account):
                kept = [one for one in account["secrets"] if one.get("name") != name]
                await self.client.update("serviceaccounts", {**account, "secrets": kept})


def _names(account: Object) -> set[str]:
    """The Secrets that the account names as its own."""
    return {one.get("name", "") for one in account.get("secrets") or ()}


def _account_key(secret: Object) -> list[str]:
    """Index: the account a Secret is of."""
    return [meta.make_key(meta.namespace(secret), meta.annotations(secret).get(_NAME, ""))]
