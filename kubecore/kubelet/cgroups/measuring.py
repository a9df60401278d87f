"""What a control group has used, and in which group a process is: read from the kernel's files, of either version.

As cAdvisor reads them (github.com/google/cadvisor `container/libcontainer/handler.go`): the working set is what is in
memory without inactive pages of files. What a kernel does not count is None.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from kubecore.kubelet.cgroups.detection import PODS, Hierarchy, groups_of, list_hierarchies

_TICK_NANOSECONDS = 10**9 // os.sysconf("SC_CLK_TCK")
_UNLIMITED = 1 << 62
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; counts of faults, of failures to stay within a limit, and of processes killed for that. `usage`: with what
    is only cached."""

    usage: int
    working_set: int
    rss: int = 0
    cache: int = 0
    mapped_files: int = 0
    active_files: int = 0
    inactive_files: int = 0
    swap: int = 0
    most: int | None = None
    failures: int = 0
    kills: int = 0
    faults: int = 0
    major_faults: int = 0


@dataclass(frozen=True, slots=True)
class Throttled:
    """Periods in which CPU time was limited, those in which it was used up, and nanoseconds that were lost by that."""

    periods: int
    hit: int
    nanoseconds: int


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Of one device: its number (MAJOR:MINOR), bytes and requests."""

    device: str
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True, slots=True)
class GroupUse:
    """Of a group with all below it. CPU in nanoseconds."""

    cpu: int | None = None
    user: int | None = None
    system: int | None = None
    throttled: Throttled | None = None
    memory: Memory | None = None
    disks: tuple[DiskUse, ...] | None = None
    tasks: int | None = None
    """Processes and threads."""
    processes: int | None = None
    """Not of groups below it."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """Microseconds, bytes; 0 for no limit."""

    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    memory: int | None = None
    tasks: int | None = None


class Stall(NamedTuple):
    """Shares of the time, in percent, over so many seconds; microseconds since the beginning."""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total: int = 0


class Pressure(NamedTuple):
    """When some of the tasks, or all that could have worked, waited (Linux `Documentation/accounting/psi.rst`)."""

    some: Stall
    full: Stall


Pressures = Mapping[str, Pressure]
"""By what they waited for: cpu, memory, io."""


@dataclass(frozen=True, slots=True)
class Group:
    """`name`: its path, from the node's own group on if it is below that. `folders`: by controller, or under ""
    (version 2)."""

    name: str
    folders: Mapping[str, Path]

    def parent(self) -> Group:
        name = self.name.rpartition("/")[0] or "/"
        return Group(name, {controller: folder.parent for controller, folder in self.folders.items()})

    def use(self, *, details: bool = True) -> GroupUse:
        """By version 1, where it has the controllers, else by version 2. Of a group that is gone nothing is known.
        Without `details` no more than CPU, memory and processes, of which most is asked for."""
        old = _use_v1({name: folder for name, folder in self.folders.items() if name}, details=details)
        return old if "" not in self.folders else _either(old, _use_v2(self.folders[""], details=details))

    def limits(self) -> GroupLimits:
        old = _limits_v1({name: folder for name, folder in self.folders.items() if name})
        return old if "" not in self.folders else _either(old, _limits_v2(self.folders[""]))

    def pressures(self) -> Pressures:
        """Which version 2 alone knows."""
        return _pressures(self.folders[""], ".pressure") if "" in self.folders else {}


def pressures_of_machine(folder: Path = Path("/proc/pressure")) -> Pressures:
    return _pressures(folder, "")


T = TypeVar("T", GroupUse, GroupLimits)


class Groups:
    """The hierarchies that this process sees."""

    def __init__(self, process: Path = Path("/proc/self")) -> None:
        self._processes = process.parent
        self._hierarchies: list[Hierarchy] = []
        with suppress(OSError, ValueError):
            self._hierarchies = list_hierarchies(process)

    def of_process(self, pid: int, mark: str) -> Group | None:
        """That which it is in, in the hierarchies where the group's own name contains `mark`; None if in none does."""
        try:
            named = groups_of(self._processes / str(pid))
        except (OSError, ValueError):
            return None
        found: dict[str, Path] = {}
        name = ""
        for controllers, path in named:
            if mark not in path.rpartition("/")[2]:
                continue
            for one in self._hierarchies:
                if one.controllers == controllers:
                    name = path
                    found |= dict.fromkeys(controllers or {""}, one.place(path))
        node, pods, inner = name.partition(f"/{PODS}/")
        return Group(f"{pods}{inner}" if pods else node, found) if found else None


