"""Durations as Go writes them: 15s, 1m30s, 1.5h, 500ms. (Go's `time.ParseDuration`.)"""

from __future__ import annotations

import json
import re

_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^.0-9]*)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LIMIT_SECONDS = 2**63 / 1e9


def seconds(text: str) -> float:
    """Raises ValueError, worded as in Go."""
    unsigned = text[1:] if text.startswith(("-", "+")) else text
    if unsigned == "0":
        return 0.0
    total, place = 0.0, 0
    while place < len(unsigned) or not place:
        part = _PART.match(unsigned, place)
        if part is None:
            raise _wrong("invalid duration", text)
        number, unit = part.groups()
        if not unit:
            raise _wrong("missing unit in duration", text)
        if unit not in _UNITS:
            raise _wrong(f"unknown unit {_quoted(unit)} in duration", text)
        total += float(number) * _UNITS[unit]
        place = part.end()
    if total >= _LIMIT_SECONDS:
        raise _wrong("invalid duration", text)
    return -total if text.startswith("-") else total


def text(of_seconds: float) -> str:
    """As Go shows it: `1m30s`, `500ms`, `1h0m0s`."""
    if of_seconds < 0:
        return f"-{text(-of_seconds)}"
    if 0 < of_seconds < 1:
        unit = next(one for one in ("ms", "µs", "ns") if of_seconds >= _UNITS[one] or one == "ns")
        return f"{of_seconds / _UNITS[unit]:g}{unit}"
    hours, rest = divmod(of_seconds, 3600)
    minutes, rest = divmod(rest, 60)
    shown = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours:.0f}h{minutes:.0f}m{shown}"
    return f"{minutes:.0f}m{shown}" if minutes else shown


def _wrong(what: str, text: str) -> ValueError:
    return ValueError(f"time: {what} {_quoted(text)}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
