"""When containers' memory is looked at, and who has too much of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from kubecore.clock import VirtualClock
from kubecore.kubelet.runtime.memory_limits.judging import Watched
from kubecore.kubelet.runtime.memory_limits.owners import Process
from kubecore.kubelet.runtime.memory_limits.use import Folder, Glance, Machine, Measure
from kubecore.kubelet.runtime.memory_limits.watch import MemoryWatch

MEBI = 1 << 20


@dataclass
class Has:
    """What a process has, in MiB. `together`: of that, what it shares with every other one that has such, each page
    being the same one."""

    own: int = 0
    together: int = 0
    shared: int = 0


@dataclass
class Machines:
    """A machine on which nothing happens but what a test does. `has`: by pid."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    has: dict[int, Has] = field(default_factory=dict)
    children: dict[int, list[int]] = field(default_factory=dict)
    folders: dict[int, int] = field(default_factory=dict)
    others: int = 1000
    swapped: int = 0
    tells: bool = True
    asked: int = 0
    looks: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    """Of containers whose processes are killed one by one. They go when a test lets them."""
    meanwhile: Callable[[], None] = lambda: None
    """Called after one process was measured, and before the next."""

    def __post_init__(self) -> None:
        self.watch = MemoryWatch(self.clock, self)

    # ---- as `use.MemoryUse`

    def processes(self, roots: Mapping[Process, str], marks: Mapping[str, str]) -> Mapping[str, Collection[Process]]:
        self.looks.append(self.clock.monotonic())
        found: dict[str, set[Process]] = {}
        for root, whose in roots.items():
            pids = [root.pid, *self.children.get(root.pid, ())]
            found.setdefault(whose, set()).update(Process(pid, 1) for pid in pids if pid in self.has)
        return found

    def machine(self) -> Machine | None:
        self.asked += 1
        taken = self.others + sum(one.own + one.together for one in self.has.values()) + sum(self.folders.values())
        return Machine(taken * MEBI, self.swapped * MEBI) if self.tells else None

    def glance(self, processes: Iterable[Process]) -> Glance:
        there = [self.has[one.pid] for one in processes if one.pid in self.has]
        return Glance(MEBI * sum(one.own + one.together for one in there), MEBI * sum(one.shared for one in there))

    def measure(self, processes: Iterable[Process], enough: int) -> Measure:
        self.measured.append(self.clock.monotonic())
        there = [one for one in processes if one.pid in self.has]
        found = self._measured(there, enough)
        self.meanwhile()
        return found

    def _measured(self, there: list[Process], enough: int) -> Measure:
        heaviest = max(there, key=lambda one: (self.has[one.pid].own, one.pid), default=None)
        own, together = (sum(getattr(self.has[one.pid], kind) for one in there) for kind in ("own", "together"))
        if (own + together) * MEBI > enough:
            together = max((self.has[one.pid].together for one in there), default=0)
        return Measure((own + together) * MEBI, 0, heaviest)

    def in_folder(self, folder: Folder) -> int:
        return self.folders[folder.device] * MEBI

    # ---- for tests

    def start(
        self,
        name: str,
        pid: int,
        limit: int | None,
        *,
        pod: str = "pod",
        folders: tuple[Folder, ...] = (),
        together: bool = True,
    ) -> None:
        self.has.setdefault(pid, Has(1))
        limit = None if limit is None else limit * MEBI
        end = partial(self.end, name, pid)
        self.watch.add(
            pod, Watched(id=name, process=Process(pid, 1), limit=limit, end=end, folders=folders, together=together)
        )

    def end(self, name: str, pid: int, victim: Process | None) -> bool:
        if victim is not None:
            self.killed.append(victim.pid)
            return True
        self.ended.append(name)
        for one in (pid, *self.children.get(pid, ())):
            self.has.pop(one, None)
        return True

    def folder(self, device: int, has: int) -> Folder:
        self.folders[device] = has
        return Folder(device, os.open(os.devnull, os.O_PATH))


@pytest.fixture
async def machine() -> AsyncIterator[Machines]:
    one = Machines()
    yield one
    one.watch.remove_pod("pod")


async def test_who_takes_more_than_the_limit_is_ended_within_a_tenth_of_a_second(machine: Machines) -> None:
    machine.start("web", 10, 50)
    machine.start("idle", 11, 50)
    await machine.clock.advance(1)
    machine.has[10].own = 500
    await machine.clock.advance(0.1)
    assert machine.ended == ["web"]
    await machine.clock.advance(10)
    assert machine.ended == ["web"]


async def test_who_has_as_much_as_the_limit_goes_on(machine: Machines) -> None:
    machine.start("web", 10, 50)
    machine.has[10].own = 50
    await machine.clock.advance(60)
    assert machine.ended == []
    machine.has[10].own = 51
    await machine.clock.advance(1.1)
    assert machine.ended == ["web"]


