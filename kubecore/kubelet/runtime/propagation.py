"""Mounts that are made within volumes: whether a container sees the host's, and the host and others the container's.

By default neither. The host's come to a container by a mount that is a slave of the host's. For the other direction the
two must be peers, which nothing can become once the pod's mount namespace has been cut off from the host's: what is
shared is cloned before, and put into that namespace by way of a descriptor. (mount_namespaces(7); KEP-433.)

The server of a volume may not answer: whatever looks at one does so on a thread of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from kubecore.kubelet.runtime.interface import Mount, Propagation, RuntimeFailure
from kubecore.kubelet.runtime.system_calls import HERE, MountPlace, checked, libc, mount_places
from kubecore.own_threads import on_own_thread

# open_tree(2), move_mount(2), setns(2), unshare(2).
_OPEN_TREE, _CLONE, _WITH_ALL_BELOW = 428, 1, 0x8000
_MOVE_MOUNT, _FROM_EMPTY_PATH = 429, 4
_NEW_MOUNT, _FOLDERS_OF_PROCESS = 0x00020000, 0x200
_FOLDER = "shared"
_NEEDED: Mapping[Propagation, tuple[tuple[str, ...], str]] = {
    "Bidirectional": (("shared:",), "shared"),
    "HostToContainer": (("shared:", "master:"), "shared or slave"),
}


async def check(mounts: Iterable[Mount]) -> None:
    """Whether the host's own allow what is asked for. Raises RuntimeFailure, in containerd's words."""
    asked = [one for one in mounts if one.propagation != "None"]
    asked = [one for one in asked if not (one.in_memory and one.propagation == "HostToContainer")]
    if asked:
        await on_own_thread(lambda: _check(asked), "kubelet checking mounts")


def _check(mounts: Iterable[Mount]) -> None:
    for one in mounts:
        marks, words = _NEEDED[one.propagation]
        place, kinds = _mount_of(one.source.resolve())
        if one.in_memory or not any(kind.startswith(marks) for kind in kinds):
            shown = os.fsencode(place).decode(errors="replace")  # it goes into a status
            text = f'path "{one.source}" is mounted on "{shown}" but it is not a {words} mount'
            raise RuntimeFailure("CreateContainerError", f"failed to generate spec: {text}")


def _mount_of(path: Path) -> MountPlace:
    """What holds a path."""
    found = MountPlace(Path("/"), ())
    for one in mount_places():
        if path.is_relative_to(one.path) and len(one.path.parts) >= len(found.path.parts):
            found = one
    return found


async def share(source: Path, directory: Path, namespace: int) -> Path:
    """A place below the pod's `directory` where a peer of the mount of `source` is from now on, in the pod's mount
    `namespace` only. Raises OSError."""
    own = os.dup(namespace)  # the pod may have ended before the thread has, and its number be another's

    def put() -> Path:
        try:
            return _share(source, directory, own)
        finally:
            os.close(own)

    return await on_own_thread(put, "kubelet sharing a mount")


def _share(source: Path, directory: Path, namespace: int) -> Path:
    """On a thread that ends with it, as it changes its namespace."""
    try:
        return _put_into(source, directory, namespace)
    except OSError as error:
        raise OSError(error.errno, f"failed to share {source}: {error.strerror}") from error


def _put_into(source: Path, directory: Path, namespace: int) -> Path:
    place = directory / _FOLDER / sha256(os.fsencode(source)).hexdigest()[:16]
    place.parent.mkdir(mode=0o700, exist_ok=True)
    if source.is_dir():
        place.mkdir(exist_ok=True)
    else:
        place.touch()
    flags = _CLONE | os.O_CLOEXEC | _WITH_ALL_BELOW
    tree = checked(libc.syscall(_OPEN_TREE, HERE, os.fsencode(source), flags), source)
    try:
        checked(libc.unshare(_FOLDERS_OF_PROCESS), source)
        checked(libc.setns(namespace, _NEW_MOUNT), source)
        checked(libc.syscall(_MOVE_MOUNT, tree, b"", HERE, os.fsencode(place), _FROM_EMPTY_PATH), place)
    finally:
        os.close(tree)
    return place
