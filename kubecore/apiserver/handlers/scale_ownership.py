"""Who owns a Scale's replicas: managedFields between an object and its scale subresource.

After upstream k8s.io/apimachinery pkg/util/managedfields/scalehandler.go. A manager that owns the object's replicas
owns `spec.replicas` of its Scale; what is written through the Scale comes back to the object in the path's version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecore.api import meta

JSON = dict[str, Any]
Entries = list[JSON]
Path = tuple[str, ...]
# Where the replicas are in objects of a version: () where these have no scale, None where there is no such version.
PathOf = Callable[[str], Path | None]

SCALE_VERSION = "autoscaling/v1"
_REPLICAS = ("spec", "replicas")


def to_scale(parent: Entries, path_of: PathOf) -> Entries:
    """The Scale's entries: those managers of the object that own its replicas."""
    found = []
    for entry in parent:
        path = path_of(entry.get("apiVersion", ""))
        if path and _owns(entry, path):
            found.append({**entry, "apiVersion": SCALE_VERSION, "fieldsV1": _fields(_REPLICAS)})
    return found


def to_parent(parent: Entries, scale: Entries, path_of: PathOf, version: str) -> Entries:
    """The object's entries after a write through its Scale, whose entries are `scale`; `version` is the path's."""
    left = {_identity(entry): entry for entry in scale}
    merged: Entries = []
    for entry in parent:
        path = path_of(entry.get("apiVersion", ""))
        if path is None:
            continue
        if path and _owns(entry, path) and left.pop(_identity(entry), None) is None:
            # Whoever has written the Scale has the replicas now.
            entry = {**entry, "fieldsV1": _without(entry["fieldsV1"], path)}
            if not entry["fieldsV1"]:
                continue
        merged.append(entry)
    times = {_identity(entry): entry.get("time") for entry in parent}
    own = path_of(version)
    for identity, entry in left.items():
        if own and _owns(entry, _REPLICAS):
            moved = {key: value for key, value in entry.items() if key != "time"}
            moved |= {"apiVersion": version, "fieldsV1": _fields(own)}
            if times.get(identity):
                moved["time"] = times[identity]
            merged.append(moved)
    return sorted(merged, key=_order)


def _identity(entry: JSON) -> tuple[str, ...]:
    """What makes a manager: of appliers the version is no part."""
    operation = entry.get("operation", "")
    version = "" if operation == "Apply" else entry.get("apiVersion", "")
    return entry.get("manager", ""), operation, version, entry.get("subresource", "")


def _order(entry: JSON) -> tuple[Any, ...]:
    time = entry.get("time")
    seconds = int(meta.parse_time(time).timestamp()) if time else 0
    names = (entry.get("manager", ""), entry.get("apiVersion", ""), entry.get("subresource", ""))
    return entry.get("operation", ""), seconds, *names


def _owns(entry: JSON, path: Path) -> bool:
    fields = entry.get("fieldsV1") or {}
    for name in path:
        fields = fields.get(f"f:{name}")
        if fields is None:
            return False
    # A leaf, or a structure of which the manager owns the whole.
    return not fields or "." in fields


def _fields(path: Path) -> JSON:
    fields: JSON = {}
    for name in reversed(path):
        fields = {f"f:{name}": fields}
    return fields


def _without(fields: JSON, path: Path) -> JSON:
    """The fields without one, and without the structures that have nothing left."""
    first, *rest = path
    name = f"f:{first}"
    others = {key: value for key, value in fields.items() if key != name}
    inner = _without(fields[name], tuple(rest)) if rest else {}
    if not inner:
        return others
    # A structure of which nothing is owned but itself is a leaf.
    return {**others, name: {} if inner.keys() == {"."} else inner}