# ---------------------------------------------------------------------- version 1
def _use_v1(folders: Mapping[str, Path], *, details: bool) -> GroupUse:
    account, memory = folders.get("cpuacct"), folders.get("memory")
    basics = GroupUse(
        cpu=_number(account, "cpuacct.usage") if account else None,
        memory=_memory_v1(memory, details=details) if memory else None,
        processes=_count(memory, "cgroup.procs") if memory else None,
    )
    if not details:
        return basics
    cpu, pids, disks = (folders.get(name) for name in ("cpu", "pids", "blkio"))
    ticks = _numbers(account, "cpuacct.stat") if account else {}
    return replace(
        basics,
        user=ticks["user"] * _TICK_NANOSECONDS if "user" in ticks else None,
        system=ticks["system"] * _TICK_NANOSECONDS if "system" in ticks else None,
        throttled=_throttled(_numbers(cpu, "cpu.stat"), "throttled_time", 1) if cpu else None,
        disks=_disks_v1(disks) if disks else None,
        tasks=_number(pids, "pids.current") if pids else None,
    )


def _memory_v1(folder: Path, *, details: bool) -> Memory | None:
    usage = _number(folder, "memory.usage_in_bytes")
    if usage is None:
        return None
    told = _numbers(folder, "memory.stat")
    inactive = told.get("total_inactive_file", 0)
    return Memory(
        usage=usage,
        working_set=max(usage - inactive, 0),
        rss=told.get("total_rss", 0),
        cache=told.get("total_cache", 0),
        mapped_files=told.get("total_mapped_file", 0),
        active_files=told.get("total_active_file", 0),
        inactive_files=inactive,
        swap=told.get("total_swap", 0),
        most=_number(folder, "memory.max_usage_in_bytes") if details else None,
        failures=(_number(folder, "memory.failcnt") or 0) if details else 0,
        kills=_numbers(folder, "memory.oom_control").get("oom_kill", 0) if details else 0,
        faults=told.get("total_pgfault", 0),
        major_faults=told.get("total_pgmajfault", 0),
    )


def _disks_v1(folder: Path) -> tuple[DiskUse, ...] | None:
    found: dict[str, dict[str, int]] = {}
    for file, names in (
        ("blkio.throttle.io_service_bytes_recursive", {"Read": "read_bytes", "Write": "written_bytes"}),
        ("blkio.throttle.io_serviced_recursive", {"Read": "reads", "Write": "writes"}),
    ):
        told = _words(folder, file)
        if told is None:
            return None
        for line in told:
            if len(line) == 3 and line[1] in names:
                found.setdefault(line[0], {})[names[line[1]]] = int(line[2])
    return tuple(DiskUse(device, **numbers) for device, numbers in found.items())


def _limits_v1(folders: Mapping[str, Path]) -> GroupLimits:
    cpu, memory, pids = (folders.get(name) for name in ("cpu", "memory", "pids"))
    return GroupLimits(
        cpu_shares=_number(cpu, "cpu.shares") if cpu else None,
        cpu_quota=_limit(cpu, "cpu.cfs_quota_us") if cpu else None,
        cpu_period=_number(cpu, "cpu.cfs_period_us") if cpu else None,
        memory=_limit(memory, "memory.limit_in_bytes") if memory else None,
        tasks=_limit(pids, "pids.max") if pids else None,
    )


# ---------------------------------------------------------------------- version 2
def _use_v2(folder: Path, *, details: bool) -> GroupUse:
    told = _numbers(folder, "cpu.stat")

    def nanoseconds(name: str) -> int | None:
        return told[name] * 1000 if name in told else None

    return GroupUse(
        cpu=nanoseconds("usage_usec"),
        user=nanoseconds("user_usec"),
        system=nanoseconds("system_usec"),
        throttled=_throttled(told, "throttled_usec", 1000),
        memory=_memory_v2(folder, details=details),
        disks=_disks_v2(folder) if details else None,
        tasks=_number(folder, "pids.current") if details else None,
        processes=_count(folder, "cgroup.procs"),
    )


