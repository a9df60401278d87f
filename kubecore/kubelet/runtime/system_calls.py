"""What the kernel tells and does for which Python has no function."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from pathlib import Path
from typing import NamedTuple

# openat2(2): what a path may not lead through, or out of what, or what it takes for the root.
NO_MAGIC_LINKS, BENEATH, IN_ROOT = 0x02, 0x08, 0x10
_OPENAT2 = 437
HERE = -100
"""In place of a folder's descriptor (AT_FDCWD)."""

libc = ctypes.CDLL(None, use_errno=True)

# By which a space, a tab, a newline and a backslash are written in a path (proc_pid_mountinfo(5)).
_ESCAPED = re.compile(rb"\\(040|011|012|134)")


def checked(result: int, path: str | Path) -> int:
    """Of a call of `libc`. Raises OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return result


def open_within(folder: int, path: str, flags: int, *, limits: int) -> int:
    """A descriptor of what a path in a folder leads to, within the limits of openat2(2). Raises OSError."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, limits)
    return checked(libc.syscall(_OPENAT2, folder, os.fsencode(path), how, ctypes.c_size_t(len(how))), path)


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
