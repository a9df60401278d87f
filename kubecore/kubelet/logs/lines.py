"""Lines of a log in CRI format, as whoever wrote them: we, or a container runtime, which may leave out zeros at the end
of a second's fraction and tell another time zone's time.

After upstream `staging/src/k8s.io/cri-client/pkg/logs` (parseCRILog).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_STREAMS = frozenset({b"stdout", b"stderr"})
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


def parse(line: bytes) -> tuple[bytes, bytes, bool, bytes]:
    """Timestamp, stream, whether another part of it follows, content. Raises ValueError for what is no line of a log.

    `line`: without its newline."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in _STREAMS or not _TIME.fullmatch(parts[0]):
        raise ValueError("it does not begin with timestamp, stream and tag")
    stamp, stream, tag, content = parts
    return stamp, stream, tag == b"P" or tag.startswith(b"P:"), content


def shown(stamp: bytes) -> bytes:
    """Always with nine digits of fraction. `stamp`: of a line that was parsed."""
    _, second, fraction = _read(stamp)
    zone = b"Z" if stamp.endswith((b"Z", b"00:00")) else stamp[-6:]
    return second + fraction + zone


def instant(stamp: bytes) -> bytes:
    """In UTC, which sorts as text. `stamp`: of a line that was parsed."""
    second, _, fraction = _read(stamp)
    return second + fraction + b"Z"


def _read(stamp: bytes) -> tuple[bytes, bytes, bytes]:
    """The second, in UTC and as it was told, and the fraction."""
    found = _TIME.fullmatch(stamp)
    if found is None:
        raise ValueError(f"no timestamp: {stamp!r}")
    second, digits, zone = found.groups()
    return _second(second, zone), second, b"." + (digits or b"")[:9].ljust(9, b"0")


# Many lines are written within one.
@lru_cache(maxsize=64)
def _second(text: bytes, zone: bytes) -> bytes:
    """In UTC; as it is where there is no such time."""
    try:
        parsed = datetime.fromisoformat((text + zone).decode())
    except ValueError:
        return text
    return parsed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
