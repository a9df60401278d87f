"""Equality as Kubernetes means it when it asks what an update changed.

After k8s.io/apimachinery `pkg/api/equality/semantic.go`: nothing, null and an empty list are the same. Amounts are
compared as texts: defaulting has brought them into canonical form.
"""

from __future__ import annotations

from typing import Any


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values say the same."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same(one.get(name), other.get(name)) for name in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    if one is None or other is None:
        return bool((other if one is None else one) == [])
    return bool(one == other and type(one) is type(other))
