"""Writes of the status, of which only that and a little metadata is read: the rest of the object is not built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from kubecore.api.schemas import apart
from kubecore.apiserver.authorization.node import node_name
from kubecore.apiserver.registry.codec import OF_STATUS, loads

if TYPE_CHECKING:
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.registry.strategy import RequestContext

_SHORT = 64
_JUDGED_WHOLE = ("nodes", "persistentvolumeclaims")
_SAID_OF_STATUS = frozenset(OF_STATUS)
# Patches that are like the object, those of a few members of it alone.
_MERGES = ("application/strategic-merge-patch+json", "application/merge-patch+json")


def writes_status(ctx: RequestContext, served: Served) -> bool:
    """Only the status (and a little metadata) is read of what is sent; no conversion asks for more."""
    return ctx.subresource == "status" and served.stored().resource is served.resource


def judged_whole(ctx: RequestContext) -> bool:
    """A kubelet is refused what it sends of its node or a claim, also where its write does not change that."""
    return ctx.subresource == "status" and ctx.resource_key in _JUDGED_WHOLE and node_name(ctx.user) is not None


def of_status(body: bytes) -> bytes:
    """The object without what does not count, unless there is next to nothing of that: components send none, and what
    the decoder makes of no spec is short. The store takes the spec from what it has in any case."""
    spec = body.find(b'"spec":')
    if 0 <= spec < len(body) - _SHORT or b'"managedFields":' in body:
        return apart(body, OF_STATUS)[0]
    return body


def says_status_alone(patch: bytes, patch_type: str) -> bool:
    """Whether a patch says nothing of other parts of an object than a write of its status can change."""
    if patch_type not in _MERGES:
        return False
    try:
        said = loads(patch)
    except orjson.JSONDecodeError:
        return False
    return isinstance(said, dict) and said.keys() <= _SAID_OF_STATUS
