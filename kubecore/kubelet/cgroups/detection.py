"""Which control groups this process may make: found out by trying."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kubecore.kubelet import proc_files
from kubecore.kubelet.cgroups import v1, v2
from kubecore.kubelet.cgroups.interface import CgroupError, Cgroups, Places
from kubecore.kubelet.cgroups.tree import NODE_PREFIX

PODS = "kubepods"


class Detection(NamedTuple):
    """`cgroups` is None where there are none to be had. `reason`: one line for the user."""

    cgroups: Cgroups | None
    reason: str


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy. `controllers`: of version 1, empty for version 2. `own`: this process's group in it.
    `root`: the part of it that is mounted."""

    mount: Path
    controllers: frozenset[str]
    own: Path
    root: str = "/"

    def place(self, group: str) -> Path:
        """Where a group is."""
        return _below(self.mount, self.root, group)


def detect(mark: str, *, process: Path = Path("/proc/self"), join: bool = False) -> Detection:
    """Groups of a node, named by its `mark`, below the one this process is in: started, with nothing in them. `join`:
    with what is in them, if they are there."""
    hierarchies = list_hierarchies(process)
    for found in _candidates(hierarchies, f"{NODE_PREFIX}{mark}"):
        try:
            if join and all(root.is_dir() for root in found.places.roots.values()):
                found.join()
                return Detection(found, f"limits are enforced by cgroups {found.version}, as before")
            found.start()
        except (CgroupError, OSError) as error:
            with suppress(OSError):
                found.close()
            return Detection(None, str(error))
        return Detection(found, f"limits on memory, CPU and processes are enforced by cgroups {found.version}")
    return Detection(None, "no cgroup hierarchy with a memory or cpu controller is mounted")


def at(places: Places) -> Cgroups | None:
    """Groups that another process has started, with all that is in them; None if they are gone."""
    found: Cgroups
    if places.version == "v1":
        found = v1.CgroupsV1(places.roots)
    elif places.base is not None:
        found = v2.CgroupsV2(places.base, places.roots[""])
    else:
        return None
    try:
        found.join()
    except OSError:
        return None
    return found


def _candidates(hierarchies: list[Hierarchy], name: str) -> list[Cgroups]:
    """The one to try: version 1 where it has the controllers, be it beside version 2."""
    roots = {
        controller: one.own / name / PODS
        for one in hierarchies
        for controller in one.controllers
        if controller in v1.CONTROLLERS
    }
    if "memory" in roots or "cpu" in roots:
        return [v1.CgroupsV1(roots)]
    for one in hierarchies:
        if not one.controllers:
            there = _words(one.own / "cgroup.controllers")
            if "memory" in there or "cpu" in there:
                return [v2.CgroupsV2(one.own, one.own / name / PODS)]
    return []


def list_hierarchies(process: Path) -> list[Hierarchy]:
    """What /proc/PID/mountinfo and /proc/PID/cgroup say."""
    own = dict(groups_of(process))
    found = []
    for line in proc_files.lines(process / "mountinfo"):
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        _, _, _, root, mount, *_ = left.split(" ")
        if kind == "cgroup2":
            controllers = frozenset[str]()
        elif kind == "cgroup":
            controllers = frozenset(options.split(" ")[-1].split(",")) & {name for group in own for name in group}
        else:
            continue
        path = next((path for group, path in own.items() if group == controllers), None)
        if path is not None:
            found.append(Hierarchy(Path(mount), controllers, _below(Path(mount), root, path), root))
    return found


def groups_of(process: Path) -> list[tuple[frozenset[str], str]]:
    """Of /proc/PID: controllers of a hierarchy, none for version 2, and the process's group in it. OSError."""
    groups = []
    for line in proc_files.lines(process / "cgroup"):
        _, controllers, path = line.split(":", 2)
        groups.append((frozenset(filter(None, controllers.split(","))), path))
    return groups


def _below(mount: Path, root: str, path: str) -> Path:
    """Where a group is, of a hierarchy of which the part below `root` is mounted (in a container, say)."""
    group = PurePosixPath(path)
    inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
    return mount / inside


def _words(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text().split()
    return []
