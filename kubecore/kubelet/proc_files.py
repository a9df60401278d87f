"""What the kernel tells of processes. Names that those choose themselves are of any bytes in these files of /proc, with
line breaks among them that are not the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

_PIECE = 1 << 16


def content(file: str) -> bytes:
    """Of one that is read a thousand times. Raises OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = part = os.read(descriptor, _PIECE)
        while len(part) == _PIECE:
            part = os.read(descriptor, _PIECE)
            found += part
        return found
    finally:
        os.close(descriptor)


def lines(file: Path) -> list[str]:
    """Without empty ones. Names are decoded as those of files are, so that they are not to be shown as they are. Raises
    OSError."""
    return [line for line in os.fsdecode(file.read_bytes()).split("\n") if line]


def stat_fields(process: Path | str) -> list[str]:
    """Of /proc/PID: what its `stat` tells after the program's name, from the state on (proc(5) counts from 3 there).
    Raises OSError."""
    return os.fsdecode(content(f"{process}/stat")).rpartition(")")[2].split()
