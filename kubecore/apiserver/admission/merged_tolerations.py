"""Tolerations put together: of two of which one tolerates all that the other does, the wider one stays.

After upstream pkg/util/tolerations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kubecore.api.meta import deepcopy

JSON = dict[str, Any]


def merged(first: Iterable[JSON], second: Iterable[JSON]) -> list[JSON]:
    """In their order; of equal ones the first stays. The result shares nothing with what came in."""
    every = [*first, *second]
    kept: list[JSON] = []
    for index, one in enumerate(every):
        if any(covers(other, one) for other in kept):
            continue
        if any(other != one and covers(other, one) for other in every[index + 1 :]):
            continue
        kept.append(one)
    return [deepcopy(one) for one in kept]


def all_within(tolerations: Iterable[JSON], allowed: Sequence[JSON]) -> bool:
    """Whether each is covered by one that is allowed; none allowed means all are."""
    return not allowed or all(any(covers(other, one) for other in allowed) for one in tolerations)


def covers(wide: JSON, one: JSON) -> bool:
    """Whether `wide` tolerates at least the taints that `one` does."""
    if wide == one:
        return True
    operator = wide.get("operator") or ""
    if _of(one, "key") != _of(wide, "key") and (_of(wide, "key") or operator != "Exists"):
        return False
    if _of(one, "effect") != _of(wide, "effect") and _of(wide, "effect"):
        return False
    if _of(wide, "effect") == "NoExecute" and (longest := wide.get("tolerationSeconds")) is not None:
        seconds = one.get("tolerationSeconds")
        if seconds is None or seconds > longest:
            return False
    if operator in ("", "Equal"):
        return one.get("operator") == "Equal" and _of(one, "value") == _of(wide, "value")
    return bool(operator == "Exists")


def _of(toleration: JSON, field: str) -> str:
    return toleration.get(field) or ""
