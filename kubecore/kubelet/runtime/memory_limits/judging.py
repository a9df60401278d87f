"""Which containers have more memory than they may. A glance at all of them is cheap, and tells too much where several
processes share pages; who might be over a limit by it is measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from kubecore.kubelet.runtime.memory_limits.owners import Process
from kubecore.kubelet.runtime.memory_limits.use import Folder, Glance, Machine, Measure

# A measurement is dear: it is good for so long, unless there may be much more now.
_GOOD_SECONDS = 30.0
_ANYTHING = 1 << 62

Members = Mapping[str, Collection[Process]]
"""The processes of containers, by the containers' ids."""


class Reader(Protocol):
    """As `use.MemoryUse`."""

    def processes(self, roots: Mapping[Process, str], marks: Mapping[str, str]) -> Members: ...

    def machine(self) -> Machine | None: ...

    def glance(self, processes: Iterable[Process]) -> Glance: ...

    def measure(self, processes: Iterable[Process], enough: int) -> Measure: ...

    def in_folder(self, folder: Folder) -> int: ...


class Measured(NamedTuple):
    """What was measured, when, and what a glance told then."""

    measure: Measure
    glance: Glance
    at: float


@dataclass(eq=False, kw_only=True)
class Watched:
    """A container that runs. `process`: its first one. `limit`: of itself, None for none. `end`: called on the loop
    when it has too much: has one of its processes killed, or all for None, and tells whether any was. `mark`: of its
    processes, where they are in no pid namespace of their own. `folders`: file systems in memory that it sees.
    `together`: all of its processes are killed where one is to be."""

    id: str
    process: Process
    limit: int | None
    end: Callable[[Process | None], bool]
    mark: str = ""
    folders: tuple[Folder, ...] = ()
    together: bool = True
    roots: set[Process] = field(default_factory=set)
    """Whatever was started in it."""
    others: dict[int, int] = field(default_factory=dict)
    """What in its folders, by device, was not there by its own doing alone."""
    in_folders: int = 0
    """What has been added to those that no other container sees."""
    glance: Glance = field(default_factory=Glance)
    measured: Measured | None = None
    ending: bool = False
    """All of it has been killed."""
    killed: Process | None = None
    """Of its processes the one that was last, which may need a while to go, and counts until it has."""

    def note(self, device: int, used: int) -> None:
        """Others may have put there what there is now."""
        self.others[device] = used

    def added_to(self, device: int, used: int) -> int:
        """What only it can have. What others had there may have gone."""
        others = self.others[device] = min(self.others.get(device, 0), used)
        return used - others


@dataclass(eq=False)
class Pod:
    """`limit`: of all its containers together. `room`: what has to be added at least before anything of it is over a
    limit. `grown`: there may be as much more than when it was looked at."""

    limit: int | None
    containers: dict[str, Watched] = field(default_factory=dict)
    room: int = 0
    grown: bool = False

    @property
    def limits(self) -> list[int]:
        limits = [self.limit, *(one.limit for one in self.containers.values())]
        return [limit for limit in limits if limit is not None]


class Over(NamedTuple):
    """`victim`: the process to be killed, None for all. `whose`: the limit's."""

    container: Watched
    victim: Process | None
    used: int
    limit: int
    whose: str


