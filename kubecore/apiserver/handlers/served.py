"""What is served where: (group, version, resource) to its resource and store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubecore.api import errors

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.store import Store


@dataclass(frozen=True, slots=True)
class Served:
    """A resource in the version of the path; `store` is None where objects are not stored (reviews)."""

    resource: Resource
    store: Store | None
    kind: str  # "apps/v1/Deployment"

    def stored(self) -> Store:
        """Raises 405 where there is nothing to read or write."""
        if self.store is None:
            raise errors.method_not_allowed()
        return self.store


class ServedResources:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._found: dict[tuple[str, str, str], Served] = {}

    def find(self, group: str, version: str, plural: str) -> Served:
        """Raises 404 for what is not served."""
        path = (group, version, plural)
        served = self._found.get(path)
        if served is None:
            resource = self._registry.scheme.lookup(group, version, plural)
            if resource is None:
                raise errors.no_such_path()
            store = self._registry.store(resource.key)
            served = self._found[path] = Served(resource, store, f"{resource.api_version}/{resource.kind}")
        return served
