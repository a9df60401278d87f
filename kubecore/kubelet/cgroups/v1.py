"""Control groups of version 1: a hierarchy for each controller (Linux `Documentation/admin-guide/cgroup-v1`)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.cgroups.interface import CPU_PERIOD_MICROSECONDS, CgroupError, Limits, Places
from kubecore.kubelet.cgroups.tree import Tree, read_counter, set_file

CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "blkio")
_SHARES_OF_ALL = 1024
_THREADS = "tasks"


class CgroupsV1:
    """Implements `interface.Cgroups`. `roots`: by controller, the node's own group."""

    version = "v1"

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._roots = dict(roots)
        self._tree = Tree(list(dict.fromkeys(roots.values())))
        self.start = self._tree.start
        self.join = self._tree.join
        self.remove = self._tree.remove
        self.close = self._tree.close

    @property
    def limits_memory(self) -> bool:
        return "memory" in self._roots

    @property
    def places(self) -> Places:
        return Places("v1", self._roots)

    def make(self, path: str, limits: Limits, *, inner: bool) -> None:
        self._tree.make(path)
        self.limit(path, limits)

    def limit(self, path: str, limits: Limits) -> None:
        if cpu := self._group("cpu", path):
            set_file(cpu / "cpu.shares", limits.cpu_shares or _SHARES_OF_ALL)
            with suppress(CgroupError):  # a kernel without bandwidth control
                set_file(cpu / "cpu.cfs_period_us", CPU_PERIOD_MICROSECONDS)
            if limits.cpu_quota is not None or (cpu / "cpu.cfs_quota_us").exists():
                set_file(cpu / "cpu.cfs_quota_us", -1 if limits.cpu_quota is None else limits.cpu_quota)
        if memory := self._group("memory", path):
            _limit_memory(memory, -1 if limits.memory is None else limits.memory, swap=limits.swap)
        if pids := self._group("pids", path):
            set_file(pids / "pids.max", "max" if limits.pids is None else limits.pids)

    def doors(self, path: str) -> list[int]:
        """By its thread: before the kernel takes all threads of a process at once, it waits until nobody on any
        processor starts or ends one (some 10 ms)."""
        return self._tree.doors(path, _THREADS)

    def out_of_memory_kills(self, path: str) -> int:
        memory = self._group("memory", path)
        return read_counter(memory / "memory.oom_control", "oom_kill") if memory else 0

    def _group(self, controller: str, path: str) -> Path | None:
        root = self._roots.get(controller)
        return None if root is None else root / path


def _limit_memory(group: Path, limit: int, *, swap: bool) -> None:
    """The limit with swap must never be the lower one. A kernel may not count swap."""
    with suppress(CgroupError):
        set_file(group / "memory.memsw.limit_in_bytes", -1)
    set_file(group / "memory.limit_in_bytes", limit)
    with suppress(CgroupError):
        set_file(group / "memory.memsw.limit_in_bytes", -1 if swap else limit)
