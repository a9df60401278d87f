"""What a request asks to do, as webhooks and policies see it: in the version they want.

After upstream k8s.io/apiserver pkg/admission/{attributes,conversion}.go.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kubecore.api import meta
from kubecore.apiserver.admission.dynamic.rules import is_placed
from kubecore.apiserver.registry.codec import dumps, loads

if TYPE_CHECKING:
    from kubecore.api.schemas import KindSchema
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]
Labels = Mapping[str, str]


class Kind(NamedTuple):
    group: str
    version: str
    kind: str


class Form(NamedTuple):
    """The objects of a request in one version, as JSON; None where there is none."""

    object: bytes | None
    old: bytes | None


def kind_of(resource: Resource, subresource: str) -> Kind:
    """Of the objects that are sent there."""
    own = resource.subresources.get(subresource)
    if own is not None:
        return Kind(own.group, own.version, own.kind)
    return Kind(resource.group, resource.version, resource.kind)


class Subject(ABC):
    """One request. `name` is empty while the server has not made one up, and for the objects of a collection."""

    def __init__(self, ctx: RequestContext, resource: Resource, *, subresource: str, name: str) -> None:
        self.ctx = ctx
        self.resource = resource
        self.subresource = subresource
        self.operation = ctx.operation
        self.name = name
        # Of a Namespace it is the name.
        self.namespace = ctx.name if resource.key == "namespaces" else ctx.namespace
        self.placed = is_placed(resource, self.namespace)

    @property
    def known_as(self) -> str:
        """What a refusal calls the object."""
        return self.name or "Unknown"

    @property
    @abstractmethod
    def labels(self) -> tuple[Labels | None, Labels | None]:
        """Of the object as it is to be, and as it was; None where there is none."""

    @abstractmethod
    async def form(self, target: Resource) -> Form:
        """The objects in the version of an equivalent resource. Raises StatusError when they cannot be converted."""

    @abstractmethod
    async def put(self, target: Resource, body: bytes) -> bool:
        """Takes over the changed object, which is in that version; whether that changed anything."""

    @abstractmethod
    def schema(self, target: Resource) -> KindSchema: ...


class OwnKind(Subject):
    """Of something that is no object of the resource: a Scale, a Binding, an Eviction, a review."""

    def __init__(
        self,
        ctx: RequestContext,
        resource: Resource,
        obj: JSON,
        old: JSON | None = None,
        *,
        subresource: str,
        schema: KindSchema,
    ) -> None:
        super().__init__(ctx, resource, subresource=subresource, name=ctx.name)
        self.obj = obj
        self._old = old
        self._schema = schema
        kind = kind_of(resource, subresource)
        self._head = {"apiVersion": f"{kind.group}/{kind.version}".lstrip("/"), "kind": kind.kind}

    @property
    def labels(self) -> tuple[Labels | None, Labels | None]:
        return _labels(self.obj), None if self._old is None else _labels(self._old)

    async def form(self, target: Resource) -> Form:
        old = None if self._old is None else dumps({**self._old, **self._head})
        return Form(dumps({**self.obj, **self._head}), old)

    async def put(self, target: Resource, body: bytes) -> bool:
        new = loads(body)
        changed = bool(new != {**self.obj, **self._head})
        self.obj.clear()
        self.obj.update(new)
        return changed

    def schema(self, target: Resource) -> KindSchema:
        return self._schema


def _labels(obj: JSON) -> Labels:
    return meta.labels(obj) if isinstance(obj.get("metadata"), dict) else {}
