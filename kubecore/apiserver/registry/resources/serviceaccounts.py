"""ServiceAccounts."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import advice

JSON = dict[str, Any]


class ServiceAccountStrategy(Strategy):
    resource_key = "serviceaccounts"
    tracks_generation = False
    returns_deleted = True

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        _keep_names(obj)

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        _keep_names(obj)

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return advice.of_account(obj, old)


def _keep_names(obj: JSON) -> None:
    """Secrets are in the same namespace: there is nothing to say of them but the name."""
    for secret in obj.get("secrets") or []:
        for field in [field for field in secret if field != "name"]:
            del secret[field]
