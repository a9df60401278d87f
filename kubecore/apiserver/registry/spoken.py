"""Who owns what of objects that several versions show: an entry of managedFields is in the words of the version it was
written through, and what a write changes is compared in those.

After apimachinery pkg/util/managedfields and structured-merge-diff's Updater with its Converter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.api.schemas import BuiltinKind, SchemaError
from kubecore.apiserver.registry.codec import dumps, loads
from kubecore.apiserver.registry.conversion import in_storage, in_version

if TYPE_CHECKING:
    from kubecore.api.schemas import Schemas
    from kubecore.api.scheme import Resource, Scheme


class SpokenVersions:
    """The versions that serve a built-in kind's objects, and the one these are stored in."""

    def __init__(self, scheme: Scheme, schemas: Schemas, stored: Resource) -> None:
        self._schemas = schemas
        self._stored = stored
        served = (resource for resource in scheme.resources if resource.storage_key == stored.key)
        self._known = {resource.api_version: resource for resource in (stored, *served)}

    def schema(self, resource: Resource) -> BuiltinKind:
        """The engine of one of them."""
        return BuiltinKind(self._schemas, _kind(resource), self._convert if self.several else None)

    @property
    def several(self) -> bool:
        return len(self._known) > 1

    def other(self, api_version: str) -> Resource | None:
        """What serves this version, where objects are not stored in it."""
        return None if api_version == self._stored.api_version else self._known.get(api_version)

    def said(self, body: bytes, resource: Resource) -> bytes:
        """A stored object as that version shows it."""
        return in_version(body, self._stored, resource)

    def _convert(self, body: bytes, api_version: str) -> tuple[str, bytes] | None:
        target, obj = self._known.get(api_version), loads(body)
        source = self._known.get(obj.get("apiVersion") or "")
        if target is None or source is None or bool(target.group) != bool(source.group):
            # Upstream, what serves the core group knows nothing of the others.
            return None
        try:
            obj = loads(self._schemas.decode(_kind(source), body, field_validation="Ignore").body)
        except SchemaError:
            # What is applied may be no object of its kind, which is told later.
            return None
        stored = dumps(in_storage(obj, self._stored, source))
        return _kind(target), in_version(stored, self._stored, target)


def _kind(resource: Resource) -> str:
    return f"{resource.api_version}/{resource.kind}"
