"""Whose a volume's files are: those of the pod's fsGroup, where we may give them away (upstream volume_linux.go)."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

Object = dict[str, Any]

_WRITABLE, _READABLE = 0o660, 0o440
_OF_FOLDERS = 0o2110


def group_of(pod: Object) -> int | None:
    group: int | None = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return group


def granted(mode: int, *, writable: bool, folder: bool = False) -> int:
    """The mode of what is the group's, which may read it or write to it, too."""
    return mode | (_WRITABLE if writable else _READABLE) | (_OF_FOLDERS if folder else 0)


def give(path: Path, group: int, *, writable: bool) -> None:
    """A file or folder. What a link leads to is left alone: who writes to a volume may make links to anywhere."""
    with suppress(OSError):
        os.chown(path, -1, group, follow_symlinks=False)
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            path.chmod(granted(stat.S_IMODE(mode), writable=writable, folder=stat.S_ISDIR(mode)))


def give_tree(path: Path, group: int, *, writable: bool = True) -> None:
    """The root last: who finds it given (`is_given`) may take it that everything is."""
    for folder, _, names in os.walk(path.resolve(), topdown=False):
        for one in (*(Path(folder) / name for name in names), Path(folder)):
            give(one, group, writable=writable)


def is_given(path: Path, group: int) -> bool:
    """A folder that is the group's already, by which OnRootMismatch judges all that is in it."""
    try:
        found = path.stat()
    except OSError:
        return False
    mode = stat.S_IMODE(found.st_mode)
    return stat.S_ISDIR(found.st_mode) and found.st_gid == group and granted(mode, writable=True, folder=True) == mode
