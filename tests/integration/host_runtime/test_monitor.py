"""The monitor of what OCI runtimes run, and the runtime's side of it, with programs of this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubecore.clock import VirtualClock
from kubecore.kubelet.runtime.launching import Process
from kubecore.kubelet.runtime.oci_programs.link import Command, MonitorFailure, MonitorLink
from tests.integration.host_runtime.conftest import processes, settled, until


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
    marker = f"7{os.getpid()}"
    bench = Bench(clock, MonitorLink(clock), tmp_path, marker, os.open(os.devnull, os.O_RDWR))
    await bench.link.ensure()
    yield bench
    await bench.link.close()
    os.close(bench.null)
    assert await settled(lambda: processes(marker) == [])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_program_that_does_not_end_is_cut_and_takes_no_turn_for_ever(bench: Bench) -> None:
    running = bench.run(bench.command("sleep", bench.marker))
    await until(lambda: processes(bench.marker) != [])
    await bench.clock.advance(121)
    with pytest.raises(MonitorFailure, match="sleep has not ended within 120 seconds"):
        await running
    assert await settled(lambda: processes(bench.marker) == [] and bench.link.idle)


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_program_that_nobody_waits_for_any_more_is_cut_after_its_time_and_keeps_nothing(
    bench: Bench, leaves: bool
) -> None:
    before = descriptors()
    running = bench.run(bench.command("sleep", bench.marker, leaves=leaves))
    await until(lambda: processes(bench.marker) != [])
    running.cancel()
    await asyncio.wait([running])
    await bench.clock.advance(119)
    assert processes(bench.marker) != []
    await bench.clock.advance(2)
    assert await settled(lambda: processes(bench.marker) == [] and bench.link.idle)
    assert descriptors() == before


async def test_a_program_has_its_turn_until_it_ends_though_nobody_waits_for_it(bench: Bench) -> None:
    hung = [bench.run(bench.command("sleep", bench.marker)) for _ in range(8)]
    await until(lambda: len(processes(bench.marker)) == 8)
    for one in hung:
        one.cancel()
    await asyncio.wait(hung)
    further = bench.run(bench.command("true"))
    await bench.clock.advance(119)
    assert not further.done()
    await bench.clock.advance(2)
    assert await further == (0, None)


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
