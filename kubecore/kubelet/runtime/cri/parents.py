"""Where a container runtime is to make its containers' control groups: within those of their pods.

It takes a path that is the same in every hierarchy, and makes its groups in more of them than the kubelet does: what it
leaves empty there is removed here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.cgroups.detection import list_hierarchies
from kubecore.kubelet.cgroups.interface import Cgroups


def have_quotas(cgroups: Cgroups | None) -> bool:
    """Whether this kernel can limit CPU time; some that are built small cannot, and a runtime refuses to go on then."""
    root = cgroups.places.roots.get("cpu") if cgroups is not None and cgroups.version == "v1" else None
    return root is None or (root / "cpu.cfs_quota_us").exists()


def path_of(cgroups: Cgroups | None, group: str) -> str:
    """ "" where the hierarchies do not agree on it."""
    if cgroups is None or not group:
        return ""
    roots = {_within_mount(root) for root in cgroups.places.roots.values()}
    return f"/{roots.pop() / group}" if len(roots) == 1 else ""


def _within_mount(path: Path) -> Path:
    mount = next(one for one in (path, *path.parents) if os.path.ismount(one))
    return path.relative_to(mount)


def remove(cgroups: Cgroups, group: str) -> None:
    """A pod's, of those that are not the kubelet's own, and what it was in, where nothing else is."""
    for folder in _others(cgroups) if group else ():
        place = folder / group
        with suppress(OSError):
            while place != folder.parent.parent:
                place.rmdir()
                place = place.parent


def remove_all(cgroups: Cgroups) -> None:
    """The node's."""
    for folder in _others(cgroups):
        below = [one for one in folder.glob("**/") if one.is_dir()] if folder.is_dir() else []
        for one in [*sorted(below, key=lambda path: len(path.parts), reverse=True), folder, folder.parent]:
            with suppress(OSError):
                one.rmdir()


def _others(cgroups: Cgroups) -> Iterator[Path]:
    """The node's folder in the hierarchies that the kubelet has nothing to do with."""
    roots = {_within_mount(root) for root in cgroups.places.roots.values()}
    if len(roots) != 1:
        return
    [root] = roots
    own = set(cgroups.places.roots.values())
    for one in list_hierarchies(Path("/proc/self")):
        if one.mount / root not in own:
            yield one.mount / root
