"""Bytes to objects and back: the schema engine as the registry uses it, its errors in Kubernetes' words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors
from kubecore.api.schemas import with_gos_numbers
from kubecore.apiserver.registry.opaque import OpaqueMembers, unmarked
from kubecore.apiserver.storage.interface import Template

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource

JSON = dict[str, Any]

loads = orjson.loads
dumps = orjson.dumps


def ordered(obj: JSON) -> bytes:
    """JSON in which the order of members does not tell."""
    return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)


# What a write of the status can change, and what says of which object it is.
OF_STATUS = ("apiVersion", "kind", "metadata", "status")


class Codec:
    """Encoding of one stored resource. Canonical bytes begin with apiVersion, kind and metadata, in that order, which
    is where the resourceVersion is spliced in."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._head: JSON = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": None}
        # The numbers of built-in kinds are of declared types.
        self._numbers = with_gos_numbers if resource.storage_version else bytes
        self.opaque = OpaqueMembers(resource.key)
        opening = dumps({"apiVersion": resource.api_version, "kind": resource.kind})
        self.opening = opening[:-1] + b',"metadata":{'
        """What canonical bytes begin with."""
        self._cut = len(self.opening)
        self._template_head = self.opening + b'"resourceVersion":"'

    def encode(self, obj: JSON, *like: bytes) -> bytes:
        """Canonical bytes without resourceVersion (which `obj` loses). Opaque members are written as in the bodies
        `like`, the last of them in doubt."""
        meta = obj["metadata"]
        meta.pop("resourceVersion", None)
        obj["apiVersion"] = self.resource.api_version
        obj["kind"] = self.resource.kind
        if not (self.opaque and like):
            return self._numbers(dumps({**self._head, **obj}))
        marked, texts = self.opaque.marked(obj, like)
        return unmarked(self._numbers(dumps({**self._head, **marked})), texts)

    def encode_managed(self, obj: JSON, managed: bytes | None, *like: bytes) -> bytes:
        """Canonical bytes with these managedFields (JSON), whatever `obj` has."""
        metadata = obj["metadata"]
        kept = metadata.pop("managedFields", None)
        if managed and managed != b"[]":
            metadata["managedFields"] = orjson.Fragment(managed)
        try:
            return self.encode(obj, *like)
        finally:
            if kept is not None:
                metadata["managedFields"] = kept
            else:
                metadata.pop("managedFields", None)

    def writes_alike(self, one: JSON, other: JSON) -> bool:
        """Whether both are stored as the same JSON: to Python `true` equals 1, and `1.0` does."""
        return one == other and self._numbers(ordered(one)) == self._numbers(ordered(other))

    def template(self, body: bytes) -> Template:
        """Canonical bytes, ready for a revision."""
        if not body.startswith(self.opening):
            body = self.encode(loads(body))
        return Template(self._template_head, b'",' + body[self._cut :])

    def rendered(self, body: bytes, revision: int | str) -> bytes:
        """What would be stored at that revision (dry runs)."""
        head, tail = self.template(body)
        return b"%b%b%b" % (head, str(revision).encode(), tail)


def json_body(body: bytes) -> JSON:
    """A JSON object, whatever its kind. Raises 400."""
    try:
        obj: object = loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"the object provided is unrecognized: couldn't parse JSON: {error}") from None
    if not isinstance(obj, dict):
        raise errors.bad_request("the object provided is unrecognized: not a JSON object")
    return obj
