"""What a container of an image sees at /sys/fs/cgroup: its own group, as if that were the root of each hierarchy.

With a cgroup namespace, /proc/PID/cgroup and /proc/PID/mountinfo tell it the same (man 7 cgroup_namespaces). The groups
are bound by the paths that they have on the host, which works without such a namespace, too, and whoever we are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubecore.kubelet.cgroups.detection import Hierarchy, list_hierarchies
from kubecore.kubelet.cgroups.interface import Cgroups
from kubecore.kubelet.runtime import launching
from kubecore.kubelet.runtime.launching import Step

FOLDER = Path("/sys/fs/cgroup")
WHOLE = "."
"""The name of the one hierarchy that is mounted at FOLDER itself: version 2 without version 1 beside it."""


@dataclass(frozen=True, slots=True)
class Groups:
    """`places`: by what a hierarchy is called below FOLDER, where a container's group in it is on the host; nothing for
    one that sees what the host sees. `links`: by which a controller (cpu) is found that shares a hierarchy with others
    (cpu,cpuacct)."""

    places: Mapping[str, Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    def steps(self, place: str) -> list[Step]:
        """`place`: where FOLDER is while the container's root is being built."""
        if WHOLE in self.places:
            return [launching.bind(str(self.places[WHOLE]), place, optional=True)]
        flags = launching.MS_NOSUID | launching.MS_NODEV | launching.MS_NOEXEC
        made = [launching.mount("tmpfs", place, filesystem="tmpfs", flags=flags, data="mode=755")]
        for name, group in sorted(self.places.items()):
            made.append(launching.directory(f"{place}/{name}"))
            made.append(launching.bind(str(group), f"{place}/{name}", optional=True))
        return made + [launching.symlink(target, f"{place}/{name}") for name, target in self.links.items()]


NO_GROUPS = Groups()


@dataclass(frozen=True, slots=True)
class Layout:
    """How the host has its hierarchies below FOLDER, by their names there, if not elsewhere. It is looked at once: it
    stays, and a host may have thousands of mounts."""

    hierarchies: Mapping[str, Hierarchy]
    links: Mapping[str, str]

    @classmethod
    def of(cls, process: Path = Path("/proc/self")) -> Layout:
        """As `process` sees it, which starts containers."""
        found = {
            str(one.mount.relative_to(FOLDER)): one
            for one in list_hierarchies(process)
            if one.mount.is_relative_to(FOLDER)
        }
        entries = sorted(FOLDER.iterdir()) if found else []
        links = {one.name: str(one.readlink()) for one in entries if one.is_symlink()}
        return cls(found, {name: target for name, target in links.items() if target in found})

    def groups(self, cgroups: Cgroups, path: str) -> Groups:
        """Of a container whose group has this path (`Cgroups`). In hierarchies in which the node has no groups it is
        where whoever starts it is."""
        roots = cgroups.places.roots
        places = {name: _group(one, roots, path) for name, one in self.hierarchies.items()}
        return Groups(places, self.links)


def _group(hierarchy: Hierarchy, roots: Mapping[str, Path], path: str) -> Path:
    for name in hierarchy.controllers or {""}:
        if name in roots:
            return roots[name] / path
    return hierarchy.own
