"""Resources that serve the same objects, and objects in the version of another of them.

After upstream k8s.io/apimachinery pkg/runtime/mapper.go (EquivalentResourceRegistry).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kubecore.apiserver.registry.codec import dumps, loads
from kubecore.apiserver.registry.conversion import in_storage, in_version
from kubecore.apiserver.storage.interface import Stored

if TYPE_CHECKING:
    from kubecore.api.schemas import KindSchema
    from kubecore.api.scheme import Resource, Scheme
    from kubecore.apiserver.registry.store import Store

JSON = dict[str, Any]


class Served(Protocol):
    """A resource in one version."""

    @property
    def resource(self) -> Resource: ...
    @property
    def store(self) -> Store | None: ...
    @property
    def schema(self) -> KindSchema: ...


class Versions:
    def __init__(
        self,
        scheme: Scheme,
        find: Callable[[str, str, str], Served],
        custom: Callable[[str], Sequence[str]],
        custom_kind: Callable[[str, str], str],
    ) -> None:
        """`find` is told group, version and plural, and raises 404; `custom` names the served versions of a
        definition, the preferred one first; `custom_kind` the plural of a group's kind, "" for one it does not have."""
        self._scheme = scheme
        self._find = find
        self._custom = custom
        self._custom_kind = custom_kind
        self._builtin: dict[str, tuple[Resource, ...]] = {}

    def find(self, resource: Resource, api_version: str) -> Resource:
        """The resource in the version that a client speaks."""
        if not api_version or api_version == resource.api_version:
            return resource
        group, _, version = api_version.rpartition("/")
        return self._find(group, version, resource.plural).resource

    def of_kind(self, group: str, version: str, kind: str) -> Resource | None:
        """The resource whose objects are of this kind; None where none is served."""
        found = self._scheme.for_kind(group, version, kind)
        if found is not None:
            return found
        plural = self._custom_kind(group, kind)
        served = version in self._custom(f"{plural}.{group}") if plural else False
        return self._find(group, version, plural).resource if served else None

    def are_fixed(self, resource: Resource) -> bool:
        return self._scheme.knows(resource.key)

    def equivalents(self, resource: Resource) -> Sequence[Resource]:
        """All that serve these objects, the resource itself among them."""
        if not self._scheme.knows(resource.key):
            found = [self._find(resource.group, version, resource.plural) for version in self._custom(resource.key)]
            return [one.resource for one in found]
        key = resource.storage_key
        if key not in self._builtin:
            self._builtin[key] = tuple(one for one in self._scheme.resources if one.storage_key == key)
        return self._builtin[key]

    def schema(self, resource: Resource) -> KindSchema:
        return self._find(resource.group, resource.version, resource.plural).schema

    async def convert(self, body: bytes, store: Store, target: Resource) -> bytes:
        """An object of the store's version in another one."""
        if target.api_version == store.resource.api_version:
            return body
        if self._scheme.knows(target.key):
            return in_version(body, store.resource, target)
        return await _between(body, store, self.store(target))

    async def back(self, body: bytes, store: Store, target: Resource) -> JSON:
        """An object of another version in the store's."""
        if target.api_version != store.resource.api_version:
            if self._scheme.knows(target.key):
                return in_storage(loads(body), store.resource, target)
            body = await _between(body, self.store(target), store)
        obj: JSON = loads(body)
        return obj

    def store(self, resource: Resource) -> Store:
        found = self._find(resource.group, resource.version, resource.plural).store
        assert found is not None, f"{resource.key} is not stored"
        return found


async def _between(body: bytes, source: Store, target: Store) -> bytes:
    """By the version objects are stored in."""
    obj = loads(body)
    revision = obj["metadata"].pop("resourceVersion", None)
    head, tail = await source.template(dumps(obj))
    stored = Stored(0, head + tail)
    converted = stored if target.conversion is None else await target.conversion.read(stored)
    made = loads(converted.value)
    made["metadata"].pop("resourceVersion", None)
    if revision is not None:
        made["metadata"]["resourceVersion"] = revision
    return dumps(made)
