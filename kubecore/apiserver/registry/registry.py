"""All stores of a server, and look-ups across them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.store import Store
from kubecore.apiserver.registry.turns import Turns

if TYPE_CHECKING:
    from kubecore.api.schemas import Schemas
    from kubecore.api.scheme import Scheme
    from kubecore.apiserver.admission.chain import AdmissionChain
    from kubecore.apiserver.registry.strategy import Strategy
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.apiserver.storage.interface import Storage
    from kubecore.clock import Clock

JSON = dict[str, Any]


class Strategies(Protocol):
    def strategy_for(self, key: str) -> Strategy: ...


class Registry:
    """One `Store` for each group resource, made when first asked for."""

    def __init__(
        self,
        *,
        scheme: Scheme,
        storage: Storage,
        cacher: Cacher,
        schemas: Schemas,
        strategies: Strategies,
        admission: AdmissionChain,
        clock: Clock,
    ) -> None:
        self.scheme = scheme
        self.storage = storage
        self.cacher = cacher
        self.schemas = schemas
        self.admission = admission
        self.clock = clock
        self.turns = Turns()
        self._strategies = strategies
        self._stores: dict[str, Store] = {}

    def store(self, key: str) -> Store | None:
        """By group resource ("pods", "deployments.apps"); None for what is not stored."""
        found = self._stores.get(key)
        if found is None:
            cached = self.cacher.cached(key)
            if cached is None:
                return None
            stored_key = cached.resource.key
            found = self._stores.get(stored_key)
            if found is None:
                found = self._stores[stored_key] = Store(self, cached, self._strategies.strategy_for(stored_key))
            self._stores[key] = found
        return found

    def restore(self, keys: list[str]) -> None:
        """Rebuilds what strategies keep in memory (allocations) from what is stored."""
        for key in keys:
            self._strategies.strategy_for(key).restore(self.list(key))

    # --- Lookup

    def get(self, resource_key: str, namespace: str, name: str) -> JSON | None:
        found = self.cacher.get(resource_key, namespace, name)
        return None if found is None else loads(found.value)

    def list(self, resource_key: str, namespace: str = "", label_selector: str = "") -> list[JSON]:
        listing = self.cacher.list(resource_key, namespace, label_selector=label_selector)
        return [loads(item) for item in listing.items]
