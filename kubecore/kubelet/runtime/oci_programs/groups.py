"""Control groups that an OCI runtime is told of: those of the node, made by it.

Of version 1, the program makes the same groups in all other hierarchies, too, and leaves those of pods and nodes there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.cgroups.detection import list_hierarchies
from kubecore.kubelet.cgroups.interface import Cgroups
from kubecore.kubelet.runtime.cri import parents


def path_of(cgroups: Cgroups | None, group: str) -> str:
    """Absolute where that is the same in all hierarchies, else as runc reads it: below the group that it is in itself.
    "" where there are none."""
    if cgroups is None or not group:
        return ""
    return parents.path_of(cgroups, group) or f"{_below_own(cgroups) / group}"


def remove_pod(cgroups: Cgroups, group: str, *, others_too: bool) -> None:
    """A pod's in hierarchies that the node has nothing to do with. `others_too`: and what it was in, where nothing else
    is, nor is to be by a program that runs now."""
    for folder in _others(cgroups) if group else ():
        place = folder / _below_own(cgroups) / group
        with suppress(OSError):
            place.rmdir()
            while others_too and (place := place.parent) != folder:
                place.rmdir()


def remove_node(cgroups: Cgroups) -> None:
    """All of the node's there that nothing runs in."""
    for folder in _others(cgroups):
        node = folder / _below_own(cgroups).parent
        for path, _, _ in os.walk(node, topdown=False):
            with suppress(OSError):
                Path(path).rmdir()


def _below_own(cgroups: Cgroups) -> Path:
    """Of the node's groups: the last two parts of their paths (`detection.detect`)."""
    root = next(iter(cgroups.places.roots.values()))
    return Path(*root.parts[-2:])


def _others(cgroups: Cgroups) -> Iterator[Path]:
    """This process's groups there."""
    own = set(cgroups.places.roots.values())
    for one in list_hierarchies(Path("/proc/self")):
        if one.own / _below_own(cgroups) not in own:
            yield one.own