class Judge:
    """Not for the event loop. `containers` are those of the pod when the look began."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def judge(
        self, pod: Pod, containers: Sequence[Watched], members: Members, *, swapped: int, now: float
    ) -> list[Over]:
        """Notes what room there is."""
        look = _Look(self._reader, pod, containers, members, swapped, now)
        over = [found for one in containers if not one.ending and (found := look.of_container(one)) is not None]
        if not over and not any(one.ending for one in containers) and (found := look.of_pod()) is not None:
            over.append(found)
        pod.room = max(0, look.room)
        return over


class _Look:
    def __init__(
        self,
        reader: Reader,
        pod: Pod,
        containers: Sequence[Watched],
        members: Members,
        swapped: int,
        now: float,
    ) -> None:
        self._reader = reader
        self._pod = pod
        self._containers = containers
        self._members = members
        self._swapped = swapped
        self._now = now
        self.room = _ANYTHING
        for one in containers:
            one.glance = reader.glance(members.get(one.id, ()))
        self._all_in_folders = self._take_folders()

    def _take_folders(self) -> int:
        """What the pod has in memory, of which each container is charged with what only it can have added."""
        seen_by: dict[int, list[Watched]] = {}
        used: dict[int, int] = {}
        for one in self._containers:
            one.in_folders = 0
            for folder in one.folders:
                seen_by.setdefault(folder.device, []).append(one)
                if folder.device not in used:
                    used[folder.device] = self._reader.in_folder(folder)
        for device, whose in seen_by.items():
            for one in whose:
                if len(whose) > 1:
                    one.note(device, used[device])
                one.in_folders += one.added_to(device, used[device])
        return sum(used.values())

    def of_container(self, one: Watched) -> Over | None:
        if one.limit is None:
            return None
        glance = one.glance
        used = glance.anonymous + glance.shared + one.in_folders + self._swapped
        if used > one.limit:
            used = self._total([one], one.in_folders, one.limit, enough=max(0, one.limit - one.in_folders))
        self.room = min(self.room, one.limit - used)
        if used <= one.limit:
            return None
        victim = one.measured.measure.heaviest if one.measured is not None else None
        return Over(one, None if one.together else victim, used, one.limit, "container")

    def of_pod(self) -> Over | None:
        """Of all containers the one with the heaviest process has to go."""
        limit = self._pod.limit
        if limit is None:
            return None
        used = sum(one.glance.anonymous + one.glance.shared for one in self._containers)
        used += self._all_in_folders + self._swapped
        if used > limit:
            used = self._total(self._containers, self._all_in_folders, limit, enough=0)
        self.room = min(self.room, limit - used)
        if used <= limit:
            return None
        processes = {process: one for one in self._containers for process in self._members.get(one.id, ())}
        victim = self._reader.measure(processes, _ANYTHING).heaviest
        if victim is None:
            return None
        one = processes[victim]
        return Over(one, None if one.together else victim, used, limit, "pod")

    def _total(self, containers: Sequence[Watched], in_folders: int, limit: int, *, enough: int) -> int:
        """By what is known of each, which may be too much, or measured where that is over the limit (`enough`: of each,
        as in `measure`). Files in memory that are mapped are told twice: the larger number counts."""
        known = [self._known(one) for one in containers]
        if any(one is None for one in known) or _sum(known, in_folders) > limit:
            known = [self._measured(one, enough) for one in containers]
            if _sum(known, in_folders) > limit and sum(len(self._members.get(one.id, ())) for one in containers) > 1:
                # One of them may have ended, and another one have taken as much, while they were measured in turn.
                known = [self._measured(one, enough) for one in containers]
        return _sum(known, in_folders)

    def _known(self, one: Watched) -> Measure | None:
        """What was measured, with all that may have come since; None where that is not known."""
        measured = one.measured
        if measured is None or self._pod.grown or self._now - measured.at >= _GOOD_SECONDS:
            return None
        more = max(0, one.glance.anonymous - measured.glance.anonymous)
        more += max(0, one.glance.shared - measured.glance.shared)
        return measured.measure._replace(anonymous=measured.measure.anonymous + more)

    def _measured(self, one: Watched, enough: int) -> Measure:
        found = self._reader.measure(self._members.get(one.id, ()), enough)
        one.measured = Measured(found, one.glance, self._now)
        return found


def _sum(parts: Iterable[Measure | None], in_folders: int) -> int:
    there = [one for one in parts if one is not None]
    return sum(one.anonymous for one in there) + max(in_folders, sum(one.shared for one in there))
