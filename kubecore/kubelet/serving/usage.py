"""What containers, pods and the node use of the machine.

It is what the kernel has counted of a container's and a pod's control group. Where there is none, it is summed up over
a container's processes, from /proc: CPU counts what ended, too, once its parent has waited for it. Memory is what is
resident, of pages that several share the share (PSS), so that a sum counts nothing twice; where the kernel does not
tell us that, anonymous and shared pages.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kubecore.api import meta
from kubecore.kubelet import proc_files
from kubecore.kubelet.cgroups.measuring import Group, Groups, GroupUse
from kubecore.kubelet.networks.network import POD_LINK
from kubecore.kubelet.pods.records import ContainerRecord
from kubecore.kubelet.pods.view import start_time
from kubecore.kubelet.runtime.interface import RuntimeFailure
from kubecore.kubelet.volumes.claims import claim_name

if TYPE_CHECKING:
    from kubecore.kubelet.pods.sandbox import PodPlace

Object = dict[str, Any]

_PROC = Path("/proc")
_TICK_NANOSECONDS = 10**9 // os.sysconf("SC_CLK_TCK")
_OWN_MEMORY = ("RssAnon:", "RssShmem:")
_NOTHING = GroupUse()


@dataclass(frozen=True, slots=True)
class InterfaceUse:
    """What came in and went out."""

    name: str
    received: Traffic
    sent: Traffic


class Traffic(NamedTuple):
    bytes: int
    packets: int
    errors: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Used:
    """CPU time since the start, in nanoseconds; memory in bytes, without what could be dropped at once. `group`: what
    the kernel has counted beside them, where it counts. `networks`: of a pod with a network of its own. `memory_kills`
    as in ContainerStatus."""

    cpu: int
    memory: int
    processes: int | None = None
    group: Group | None = None
    counted: GroupUse = _NOTHING
    networks: tuple[InterfaceUse, ...] = ()
    memory_kills: int | None = None


@dataclass(frozen=True, slots=True)
class RunningContainer:
    """`pid` is that of its first process, on this machine; 0 for none. `memory_kills` as in ContainerStatus."""

    name: str
    id: str
    pid: int
    started_at: datetime
    image: str = ""
    memory_kills: int | None = None


class ClaimedFolder(NamedTuple):
    """Where the volume of a claim is. `name`: the pod's for it."""

    name: str
    claim: str
    path: Path


class MemoryFolder(NamedTuple):
    """A volume in memory, as a container sees it that runs."""

    name: str
    path: Path


class DiskUse(NamedTuple):
    """Of a file system: bytes and inodes."""

    capacity: int
    available: int
    used: int
    inodes: int
    inodes_free: int
    inodes_used: int


@dataclass(frozen=True, slots=True)
class RunningPod:
    namespace: str
    name: str
    uid: str
    containers: tuple[RunningContainer, ...]
    claims: tuple[ClaimedFolder, ...] = ()
    memory_folders: tuple[MemoryFolder, ...] = ()
    started_at: datetime | None = None


def running_pod(pod: Object, records: Iterable[ContainerRecord], place: PodPlace | None) -> RunningPod:
    """What of a pod runs now."""
    found, claims, mounts = [], [], dict[str, MemoryFolder]()
    for record in records:
        if record.state == "running" and record.started_at is not None and place is not None:
            with suppress(RuntimeFailure):
                status, began = place.runtime.container_status(record.id), record.started_at
                own = (record.name, record.id, status.pid, began, record.image, status.memory_kills)
                found.append(RunningContainer(*own))
                mounts |= {one.name: one for one in _mounted(record.spec, status.pid)}
    for declared in pod["spec"].get("volumes") or []:
        claim = claim_name(pod, declared)
        if claim and place is not None and declared["name"] in place.volumes:
            claims.append(ClaimedFolder(declared["name"], claim, place.volumes[declared["name"]].path))
    in_memory = {
        one["name"] for one in pod["spec"].get("volumes") or [] if (one.get("emptyDir") or {}).get("medium") == "Memory"
    }
    return RunningPod(
        meta.namespace(pod),
        meta.name(pod),
        meta.uid(pod),
        tuple(found),
        tuple(claims),
        tuple(one for one in mounts.values() if one.name in in_memory),
        start_time(pod),
    )


def _mounted(container: Object, pid: int) -> Iterator[MemoryFolder]:
    """Its volumes, as seen through its first process."""
    for mount in container.get("volumeMounts") or [] if pid else []:
        if not mount.get("subPath") and not mount.get("subPathExpr"):
            yield MemoryFolder(mount["name"], Path(f"{_PROC}/{pid}/root/{mount['mountPath'].lstrip('/')}"))


