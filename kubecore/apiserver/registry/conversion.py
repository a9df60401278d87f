"""Objects between the version they are stored in and the one a client speaks.

Versions of one group differ in the apiVersion alone as far as this server serves them. Events are the exception: two
groups show the same objects in different words (upstream pkg/apis/events/v1/conversion.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.apiserver.registry.codec import dumps, loads

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource

JSON = dict[str, Any]

# (core, events.k8s.io)
_EVENT_FIELDS = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
)
_TO_SERVED = dict(_EVENT_FIELDS)
_TO_STORED = {served: stored for stored, served in _EVENT_FIELDS}


def differs(stored: Resource, served: Resource) -> bool:
    return stored.group != served.group


def in_version(body: bytes, stored: Resource, served: Resource) -> bytes:
    """Stored bytes as another served version shows them."""
    if served.api_version == stored.api_version:
        return body
    if differs(stored, served):
        return dumps(_renamed(loads(body), _TO_SERVED, served.api_version))
    opening = b'{"apiVersion":"' + stored.api_version.encode() + b'"'
    if body.startswith(opening):
        return b'{"apiVersion":"' + served.api_version.encode() + b'"' + body[len(opening) :]
    return dumps({**loads(body), "apiVersion": served.api_version})


def untyped(body: bytes, served: Resource) -> bytes:
    """An object's bytes in the served version without apiVersion and kind: an item of a list that says them for all."""
    opening = b'{"apiVersion":"%b","kind":"%b",' % (served.api_version.encode(), served.kind.encode())
    if body.startswith(opening):
        return b"{" + body[len(opening) :]
    return dumps({name: value for name, value in loads(body).items() if name not in ("apiVersion", "kind")})


def in_storage(obj: JSON, stored: Resource, served: Resource) -> JSON:
    """A decoded object of a served version in the stored one."""
    if differs(stored, served):
        return _renamed(obj, _TO_STORED, stored.api_version)
    return obj


def _renamed(obj: JSON, names: dict[str, str], api_version: str) -> JSON:
    return {"apiVersion": api_version, "kind": obj.get("kind", "Event"), "metadata": obj.get("metadata") or {}} | {
        names.get(name, name): value for name, value in obj.items() if name not in ("apiVersion", "kind", "metadata")
    }
