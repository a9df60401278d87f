"""What the kernel tells and does for which Python has no function."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

# By which a space, a tab, a newline and a backslash are written in a path (proc_pid_mountinfo(5)).
_ESCAPED = re.compile(rb"\\(040|011|012|134)")


class MountPlace(NamedTuple):
    """`propagation`: how it takes part in it, in the kernel's words."""

    path: Path
    propagation: tuple[str, ...]


def mount_places(told: bytes | None = None) -> list[MountPlace]:
    """All of this process, a later one over those before it. `told`: what the kernel tells, if it is known."""
    places = []
    for line in (Path("/proc/self/mountinfo").read_bytes() if told is None else told).split(b"\n"):
        if line:
            fields = line.partition(b" - ")[0].split(b" ")
            path = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), fields[4])
            places.append(MountPlace(Path(os.fsdecode(path)), tuple(field.decode() for field in fields[6:])))
    return places
