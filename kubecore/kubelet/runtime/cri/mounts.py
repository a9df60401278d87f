"""What is mounted on the host for containers that a runtime outside of this process makes: it can only be told paths.

Upstream's way, too: a path inside a volume is opened so that no link leads out of it, and what was opened is mounted at
a place that nobody but the kubelet can change, which is what the runtime is told. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.runtime.interface import MemoryDirectory, RuntimeFailure
from kubecore.kubelet.runtime.system_calls import (
    BENEATH,
    HERE,
    NO_MAGIC_LINKS,
    checked,
    libc,
    mount_places,
    open_within,
)

# mount(2), umount2(2), mount_setattr(2).
_BIND, _WITH_ALL_BELOW, _NOSUID, _NODEV, _DETACH = 0x1000, 0x4000, 0x2, 0x4, 0x2
_MOUNT_SETATTR, _RECURSIVE, _READ_ONLY = 442, 0x8000, 1
_FOLDER = "mounted"


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    words = (source.encode(), os.fsencode(target), kind.encode() or None)
    checked(libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None), target)


def cover(directories: Iterable[MemoryDirectory]) -> None:
    """Each with a tmpfs. Raises OSError."""
    for one in directories:
        if not os.path.ismount(one.path):
            _mount("tmpfs", one.path, "tmpfs", _NOSUID | _NODEV, one.options(any_group=True))


def inside(volume: Path, sub_path: str, directory: Path, *, read_only_below: bool = False) -> Path:
    """A place below the pod's `directory` where what a volume holds is mounted. `read_only_below`: and is read-only
    with all that is mounted below it, which few runtimes can do. Raises RuntimeFailure."""
    try:
        found = _open_inside(volume, sub_path)
    except OSError as error:
        text = f"failed to mount subPath {sub_path!r} of {volume}: {error.strerror}"
        raise RuntimeFailure("CreateContainerError", text) from error
    try:
        place = directory / _FOLDER / secrets.token_hex(8)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        if stat.S_ISDIR(os.fstat(found).st_mode):
            place.mkdir()
        else:
            place.touch()
        _mount(f"/proc/self/fd/{found}", place, "", _BIND | (_WITH_ALL_BELOW if read_only_below else 0))
        if read_only_below:
            _set_read_only(place)
    except OSError as error:
        text = f"failed to mount subPath {sub_path!r} of {volume}: {error.strerror}"
        raise RuntimeFailure("CreateContainerError", text) from error
    finally:
        os.close(found)
    return place


def _set_read_only(place: Path) -> None:
    how = struct.pack("=QQQQ", _READ_ONLY, 0, 0, 0)
    path = os.fsencode(place)
    checked(libc.syscall(_MOUNT_SETATTR, HERE, path, _RECURSIVE, how, ctypes.c_size_t(len(how))), place)


def _open_inside(volume: Path, sub_path: str) -> int:
    """A descriptor; a folder is made where there is nothing."""
    here = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            return _beneath(here, sub_path)
        mode, made = stat.S_IMODE(os.fstat(here).st_mode), ""
        for part in sub_path.split("/"):
            parent = _beneath(here, made or ".")
            try:
                with suppress(FileExistsError):
                    os.mkdir(part, mode, dir_fd=parent)
                    os.chmod(part, mode, dir_fd=parent)
            finally:
                os.close(parent)
            made = f"{made}/{part}" if made else part
        return _beneath(here, sub_path)
    finally:
        os.close(here)


def _beneath(folder: int, path: str) -> int:
    return open_within(folder, path, os.O_PATH, limits=BENEATH | NO_MAGIC_LINKS)


def release(directory: Path, further: Iterable[Path] = ()) -> None:
    """Unmount all that is at and below a pod's directory, and `further` ones, whoever has mounted it."""
    roots = [directory.absolute(), *(one.absolute() for one in further)]
    for place, _ in reversed(mount_places()):
        if any(place.is_relative_to(root) for root in roots):
            libc.umount2(os.fsencode(place), _DETACH)
