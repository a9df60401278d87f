"""Counts given as a number or as a share of another count. (k8s.io/apimachinery `pkg/util/intstr`.)"""

from __future__ import annotations

from typing import Any


def scaled(value: Any, count: int, *, up: bool) -> int:
    """`3`, or `"25%"` of `count` rounded up or down; None is 0. Raises ValueError."""
    if isinstance(value, str) and value.endswith("%"):
        product = int(value[:-1]) * count
        return -(-product // 100) if up else product // 100
    return int(value or 0)
