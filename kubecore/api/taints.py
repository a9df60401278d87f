"""Taints of nodes and the tolerations of pods (core/v1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Taint = Mapping[str, Any]
Toleration = Mapping[str, Any]


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether one toleration matches a taint (Toleration.ToleratesTaint)."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    # Gt and Lt are behind a feature gate that is off (KEP-5471): such tolerations match nothing
    if operator != "Equal":
        return False
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def is_tolerated(taint: Taint, tolerations: Iterable[Toleration] | None) -> bool:
    return any(tolerates(one, taint) for one in tolerations or ())
