"""What a component asks of a pod that is little: one condition of its status, or a node."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class PodName(NamedTuple):
    """The pod of that uid, and no other."""

    namespace: str
    name: str
    uid: str


class Amendment(NamedTuple):
    """The condition that the pod of that uid, and no other, is to have. What else of its status is to be different is
    in `status` (None takes a member out). If it `goes`, it is deleted then."""

    namespace: str
    name: str
    uid: str
    condition: dict[str, Any]
    status: Mapping[str, str | None] = MappingProxyType({})
    goes: bool = False
