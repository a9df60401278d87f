"""What a component asks of a pod's status that is little more than one condition."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Amendment(NamedTuple):
    """The condition that the pod of that uid, and no other, is to have. What else of its status is to be different is
    in `status` (None takes a member out). If it `goes`, it is deleted then."""

    namespace: str
    name: str
    uid: str
    condition: dict[str, Any]
    status: Mapping[str, str | None] = MappingProxyType({})
    goes: bool = False