async def test_what_all_processes_of_a_container_have_counts_and_shared_pages_once(machine: Machines) -> None:
    machine.start("prefork", 10, 50)
    machine.children[10] = [20, 21, 22]
    for pid in (10, 20, 21, 22):
        machine.has[pid] = Has(own=2, together=30)
    await machine.clock.advance(60)
    assert machine.ended == []
    for pid in (20, 21, 22):
        machine.has[pid].own = 8
    await machine.clock.advance(1.1)
    assert machine.ended == ["prefork"]


async def test_memory_that_one_process_has_after_another_counts_once(machine: Machines) -> None:
    """Who is measured last may have it from who was measured first."""
    machine.start("first", 10, None)
    machine.start("second", 11, None)
    machine.watch.limit_pod("pod", 50 * MEBI)
    machine.has[10].own = 49
    await machine.clock.advance(5)
    assert machine.ended == []

    def hand_over() -> None:
        machine.has[10].own, machine.has[11].own = 1, 49

    machine.meanwhile = hand_over
    machine.has[11].own = 2
    await machine.clock.advance(5)
    assert machine.ended == []


async def test_pages_of_files_do_not_count(machine: Machines) -> None:
    machine.start("database", 10, 50)
    machine.has[10].shared = 400
    await machine.clock.advance(60)
    assert machine.ended == []


async def test_a_command_in_a_container_counts_and_one_that_has_ended_does_not(machine: Machines) -> None:
    machine.start("web", 10, 50)
    machine.has[20] = Has(30)
    machine.watch.started("pod", "web", Process(20, 1))
    await machine.clock.advance(5)
    del machine.has[20]
    await machine.clock.advance(5)
    machine.has[20] = Has(100)  # of others, by the same number
    await machine.clock.advance(5)
    assert machine.ended == []
    machine.has[21] = Has(50)
    machine.watch.started("pod", "web", Process(21, 1))
    await machine.clock.advance(5)
    assert machine.ended == ["web"]


async def test_files_in_memory_count_for_who_alone_can_have_written_them_since_it_began(machine: Machines) -> None:
    folder = machine.folder(1, has=45)  # an init container's
    machine.start("web", 10, 50, folders=(folder,))
    await machine.clock.advance(5)
    assert machine.ended == []
    machine.folders[1] = 100
    await machine.clock.advance(1.1)
    assert machine.ended == ["web"]


async def test_what_another_container_has_left_in_memory_is_not_charged_to_who_goes_on(machine: Machines) -> None:
    folders = [machine.folder(1, has=0), machine.folder(1, has=0)]
    machine.start("reader", 10, 50, folders=(folders[0],))
    machine.start("writer", 11, None, folders=(folders[1],))
    await machine.clock.advance(5)
    machine.folders[1] = 80
    machine.watch.remove("pod", "writer")
    await machine.clock.advance(5)
    assert machine.ended == []
    machine.folders[1] = 20  # it removes what was there, and writes as much
    await machine.clock.advance(5)
    machine.folders[1] = 80
    await machine.clock.advance(5)
    assert machine.ended == ["reader"]


async def test_files_in_memory_that_several_see_count_for_the_pod_alone(machine: Machines) -> None:
    machine.watch.add_pod("pod", 100 * MEBI)
    machine.folders[1] = 0
    for name, pid in (("reader", 10), ("writer", 11)):
        machine.start(name, pid, 50, folders=(Folder(1, os.open(os.devnull, os.O_PATH)),))
    machine.has[11].own = 20
    machine.folders[1] = 75
    await machine.clock.advance(5)
    assert machine.ended == []
    machine.folders[1] = 80
    await machine.clock.advance(5)
    assert machine.ended == ["writer"]


async def test_pages_that_processes_share_count_once_for_the_pod_too(machine: Machines) -> None:
    machine.watch.add_pod("pod", 100 * MEBI)
    for name, pid in (("one", 10), ("other", 11)):
        machine.start(name, pid, 90)
        machine.children[pid] = [pid + 10]
        machine.has[pid], machine.has[pid + 10] = Has(own=2, together=40), Has(own=2, together=40)
    await machine.clock.advance(60)
    assert machine.ended == []


async def test_a_limit_of_the_pod_ends_the_container_with_the_heaviest_process(machine: Machines) -> None:
    machine.watch.add_pod("pod", 100 * MEBI)
    machine.start("small", 10, None)
    machine.start("large", 11, None)
    machine.has[10].own, machine.has[11].own = 40, 59
    await machine.clock.advance(5)
    assert machine.ended == []
    machine.has[10].own = 45
    await machine.clock.advance(5)
    assert machine.ended == ["large"]


async def test_a_process_that_was_killed_is_not_killed_again_while_it_goes(machine: Machines) -> None:
    machine.start("web", 10, 50, together=False)
    machine.children[10] = [20, 21]
    machine.has[20] = Has(100)
    await machine.clock.advance(5)
    assert machine.killed == [20]
    del machine.has[20]
    machine.has[21] = Has(60)
    await machine.clock.advance(5)
    assert machine.killed == [20, 21]


