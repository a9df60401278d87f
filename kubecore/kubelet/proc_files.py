"""What the kernel tells of processes. Names that those choose themselves are of any bytes in these files of /proc, with
line breaks among them that are not the kernel's."""

from __future__ import annotations

import os
from pathlib import Path


def lines(file: Path) -> list[str]:
    """Without empty ones. Names are decoded as those of files are, so that they are not to be shown as they are. Raises
    OSError."""
    return [line for line in os.fsdecode(file.read_bytes()).split("\n") if line]


def stat_fields(process: Path) -> list[str]:
    """Of /proc/PID: what its `stat` tells after the program's name, from the state on (proc(5) counts from 3 there).
    Raises OSError."""
    return os.fsdecode((process / "stat").read_bytes()).rpartition(")")[2].split()
