"""What an object of a kind has when nothing is said in it: structures and fields that Go writes though they are empty.

Bookmarks of upstream are such objects with a resourceVersion (apiserver pkg/storage/cacher/cacher.go).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from kubecore.api import schemas

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource

_HEAD = frozenset({"apiVersion", "kind", "metadata"})
# Their replicas are a number within upstream, which cannot be missing.
_COUNTED = frozenset({"apps/v1/Deployment", "apps/v1/ReplicaSet", "apps/v1/StatefulSet"})


def empty_objects(resource: Resource, versions: Sequence[str]) -> list[tuple[str, bytes]]:
    """By API version, the members beside metadata as they go on after that: `,"spec":{}`. Custom resources, which are
    no structures of Go, have none."""
    if resource.storage_version:
        return []
    engine, made = schemas.default(), []
    for version in versions:
        api_version = f"{resource.group}/{version}" if resource.group else version
        kind = f"{api_version}/{resource.kind}"
        if engine.has(kind):
            said: dict[str, object] = {"apiVersion": api_version, "kind": resource.kind}
            if kind in _COUNTED:
                said["spec"] = {"replicas": 0}
            body = engine.decode(kind, msgspec.json.encode(said), field_validation="Ignore").body
            members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            rest = msgspec.json.encode({name: value for name, value in members.items() if name not in _HEAD})
            made.append((api_version, b"," + rest[1:-1] if len(rest) > len(b"{}") else b""))
    return made
