"""The monitor of what OCI runtimes run, and the runtime's side of it, with programs of this machine."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kubecore.clock import VirtualClock
from kubecore.kubelet.runtime.launching import Process
from kubecore.kubelet.runtime.oci_programs import link
from kubecore.kubelet.runtime.oci_programs.link import Command, MonitorFailure, MonitorLink
from kubecore.kubelet.runtime.processes import Ended
from kubecore.kubelet.runtime.streams import watch_end
from tests.integration.host_runtime.conftest import open_descriptors, processes, settled, until

_NUMBERS = itertools.count()


class WholeVirtualClock(VirtualClock):
    """Programs outside have its time as well, so that two minutes of theirs need not be waited for."""

    def outside(self, seconds: float) -> AbstractAsyncContextManager[None]:
        return self.timeout(seconds)  # type: ignore[return-value]


@dataclass
class Bench:
    """`marker`: by which to tell the processes of a test."""

    clock: VirtualClock
    link: MonitorLink
    folder: Path
    marker: str
    null: int

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"

    def command(self, *arguments: str, leaves: bool = False, stdin: int = -1) -> Command:
        stdio = (stdin if stdin >= 0 else self.null, self.null, self.null)
        pid_file = self.pid_file if leaves else None
        return Command(arguments=arguments, directory=self.folder, stdio=stdio, pid_file=pid_file)

    def run(self, command: Command) -> asyncio.Task[tuple[int, Process | None]]:
        return asyncio.create_task(self.link.run(command))


@pytest.fixture
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    clock = getattr(request, "param", WholeVirtualClock)()
    marker = f"7{os.getpid()}{next(_NUMBERS):02}"
    bench = Bench(clock, MonitorLink(clock), tmp_path, marker, os.open(os.devnull, os.O_RDWR))
    await bench.link.ensure()
    yield bench
    await bench.link.close()
    os.close(bench.null)
    assert await settled(lambda: processes(marker) == [])


async def test_a_program_that_does_not_end_is_cut_and_takes_no_turn_for_ever(bench: Bench) -> None:
    running = bench.run(bench.command("sleep", bench.marker))
    await until(lambda: processes(bench.marker) != [])
    await bench.clock.advance(121)
    with pytest.raises(MonitorFailure, match="sleep has not ended within 120 seconds"):
        await running
    assert await settled(lambda: processes(bench.marker) == [] and bench.link.idle)


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_program_that_nobody_waits_for_any_more_has_some_seconds_to_end_and_keeps_nothing(
    bench: Bench, leaves: bool
) -> None:
    before = open_descriptors()
    running = bench.run(bench.command("sleep", bench.marker, leaves=leaves))
    await until(lambda: processes(bench.marker) != [])
    running.cancel()
    await asyncio.wait([running])
    await bench.clock.advance(9)
    assert processes(bench.marker) != []
    await bench.clock.advance(2)
    assert await settled(lambda: processes(bench.marker) == [] and bench.link.idle)
    assert await settled(lambda: open_descriptors() == before)


async def test_what_a_program_writes_that_nobody_waits_for_any_more_does_not_stay(bench: Bench) -> None:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    script = "read line; echo > log; echo > written; true"
    command = bench.command("sh", "-c", script, bench.marker, stdin=reading)
    running = bench.run(replace(command, log=bench.folder / "log"))
    await until(lambda: processes(bench.marker) != [])
    running.cancel()
    await asyncio.wait([running])
    os.close(writing)
    await until((bench.folder / "written").exists)
    assert await settled(lambda: bench.link.idle and not (bench.folder / "log").exists())
    os.close(reading)


async def test_a_program_that_is_given_up_last_has_no_more_time_than_others(bench: Bench) -> None:
    running = bench.run(bench.command("sleep", bench.marker))
    await until(lambda: processes(bench.marker) != [])
    await bench.clock.advance(115)
    running.cancel()
    await asyncio.wait([running])
    await bench.clock.advance(6)
    assert await settled(lambda: processes(bench.marker) == [] and bench.link.idle)


async def test_a_program_has_its_turn_until_it_ends_though_nobody_waits_for_it(bench: Bench) -> None:
    hung = [bench.run(bench.command("sleep", bench.marker)) for _ in range(8)]
    await until(lambda: len(processes(bench.marker)) == 8)
    for one in hung:
        one.cancel()
    await asyncio.wait(hung)
    further = bench.run(bench.command("true"))
    await bench.clock.advance(9)
    assert not further.done()
    await bench.clock.advance(2)
    assert await further == (0, None)


async def test_commands_inside_containers_and_other_programs_do_not_wait_for_each_other(bench: Bench) -> None:
    hung = [bench.run(bench.command("sleep", bench.marker)) for _ in range(8)]
    await until(lambda: len(processes(bench.marker)) == 8)
    assert await bench.run(replace(bench.command("true"), inside=True)) == (0, None)
    hung += [bench.run(replace(bench.command("sleep", bench.marker), inside=True)) for _ in range(8)]
    await until(lambda: len(processes(bench.marker)) == 16)
    await bench.link.close()
    await asyncio.gather(*hung, return_exceptions=True)


async def test_what_waits_for_its_turn_is_never_run_once_it_is_cancelled(bench: Bench) -> None:
    hung = [bench.run(bench.command("sleep", bench.marker)) for _ in range(8)]
    await until(lambda: len(processes(bench.marker)) == 8)
    waits = bench.run(bench.command("touch", "run"))
    await bench.clock.advance(1)
    waits.cancel()
    await asyncio.wait([waits])
    await bench.clock.advance(121)
    await asyncio.wait(hung)
    assert all(isinstance(one.exception(), MonitorFailure) for one in hung)
    assert await bench.run(bench.command("true")) == (0, None)
    assert not (bench.folder / "run").exists()


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_program_whose_descriptors_cannot_be_copied_is_not_run_and_none_are_left_open(
    bench: Bench, leaves: bool
) -> None:
    before = open_descriptors()
    command = replace(bench.command("true", leaves=leaves), stdio=(bench.null, bench.null, 1_000_000))
    with pytest.raises(MonitorFailure, match=r"failed to run true: .*Bad file descriptor"):
        await bench.run(command)
    assert bench.link.idle
    assert await settled(lambda: open_descriptors() == before)


async def test_a_process_that_a_program_leaves_is_not_begun_without_a_pipe_for_its_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = open_descriptors()
    monkeypatch.setattr(link.os, "pipe2", none_left)
    with pytest.raises(MonitorFailure, match="Too many open files"):
        await bench.run(bench.command("true", leaves=True))
    assert await settled(lambda: open_descriptors() == before)


@pytest.mark.parametrize("bench", [VirtualClock], indirect=True)
async def test_virtual_time_takes_none_from_a_program(bench: Bench) -> None:
    reader, writer = os.pipe()
    running = bench.run(bench.command("sh", "-c", "read line; true", bench.marker, stdin=reader))
    await until(lambda: processes(bench.marker) != [])
    passing = asyncio.create_task(bench.clock.advance(1000))
    os.close(writer)
    assert await running == (0, None)
    await passing
    os.close(reader)


# ---- its own beginning and end


async def test_a_monitor_that_is_closed_while_it_is_started_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    start = link._start

    def held_up(connection: socket.socket) -> subprocess.Popen[bytes]:
        begun.set()
        go_on.wait()
        return start(connection)

    before = open_descriptors()
    monkeypatch.setattr(link, "_start", held_up)
    started = MonitorLink(VirtualClock())
    starting = asyncio.create_task(started.ensure())
    await asyncio.to_thread(begun.wait)
    closing = asyncio.create_task(started.close())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(starting, closing)
    assert started.pid == -1
    assert await settled(lambda: open_descriptors() == before)


async def test_none_is_started_for_a_program_that_waits_for_its_turn_when_it_is_closed(bench: Bench) -> None:
    hung = [bench.run(bench.command("sleep", bench.marker)) for _ in range(8)]
    await until(lambda: len(processes(bench.marker)) == 8)
    waits = bench.run(bench.command("touch", "run"))
    await bench.clock.advance(1)
    await bench.link.close()
    with pytest.raises(MonitorFailure, match="has ended"):
        await waits
    assert bench.link.pid == -1
    assert not (bench.folder / "run").exists()
    await asyncio.gather(*hung, return_exceptions=True)


async def test_a_monitor_for_which_there_is_no_socket_is_a_failure_of_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(link.socket, "socketpair", none_left)
    with pytest.raises(MonitorFailure, match=r"failed to start the monitor of containers: .*Too many open files"):
        await MonitorLink(VirtualClock()).ensure()


# ---- what a program leaves behind


async def test_what_a_program_began_that_was_killed_before_it_told_of_it_is_ended(bench: Bench) -> None:
    script = f"sleep {bench.marker} & echo $! > pid; until grep -q sleep /proc/$!/comm; do :; done; kill -9 $$"
    assert await bench.run(bench.command("sh", "-c", script, leaves=True)) == (137, None)
    assert await settled(lambda: processes(bench.marker) == [])
    assert not bench.pid_file.exists()


@pytest.mark.parametrize("code", [0, 3])
async def test_a_process_that_is_not_of_the_program_is_neither_ended_nor_waited_for(bench: Bench, code: int) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "1000")
    running = bench.run(bench.command("sh", "-c", f"echo {stranger.pid} > pid; exit {code}", leaves=True))
    if code:
        assert await running == (code, None)
    else:
        with pytest.raises(MonitorFailure, match=r"it has left no process: .*No child processes"):
            await running
    assert await bench.run(bench.command("true")) == (0, None)
    assert not bench.pid_file.exists()
    assert stranger.returncode is None
    stranger.terminate()
    assert await stranger.wait() == -signal.SIGTERM


@pytest.mark.parametrize("ends", [False, True])
async def test_the_group_of_a_process_that_was_left_ends_with_it_where_it_is_to(bench: Bench, ends: bool) -> None:
    group = f"sleep {bench.marker} & echo $! > other; echo $$ > pid; exec sleep {bench.marker}"
    script = f"setsid sh -c '{group}' & until test -s pid; do sleep 0.01; done"
    command = replace(bench.command("sh", "-c", script, leaves=True), ends_group=ends)
    code, process = await bench.run(command)
    assert code == 0 and process is not None
    await until(lambda: len(processes(bench.marker)) == 2)
    signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
    assert await watch_end(process) == Ended(137, 9)
    other = int((bench.folder / "other").read_text())
    if not ends:
        assert processes(bench.marker) == [other]
        os.kill(other, signal.SIGKILL)
    assert await settled(lambda: processes(bench.marker) == [])


# ---- what a program runs itself


async def test_a_program_that_is_cut_ends_with_all_that_it_runs(bench: Bench) -> None:
    running = bench.run(bench.command("sh", "-c", f"sleep {bench.marker}; true"))
    await until(lambda: processes(bench.marker) != [])
    await bench.clock.advance(121)
    with pytest.raises(MonitorFailure, match="sh has not ended"):
        await running
    assert await settled(lambda: processes(bench.marker) == [] and bench.link.idle)


async def test_a_monitor_whose_runtime_has_gone_ends_programs_with_all_that_they_run(bench: Bench) -> None:
    running = bench.run(bench.command("sh", "-c", f"sleep {bench.marker}; true"))
    await until(lambda: processes(bench.marker) != [])
    await bench.link.close()
    with pytest.raises(MonitorFailure, match="has ended"):
        await running
    assert await settled(lambda: processes(bench.marker) == [])


async def test_programs_that_run_when_the_node_ends_have_a_moment_and_are_cut_and_others_run_on(bench: Bench) -> None:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    hung = bench.run(bench.command("sleep", bench.marker))
    quick = bench.run(bench.command("cat", stdin=reading))
    await until(lambda: processes(bench.marker) != [])
    await until(lambda: len(bench.link._asked) == 2)
    ending = asyncio.create_task(bench.link.cut_short())
    os.close(writing)
    assert await quick == (0, None)
    assert not ending.done()
    await bench.clock.advance(1)
    await ending
    assert await hung == (137, None)
    assert await bench.run(bench.command("true")) == (0, None)
    os.close(reading)
