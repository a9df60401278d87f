"""Objects between the version they are stored in and the one a client speaks.

Versions of one group differ in the apiVersion alone, but for those of the table below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kubecore.apiserver.registry.codec import dumps, loads
from kubecore.apiserver.registry.versions import autoscalers, devices, events

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource

JSON = dict[str, Any]


class _Wording(NamedTuple):
    """How a served version says what is stored; both ways give a new object and leave the other alone."""

    served: Callable[[JSON], JSON]
    stored: Callable[[JSON], JSON]


# (stored group resource, served version)
_WORDINGS: Mapping[tuple[str, str], _Wording] = {
    ("events", "events.k8s.io/v1"): _Wording(events.served, events.stored),
    ("horizontalpodautoscalers.autoscaling", "autoscaling/v1"): _Wording(autoscalers.served, autoscalers.stored),
    ("resourceclaims.resource.k8s.io", "resource.k8s.io/v1beta1"): _Wording(devices.served_claim, devices.stored_claim),
    ("resourceclaimtemplates.resource.k8s.io", "resource.k8s.io/v1beta1"): _Wording(
        devices.served_template, devices.stored_template
    ),
    ("resourceslices.resource.k8s.io", "resource.k8s.io/v1beta1"): _Wording(devices.served_slice, devices.stored_slice),
}


def _wording(stored: Resource, served: Resource) -> _Wording | None:
    if served.api_version == stored.api_version:
        return None
    return _WORDINGS.get((stored.key, served.api_version))


def differs(stored: Resource, served: Resource) -> bool:
    """Whether the served version has other words for what is stored."""
    return _wording(stored, served) is not None


def in_version(body: bytes, stored: Resource, served: Resource) -> bytes:
    """Stored bytes as another served version shows them."""
    if served.api_version == stored.api_version:
        return body
    wording = _wording(stored, served)
    if wording is not None:
        return dumps(_as(wording.served(loads(body)), served))
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
    wording = _wording(stored, served)
    return obj if wording is None else _as(wording.stored(obj), stored)


def _as(obj: JSON, resource: Resource) -> JSON:
    """What every object begins with, first."""
    head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": obj.get("metadata") or {}}
    return {**head, **{name: value for name, value in obj.items() if name not in head}}
