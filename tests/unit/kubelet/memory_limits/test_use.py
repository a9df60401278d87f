"""What real processes have of memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubecore.kubelet.runtime.memory_limits import use
from kubecore.kubelet.runtime.memory_limits.owners import Process
from kubecore.kubelet.runtime.memory_limits.use import MemoryUse

MEBI = 1 << 20


@contextmanager
def running(script: str) -> Iterator[tuple[subprocess.Popen[bytes], list[Process]]]:
    """A program, and the processes whose numbers it has said. It is to end with its stdin."""
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None and program.stdin is not None
        found = [use.process_of(int(pid)) for pid in program.stdout.readline().split()]
        yield program, [one for one in found if one is not None]
        program.stdin.close()


ALONE = """
import os, sys
kept = bytearray(b"x" * (64 << 20))
print(os.getpid(), flush=True)
sys.stdin.read()
"""

FORKED = """
import mmap, os, sys
kept = bytearray(b"x" * (64 << 20))
shared = mmap.mmap(-1, 16 << 20)
shared.write(b"x" * (16 << 20))
children = []
for _ in range(3):
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    children.append(child)
print(os.getpid(), *children, flush=True)
sys.stdin.read()
"""


def test_a_glance_and_a_measurement_of_one_process_tell_the_same() -> None:
    reader = MemoryUse()
    with running(ALONE) as (_, processes):
        glance, measure = reader.glance(processes), reader.measure(processes, 0)
    assert 64 * MEBI <= measure.anonymous <= 96 * MEBI
    assert abs(glance.anonymous - measure.anonymous) <= 2 * MEBI
    assert measure.heaviest == processes[0]


def test_pages_that_several_processes_share_are_measured_once() -> None:
    reader = MemoryUse()
    with running(FORKED) as (_, processes):
        assert len(processes) == 4
        glance, measure = reader.glance(processes), reader.measure(processes, 0)
    assert glance.anonymous >= 4 * 64 * MEBI
    assert 64 * MEBI <= measure.anonymous <= 128 * MEBI
    assert 15 * MEBI <= measure.shared <= 17 * MEBI


def test_what_is_within_the_limit_in_any_case_is_not_measured_any_better() -> None:
    with running(FORKED) as (_, processes):
        found = MemoryUse().measure(processes, 1 << 40)
    assert found.anonymous >= 4 * 64 * MEBI


BORROWED = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
kept = bytearray(b"x" * (64 << 20))
stack = ctypes.create_string_buffer(1 << 16)
function = ctypes.cast(libc.pause, ctypes.c_void_p)
child = libc.clone(function, ctypes.byref(stack, 1 << 15), 0x100 | 17, None)  # CLONE_VM
print(os.getpid(), child, flush=True)
sys.stdin.read()
os.kill(child, 9)
"""
"""A child that has its parent's memory, as between vfork(2) and execve(2)."""


@pytest.mark.parametrize("told", [True, False], ids=["told by the kernel", "not told"])
def test_a_child_that_borrows_its_parents_memory_has_none(told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not told:
        monkeypatch.setattr(use, "_KCMP", {})
        monkeypatch.setattr(use, "_BORROWS_SECONDS", 1 << 30)
    with running(BORROWED) as (_, processes):
        assert len(processes) == 2
        measure = MemoryUse().measure(processes, 0)
    assert 64 * MEBI <= measure.anonymous <= 96 * MEBI


def test_a_child_that_has_run_no_program_and_is_old_has_memory_of_its_own_where_the_kernel_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(use, "_KCMP", {})
    monkeypatch.setattr(use, "_BORROWS_SECONDS", 0)
    with running(FORKED) as (_, processes):
        assert use._with_memory_of_their_own(processes) == processes


def test_who_begins_in_this_very_tick_of_the_clock_is_as_old_as_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 71460.51 * 100 < 7146051
    monkeypatch.setattr(use, "_KCMP", {})
    monkeypatch.setattr(use, "_TICKS", 100)
    monkeypatch.setattr(use, "_BORROWS_SECONDS", 0)
    monkeypatch.setattr(use.proc_files, "content", lambda path: b"71460.51 80000.00\n")
    assert not use._borrows(Process(pid=2, began=7146051), parent=1)


GIVEN_UP = """
import mmap, os, sys
kept = bytearray(b"x" * (16 << 20))
area = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.write(b"x" * (64 << 20))
area.madvise(mmap.MADV_FREE)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_what_a_process_has_given_up_does_not_count_though_the_kernel_has_not_taken_it_yet() -> None:
    with running(GIVEN_UP) as (_, processes):
        measure = MemoryUse().measure(processes, 0)
    assert 16 * MEBI <= measure.anonymous <= 48 * MEBI


def test_what_is_gone_or_another_process_has_nothing() -> None:
    with running(ALONE) as (_, processes):
        other = Process(processes[0].pid, processes[0].began - 1)
        assert MemoryUse().measure([other], 0) == use.Measure()
    assert MemoryUse().measure(processes, 0) == use.Measure()
    assert MemoryUse().glance(processes) == use.Glance()


def test_the_machine_tells_of_what_its_processes_take() -> None:
    reader = MemoryUse()
    found = reader.machine()
    assert found is not None
    assert found.taken > 0
    assert found.swapped >= 0


def test_a_folder_is_found_within_the_root_of_who_sees_it(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "made")
    found = use.folders_of(os.getpid(), [str(tmp_path / "link"), str(tmp_path), str(tmp_path / "missing")])
    assert [one.device for one in found] == [tmp_path.stat().st_dev]
    assert MemoryUse().in_folder(found[0]) > 0
    for one in found:
        os.close(one.descriptor)


def test_a_process_is_killed_and_never_another_one_by_its_number() -> None:
    with running(ALONE) as (program, processes):
        (process,) = processes
        assert not use.kill(process._replace(began=process.began - 1))
        assert program.poll() is None
        assert use.kill(process)
        assert program.wait(60) == -9
        assert not use.kill(process)
