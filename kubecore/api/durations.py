"""Durations as Go writes them: 15s, 1m30s, 500ms."""

from __future__ import annotations

import re

_PART = re.compile(r"([0-9]*\.?[0-9]+)(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(text: str) -> float:
    """Raises ValueError."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 15s or 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
