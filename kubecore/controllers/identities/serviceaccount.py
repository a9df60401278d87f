"""Sees to it that every active namespace has the ServiceAccount `default`."""

from __future__ import annotations

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext


class ServiceAccountController(Controller):
    """Keys are namespaces."""

    name = "serviceaccount-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._namespaces = self.informer("namespaces")
        self._accounts = self.informer("serviceaccounts")
        self._namespaces.add_handler(self.enqueue, lambda _, new: self.enqueue(new))
        self._accounts.add_handler(on_delete=self._account_deleted)

    def _account_deleted(self, account: Object) -> None:
        if meta.name(account) == "default":
            self.queue.add(meta.namespace(account))

    async def sync(self, key: str) -> float | None:
        namespace = self._namespaces.get(key)
        if namespace is None or meta.is_deleting(namespace) or self._accounts.get(f"{key}/default") is not None:
            return None
        try:
            await self.client.create("serviceaccounts", {"metadata": {"name": "default", "namespace": key}})
        except StatusError as error:
            if not errors.is_already_exists(error) and not errors.is_not_found(error):
                raise
        return None
