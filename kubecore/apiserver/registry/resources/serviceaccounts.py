"""ServiceAccounts."""

from __future__ import annotations

from kubecore.apiserver.registry.strategy import Strategy


class ServiceAccountStrategy(Strategy):
    resource_key = "serviceaccounts"
    tracks_generation = False
    returns_deleted = True
