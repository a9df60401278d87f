"""Ages and durations as kubectl's users read them (k8s.io/apimachinery `pkg/util/duration`)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

UNKNOWN = "<unknown>"


def human_duration(elapsed: timedelta) -> str:
    """`5m30s`, `3h12m`, `47h`, `5d3h`, `2y10d`: two units while they tell something, one afterwards."""
    seconds = int(elapsed.total_seconds())
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    return _days(hours)


def _days(hours: int) -> str:
    days, years = hours // 24, hours // (24 * 365)
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if years < 2:
        return f"{days}d"
    if years < 8:
        return _two(years, "y", days % 365, "d")
    return f"{years}y"


def _two(major: int, major_unit: str, minor: int, minor_unit: str) -> str:
    return f"{major}{major_unit}{minor}{minor_unit}" if minor else f"{major}{major_unit}"


def parse_time(text: str | None) -> datetime | None:
    """An RFC 3339 time of an object, with or without fraction; None where it is absent or no time."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def since(text: str | None, now: datetime) -> str:
    """How long ago `text` was, or `<unknown>` for an absent time."""
    start = parse_time(text)
    return UNKNOWN if start is None else human_duration(now - start)


def age(obj: dict[str, Any], now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)
