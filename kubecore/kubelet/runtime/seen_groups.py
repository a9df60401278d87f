"""What a container of an image sees at /sys/fs/cgroup: its own group, as if that were the root of each hierarchy.

With a cgroup namespace, /proc/PID/cgroup and /proc/PID/mountinfo tell it the same (man 7 cgroup_namespaces). The groups
are bound by the paths that they have on the host, which works without such a namespace, too, and whoever we are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kubecore.kubelet.cgroups.detection import Hierarchy, list_hierarchies
from kubecore.kubelet.cgroups.interface import Cgroups
from kubecore.kubelet.runtime import launching
from kubecore.kubelet.runtime.launching import Step

FOLDER = Path("/sys/fs/cgroup")
WHOLE = "."
"""The name of the one hierarchy that is mounted at FOLDER itself: version 2 without version 1 beside it."""

Groups = Mapping[str, Path]
"""By what a hierarchy is called below FOLDER, where a container's group in it is on the host."""


def of_container(cgroups: Cgroups, path: str, *, process: Path = Path("/proc/self")) -> Groups:
    """Of one whose group has this path (`Cgroups`). In hierarchies in which the node has no groups it is where
    `process` is, which starts it. Nothing where hierarchies are mounted elsewhere."""
    return {
        str(one.mount.relative_to(FOLDER)): _group(one, cgroups.places.roots, path)
        for one in list_hierarchies(process)
        if one.mount.is_relative_to(FOLDER)
    }


def _group(hierarchy: Hierarchy, roots: Mapping[str, Path], path: str) -> Path:
    for name in hierarchy.controllers or {""}:
        if name in roots:
            return roots[name] / path
    return hierarchy.own


def steps(groups: Groups, place: str) -> list[Step]:
    """`place`: where FOLDER is while the container's root is being built."""
    if WHOLE in groups:
        return [launching.bind(str(groups[WHOLE]), place, optional=True)]
    flags = launching.MS_NOSUID | launching.MS_NODEV | launching.MS_NOEXEC
    made = [launching.mount("tmpfs", place, filesystem="tmpfs", flags=flags, data="mode=755")]
    for name, group in sorted(groups.items()):
        made += [launching.directory(f"{place}/{name}"), launching.bind(str(group), f"{place}/{name}", optional=True)]
    return made + [launching.symlink(target, f"{place}/{name}") for name, target in _links(groups)]


def _links(groups: Groups) -> list[tuple[str, str]]:
    """By which the host's folder has a controller (cpu) that shares a hierarchy with others (cpu,cpuacct)."""
    links = [(one.name, str(one.readlink())) for one in sorted(FOLDER.iterdir()) if one.is_symlink()]
    return [(name, target) for name, target in links if target in groups]