async def test_a_new_limit_is_in_force_at_once(machine: Machines) -> None:
    machine.start("web", 10, 50)
    machine.has[10].own = 40
    await machine.clock.advance(5)
    machine.watch.limit("pod", "web", 100 * MEBI)
    machine.has[10].own = 90
    await machine.clock.advance(5)
    assert machine.ended == []
    machine.watch.limit("pod", "web", 80 * MEBI)
    await machine.clock.advance(0.1)
    assert machine.ended == ["web"]


async def test_memory_that_is_in_swap_may_be_theirs_and_has_them_measured(machine: Machines) -> None:
    machine.start("web", 10, 50)
    await machine.clock.advance(5)
    assert machine.measured == []
    machine.swapped = 500
    await machine.clock.advance(5)
    assert machine.measured
    assert machine.ended == []


# ---- how often


async def test_idle_containers_are_looked_at_together_every_three_seconds(machine: Machines) -> None:
    for number in range(200):
        machine.start(f"c{number}", 10 + number, 50, pod=f"pod{number}")
    await machine.clock.advance(1)
    machine.looks.clear()
    machine.measured.clear()
    await machine.clock.advance(60)
    assert 15 <= len(machine.looks) <= 25
    assert machine.measured == []


async def test_who_is_close_to_the_limit_is_looked_at_more_often(machine: Machines) -> None:
    machine.start("web", 10, 50)
    machine.has[10].own = 49
    await machine.clock.advance(10)
    machine.looks.clear()
    await machine.clock.advance(10)
    assert 8 <= len(machine.looks) <= 12


async def test_what_comes_and_goes_on_the_machine_has_nobody_looked_at_more_than_twice_a_second(
    machine: Machines,
) -> None:
    machine.start("web", 10, 50)
    machine.has[10].own = 45
    await machine.clock.advance(5)
    machine.looks.clear()
    for _ in range(50):
        machine.others += 20
        await machine.clock.advance(0.1)
        machine.others -= 20
        await machine.clock.advance(0.1)
    assert 10 <= len(machine.looks) <= 21


async def test_the_machine_is_asked_seldom_where_there_is_much_room(machine: Machines) -> None:
    machine.start("web", 10, 64 * 1024)
    await machine.clock.advance(10)
    before = machine.asked
    await machine.clock.advance(60)
    assert machine.asked - before <= 80


async def test_a_dear_measurement_is_good_until_there_may_be_more(machine: Machines) -> None:
    machine.start("prefork", 10, 100)
    machine.children[10] = [20, 21]
    for pid in (10, 20, 21):
        machine.has[pid] = Has(own=1, together=60)
    await machine.clock.advance(5)
    machine.measured.clear()
    await machine.clock.advance(60)
    assert len(machine.measured) <= 3
    machine.has[20].own = 40  # of what was shared with the others: what a glance tells of it is the same
    machine.has[20].together = 21
    machine.others += 39
    await machine.clock.advance(0.6)
    assert machine.ended == ["prefork"]


async def test_where_the_machine_tells_nothing_they_are_looked_at_four_times_a_second(machine: Machines) -> None:
    machine.tells = False
    machine.start("web", 10, 50)
    await machine.clock.advance(1)
    machine.looks.clear()
    await machine.clock.advance(10)
    assert 35 <= len(machine.looks) <= 45
    machine.has[10].own = 60
    await machine.clock.advance(0.5)
    assert machine.ended == ["web"]


async def test_nothing_is_asked_while_no_container_has_a_limit(machine: Machines) -> None:
    machine.start("free", 10, None)
    await machine.clock.advance(60)
    assert (machine.asked, machine.clock.next_timer()) == (0, None)
    machine.start("web", 11, 50)
    await machine.clock.advance(1)
    machine.watch.remove("pod", "web")
    asked = machine.asked
    await machine.clock.advance(60)
    assert (machine.asked, machine.clock.next_timer()) == (asked, None)


async def test_folders_are_let_go_with_their_container(machine: Machines, tmp_path: Path) -> None:
    folder = machine.folder(1, has=0)
    machine.start("web", 10, 50, folders=(folder,))
    await machine.clock.advance(1)
    machine.watch.remove("pod", "web")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(folder.descriptor)


async def test_a_look_that_fails_is_not_the_last_one(
    machine: Machines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(processes: Iterable[Process]) -> Glance:
        raise RuntimeError("for the test")

    with monkeypatch.context() as broken:
        broken.setattr(machine, "glance", fails)
        machine.start("web", 10, 50)
        await machine.clock.advance(1)
    assert "for the test" in caplog.text
    machine.has[10].own = 60
    await machine.clock.advance(5)
    assert machine.ended == ["web"]