def disk_of(folder: Path) -> DiskUse | None:
    """That it is on; None when it is gone."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    unit = disk.f_frsize
    return DiskUse(
        capacity=disk.f_blocks * unit,
        available=disk.f_bavail * unit,
        used=(disk.f_blocks - disk.f_bfree) * unit,
        inodes=disk.f_files,
        inodes_free=disk.f_favail,
        inodes_used=disk.f_files - disk.f_ffree,
    )


class MemoryUse(NamedTuple):
    """Bytes, with what is only cached; None where nobody can tell. `containers`: by name, of those that run."""

    containers: Mapping[str, int]
    pod: int | None


class UsageReader:
    """Reads files: not for the event loop."""

    def __init__(self, groups: Groups | None = None) -> None:
        self._groups = groups or Groups()
        self._known: dict[str, Group] = {}

    def __call__(self, pods: Iterable[RunningPod], *, details: bool = False) -> dict[str, Used]:
        """By the container's id and the pod's uid, of what still runs; the node's own key is "". With `details`: all
        that the kernel has counted."""
        found = {"": of_machine()}
        for pod in pods:
            found |= self._with_containers(pod, details=details)
        self._known = {name: known for name, known in self._known.copy().items() if name in found}
        return found

    def _with_containers(self, pod: RunningPod, *, details: bool = False) -> dict[str, Used]:
        of_pod = [
            (one, used) for one in pod.containers if (used := self.of_container(one, details=details)) is not None
        ]
        found = {one.id: used for one, used in of_pod}
        return found | {pod.uid: self._of_pod(pod.uid, of_pod, details=details)} if of_pod else found

    async def memory_of(self, pod: RunningPod) -> MemoryUse:
        """For whoever is about to limit it."""
        used = await asyncio.to_thread(self._with_containers, pod)
        bytes_of = {key: one.counted.memory.usage if one.counted.memory else one.memory for key, one in used.items()}
        by_name = {one.name: bytes_of[one.id] for one in pod.containers if one.id in bytes_of}
        return MemoryUse(by_name, bytes_of.get(pod.uid))

    def of_container(self, container: RunningContainer, *, details: bool = False) -> Used | None:
        """None when it is gone."""
        if not container.pid:
            return None
        group = self._known.get(container.id) or self._groups.of_process(container.pid, container.id)
        if group is not None:
            self._known[container.id] = group
        counted = group.use(details=details) if group is not None else _NOTHING
        cpu, memory, processes = counted.cpu, counted.memory, counted.processes
        kills = container.memory_kills
        if cpu is None or memory is None or processes is None:
            summed = of_processes(container.pid)
            if summed is None:
                return None
            cpu = summed.cpu if cpu is None else cpu
            processes = summed.processes if processes is None else processes
            used = memory.working_set if memory else summed.memory
            return Used(cpu, used, processes, group, counted, memory_kills=kills)
        return Used(cpu, memory.working_set, processes, group, counted, memory_kills=kills)

    def _of_pod(self, uid: str, containers: Sequence[tuple[RunningContainer, Used]], *, details: bool) -> Used:
        """Of its own group, in which may be more than its containers, if it has one."""
        group = next((one.group.parent() for _, one in containers if one.group is not None), None)
        if group is not None and uid not in group.name.rpartition("/")[2]:
            group = None
        counted = group.use(details=details) if group is not None else _NOTHING
        cpu = sum(one.cpu for _, one in containers) if counted.cpu is None else counted.cpu
        memory = counted.memory.working_set if counted.memory else sum(one.memory for _, one in containers)
        processes = sum(one.processes or 0 for _, one in containers)
        return Used(cpu, memory, processes, group, counted, networks_of(containers[0][0].pid))


def networks_of(pid: int) -> tuple[InterfaceUse, ...]:
    """The interfaces of a process's network, if it is not the host's; without the one to itself."""
    process = _PROC / str(pid)
    with suppress(OSError):
        if (process / "ns/net").stat().st_ino != (_PROC / "self/ns/net").stat().st_ino:
            return _interfaces(process)
    return ()


def networks_of_machine() -> tuple[InterfaceUse, ...]:
    """Without those that lead to pods."""
    with suppress(OSError):
        return tuple(one for one in _interfaces(_PROC / "self") if not one.name.startswith(("veth", POD_LINK)))
    return ()


def _interfaces(process: Path) -> tuple[InterfaceUse, ...]:
    """Raises OSError."""
    found = []
    for line in proc_files.lines(process / "net/dev")[2:]:
        name, _, rest = line.partition(":")
        told = [int(one) for one in rest.split()]
        if name.strip() != "lo":
            shown = os.fsencode(name.strip()).decode(errors="replace")
            found.append(InterfaceUse(shown, Traffic(*told[0:4]), Traffic(*told[8:12])))
    return tuple(found)


def of_processes(pid: int) -> Used | None:
    """Of a process and its descendants; None when it is gone."""
    first = _of_process(pid)
    if first is None:
        return None
    cpu, memory, count = first.cpu, first.memory, 1
    waiting = _children(pid)
    while waiting:
        child = waiting.pop()
        used = _of_process(child)
        if used is not None:
            cpu, memory, count = cpu + used.cpu, memory + used.memory, count + 1
            waiting += _children(child)
    return Used(cpu, memory, count)


def of_machine() -> Used:
    """All that the machine does, idling and waiting for disks aside; memory without what is only cached."""
    user, nice, system, _, _, irq, softirq, steal = map(int, (_PROC / "stat").read_text().split()[1:9])
    ticks = user + nice + system + irq + softirq + steal
    memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in (_PROC / "meminfo").read_text().splitlines()}
    taken = memory["MemTotal"] - memory["MemFree"] - memory.get("Inactive(file)", 0)
    return Used(ticks * _TICK_NANOSECONDS, max(0, taken))


def _of_process(pid: int) -> Used | None:
    try:
        fields = proc_files.stat_fields(_PROC / str(pid))
        memory = _memory(pid)
    except OSError:
        return None
    ticks = sum(map(int, fields[11:15]))  # utime, stime, cutime and cstime
    return Used(ticks * _TICK_NANOSECONDS, memory)


def _memory(pid: int) -> int:
    """In bytes. Raises OSError when the process is gone."""
    with suppress(PermissionError, FileNotFoundError):
        return _sum(_PROC / str(pid) / "smaps_rollup", ("Pss:",))
    return _sum(_PROC / str(pid) / "status", _OWN_MEMORY)


def _sum(file: Path, names: tuple[str, ...]) -> int:
    """Of lines that tell kilobytes. Raises OSError."""
    return sum(int(line.split()[1]) * 1024 for line in proc_files.lines(file) if line.startswith(names))


def _children(pid: int) -> list[int]:
    """Of all its threads."""
    found: list[int] = []
    with suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return found