def _memory_v2(folder: Path, *, details: bool) -> Memory | None:
    usage = _number(folder, "memory.current")
    if usage is None:
        return None
    told, events = _numbers(folder, "memory.stat"), _numbers(folder, "memory.events") if details else {}
    inactive = told.get("inactive_file", 0)
    return Memory(
        usage=usage,
        working_set=max(usage - inactive, 0),
        rss=told.get("anon", 0),
        cache=told.get("file", 0),
        mapped_files=told.get("file_mapped", 0),
        active_files=told.get("active_file", 0),
        inactive_files=inactive,
        swap=_number(folder, "memory.swap.current") or 0,
        most=_number(folder, "memory.peak") if details else None,
        failures=events.get("max", 0),
        kills=events.get("oom_kill", 0),
        faults=told.get("pgfault", 0),
        major_faults=told.get("pgmajfault", 0),
    )


def _disks_v2(folder: Path) -> tuple[DiskUse, ...] | None:
    names = {"rbytes": "read_bytes", "wbytes": "written_bytes", "rios": "reads", "wios": "writes"}
    told = _words(folder, "io.stat")
    if told is None:
        return None
    found = []
    for device, *rest in filter(None, told):
        pairs = (one.partition("=") for one in rest)
        found.append(DiskUse(device, **{names[name]: int(value) for name, _, value in pairs if name in names}))
    return tuple(found)


def _limits_v2(folder: Path) -> GroupLimits:
    weight = _number(folder, "cpu.weight")
    told = (_words(folder, "cpu.max") or [[]])[0]
    quota, period = told if len(told) == 2 else (None, None)
    return GroupLimits(
        # as cAdvisor turns it round (`container/common/helpers.go`)
        cpu_shares=None if weight is None else 2 + (weight - 1) * 262142 // 9999,
        cpu_quota=None if quota is None else _known(quota),
        cpu_period=None if period is None else int(period),
        memory=_limit(folder, "memory.max"),
        tasks=_limit(folder, "pids.max"),
    )


def _pressures(folder: Path, suffix: str) -> Pressures:
    """Without those that the kernel does not tell."""
    found = {}
    for name in ("cpu", "memory", "io"):
        stalls = {line[0]: _stall(line[1:]) for line in _words(folder, f"{name}{suffix}") or [] if line}
        if "some" in stalls:
            found[name] = Pressure(stalls["some"], stalls.get("full", Stall()))
    return found


def _stall(pairs: Iterable[str]) -> Stall:
    told = dict(one.split("=") for one in pairs)
    return Stall(float(told["avg10"]), float(told["avg60"]), float(told["avg300"]), int(told["total"]))


# ---------------------------------------------------------------------- files
def _either(one: T, other: T) -> T:
    """What the first does not know is the other's to tell."""
    pairs: list[Any] = [(getattr(one, name.name), getattr(other, name.name)) for name in fields(one)]
    return type(one)(*(second if first is None else first for first, second in pairs))


def _throttled(told: Mapping[str, int], lost: str, unit: int) -> Throttled | None:
    """`unit`: nanoseconds in one of the file's."""
    if "nr_periods" not in told:
        return None
    return Throttled(told["nr_periods"], told.get("nr_throttled", 0), told.get(lost, 0) * unit)


def _number(folder: Path, name: str) -> int | None:
    text = _text(folder, name)
    return int(text) if text else None


def _limit(folder: Path, name: str) -> int | None:
    text = _text(folder, name)
    return _known(text.strip()) if text else None


def _known(text: str) -> int:
    """Version 1 tells none by numbers that cannot be."""
    number = 0 if text == "max" else int(text)
    return number if 0 < number < _UNLIMITED else 0


def _numbers(folder: Path, name: str) -> dict[str, int]:
    """Lines of a name and a number."""
    pairs = (line.partition(" ") for line in (_text(folder, name) or "").splitlines())
    return {key: int(value) for key, _, value in pairs}


def _words(folder: Path, name: str) -> list[list[str]] | None:
    text = _text(folder, name)
    return None if text is None else [line.split() for line in text.splitlines()]


def _count(folder: Path, name: str) -> int | None:
    text = _text(folder, name)
    return None if text is None else text.count("\n")


def _text(folder: Path, name: str) -> str | None:
    """Of a small file that is read a thousand times; None where it cannot be."""
    try:
        descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = part = os.read(descriptor, _PIECE)
        while len(part) == _PIECE:
            part = os.read(descriptor, _PIECE)
            found += part
    except OSError:  # of a group that goes
        return None
    finally:
        os.close(descriptor)
    return found.decode()
