"""Tolerations put together: of two of which one tolerates all that the other does, the wider one stays.

After upstream pkg/util/tolerations, which compares all with all. Here those that can tolerate what one does are looked
up: they agree with it, each in its key, effect and value or in having none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kubecore.api.meta import deepcopy

JSON = dict[str, Any]

_Group = tuple[str, str, str | None]
"""Key, effect, and value; None instead of the value of those that tolerate any."""
_Identity = tuple[str, str, str, str, int | None]


def merged(first: Iterable[JSON], second: Iterable[JSON]) -> list[JSON]:
    """In their order; of equal ones the first stays. The result shares nothing with what came in."""
    every = [*first, *second]
    wider_later, later = [False] * len(every), _Wider()
    for place in range(len(every) - 1, -1, -1):
        wider_later[place] = later.than(every[place])
        later.add(every[place])
    kept: list[JSON] = []
    before, seen = _Wider(), set[_Identity]()
    for one, redundant in zip(every, wider_later, strict=True):
        if redundant or _identity(one) in seen or before.than(one):
            continue
        kept.append(deepcopy(one))
        before.add(one)
        seen.add(_identity(one))
    return kept


def all_within(tolerations: Iterable[JSON], allowed: Sequence[JSON]) -> bool:
    """Whether each is covered by one that is allowed; none allowed means all are."""
    if not allowed:
        return True
    same, wider = {_identity(one) for one in allowed}, _Wider()
    for one in allowed:
        wider.add(one)
    return all(_identity(one) in same or wider.than(one) for one in tolerations)


class _Wider:
    """Tolerations, and whether another one of them tolerates all that one does. Of each group the two that last longest
    are known: one of them is another one."""

    def __init__(self) -> None:
        self._longest: dict[_Group, list[tuple[float, _Identity]]] = {}

    def add(self, one: JSON) -> None:
        group = _group(one)
        if group is None:
            return
        seconds, held = one.get("tolerationSeconds"), self._longest.setdefault(group, [])
        lasting = seconds if group[1] == "NoExecute" and seconds is not None else math.inf
        identity = _identity(one)
        if all(identity != other for _, other in held):
            held.append((lasting, identity))
            held.sort(key=_lasting, reverse=True)
            del held[2:]

    def than(self, one: JSON) -> bool:
        identity, seconds = _identity(one), one.get("tolerationSeconds")
        needed = math.inf if seconds is None else seconds
        for group in _groups_wider(one):
            for lasting, other in self._longest.get(group, ()):
                if other != identity:
                    if lasting >= needed:
                        return True
                    break
        return False


def _lasting(known: tuple[float, _Identity]) -> float:
    return known[0]


def _group(wide: JSON) -> _Group | None:
    """None of one with an operator that there is not: it covers nothing but its equals."""
    operator = wide.get("operator") or "Equal"
    if operator not in ("Equal", "Exists"):
        return None
    return _of(wide, "key"), _of(wide, "effect"), _of(wide, "value") if operator == "Equal" else None


def _groups_wider(one: JSON) -> Iterator[_Group]:
    """All whose members tolerate what it does, for as long as they last."""
    key, effect = _of(one, "key"), _of(one, "effect")
    for wide_effect in {effect, ""}:
        for wide_key in {key, ""}:
            yield wide_key, wide_effect, None
        if one.get("operator") == "Equal":
            yield key, wide_effect, _of(one, "value")


def _identity(one: JSON) -> _Identity:
    key, operator, value, effect = (_of(one, field) for field in ("key", "operator", "value", "effect"))
    return key, operator, value, effect, one.get("tolerationSeconds")


def _of(toleration: JSON, field: str) -> str:
    return toleration.get(field) or ""
