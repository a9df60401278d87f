"""Control groups of version 2: one hierarchy for all controllers (Linux `Documentation/admin-guide/cgroup-v2.rst`)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.cgroups.interface import CPU_PERIOD_MICROSECONDS, CgroupError, Limits, Places
from kubecore.kubelet.cgroups.tree import Tree, read_counter, set_file

CONTROLLERS = ("cpu", "memory", "pids")
_OURSELVES = "kubecore"
_LEAST_SHARES, _MOST_SHARES, _MOST_WEIGHT = 2, 262_144, 10_000


class CgroupsV2:
    """Implements `interface.Cgroups`. `root`: the node's own group, two levels below `base`, which is the group that
    this process is in, or that of the whole machine."""

    version = "v2"

    def __init__(self, base: Path, root: Path) -> None:
        self._base = base
        self._root = root
        self._tree = Tree([root])
        self._controllers: frozenset[str] = frozenset()
        self.doors = self._tree.doors
        self.remove = self._tree.remove
        self.close = self._tree.close

    def start(self) -> None:
        self._tree.start()
        self._read_controllers()
        try:
            self._hand_down(self._base)
        except CgroupError:
            self._step_aside()
            self._hand_down(self._base)
        for parent in reversed(self._root.parents):
            if self._base in parent.parents:
                self._hand_down(parent)
        self._hand_down(self._root)

    def join(self) -> None:
        self._tree.join()
        self._read_controllers()

    @property
    def limits_memory(self) -> bool:
        return "memory" in self._controllers

    @property
    def places(self) -> Places:
        return Places("v2", {"": self._root}, self._base)

    def _read_controllers(self) -> None:
        there = (self._base / "cgroup.controllers").read_text().split()
        self._controllers = frozenset(there) & frozenset(CONTROLLERS)

    def _step_aside(self) -> None:
        """A group with controllers for those below it may have no process of its own: we go into one below ours."""
        aside = self._base / _OURSELVES
        try:
            aside.mkdir(exist_ok=True)
            set_file(aside / "cgroup.procs", os.getpid())
        except OSError as error:
            raise CgroupError(f"failed to create cgroup {aside}: {error.strerror}") from error

    def _hand_down(self, group: Path) -> None:
        set_file(group / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(self._controllers)))

    def make(self, path: str, limits: Limits, *, inner: bool) -> None:
        self._tree.make(path)
        if inner:
            self._hand_down(self._root / path)
        elif "memory" in self._controllers:
            set_file(self._root / path / "memory.oom.group", int(limits.together))
        self.limit(path, limits)

    def limit(self, path: str, limits: Limits) -> None:
        group = self._root / path
        if "cpu" in self._controllers:
            set_file(group / "cpu.weight", 100 if limits.cpu_shares is None else weight(limits.cpu_shares))
            quota = "max" if limits.cpu_quota is None else limits.cpu_quota
            set_file(group / "cpu.max", f"{quota} {CPU_PERIOD_MICROSECONDS}")
        if "memory" in self._controllers:
            set_file(group / "memory.max", "max" if limits.memory is None else limits.memory)
            with suppress(CgroupError):  # a kernel without swap
                set_file(group / "memory.swap.max", "max" if limits.memory is None or limits.swap else 0)
        if "pids" in self._controllers:
            set_file(group / "pids.max", "max" if limits.pids is None else limits.pids)

    def out_of_memory_kills(self, path: str) -> int:
        return read_counter(self._root / path / "memory.events", "oom_kill")


def weight(shares: int) -> int:
    """1 to 10000 (upstream `getCPUWeight` in `pkg/kubelet/cm/cgroup_manager_linux.go`)."""
    if shares >= _MOST_SHARES:
        return _MOST_WEIGHT
    return 1 + (shares - _LEAST_SHARES) * (_MOST_WEIGHT - 1) // (_MOST_SHARES - _LEAST_SHARES)
