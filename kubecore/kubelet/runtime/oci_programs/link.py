"""The runtime's side of the connection to its monitor."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kubecore.clock import Clock
from kubecore.kubelet import own_process
from kubecore.kubelet.keeper.channel import Channel
from kubecore.kubelet.runtime.launching import Process, Step
from kubecore.kubelet.runtime.oci_programs.orders import Cut, Order, Report
from kubecore.kubelet.runtime.processes import close_all

_MODULE = "kubecore.kubelet.runtime.oci_programs.monitor"
_AT_ONCE = 8
"""Programs of a kind that run at the same time; more only get in each other's way."""

_LONGEST_SECONDS = 120.0
"""Of a program (upstream's runtimeRequestTimeout)."""
_LAST_SECONDS = 10.0
"""Of one that nobody waits for any more. Many times what it needs, as one that is cut may leave what nobody knows of;
and short beside a probe's period: those of a container where none ends are not to take all turns from others."""

_MOMENT_SECONDS = 0.5
"""Of one that runs when the node ends, which is not to take longer than a few seconds."""


_GONE = "the monitor of containers has ended"


class MonitorFailure(Exception):
    """A program could not be run, or has not done what it was to do. The text is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run, in its `directory`. `stdio`: copies are taken; -1 is the null device. `pid_file`, `ends_group`:
    see `orders.Order`. `log`: a file that it writes for whoever waits for it, and which goes with it otherwise.

    `inside`: it starts a command in a container that runs. These have turns of their own, as their time passes while
    they wait for one, and many containers may be starting."""

    arguments: Sequence[str]
    directory: Path
    stdio: tuple[int, int, int]
    join: Sequence[tuple[int, int]] = ()
    namespaces: int = 0
    steps: Sequence[Step] = ()
    pid_file: Path | None = None
    ends_group: bool = False
    log: Path | None = None
    inside: bool = False


_Answer = tuple[Report, Process | None]


@dataclass
class _Asked:
    """`told`: of the process that it leaves behind, where it is to; it is part of the answer. `given_up`: is done when
    nobody waits for it any more."""

    number: int
    answer: asyncio.Future[_Answer]
    given_up: asyncio.Future[None]
    told: int


@dataclass
class MonitorLink:
    """Shared by all runtimes of a process that need one. The monitor is started with the first program."""

    clock: Clock
    _channel: Channel | None = None
    _process: subprocess.Popen[bytes] | None = None
    _asked: dict[int, _Asked] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _closed: bool = False
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _turns_inside: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    @property
    def pid(self) -> int:
        """Of the monitor, -1 where none runs."""
        return self._process.pid if self._process is not None and self._channel is not None else -1

    @property
    def idle(self) -> bool:
        """No program runs."""
        return not self._asked

    async def run(self, command: Command) -> tuple[int, Process | None]:
        """Its exit code, and the process that it left behind, if it was to. Raises MonitorFailure.

        Of one whose caller is cancelled nothing stays: it has a few seconds to end, and what it leaves is killed."""
        turns = self._turns_inside if command.inside else self._turns
        await turns.acquire()
        try:
            channel = await self.ensure()
            asked = self._send(channel, command)
        except BaseException:
            turns.release()
            raise
        name = Path(command.arguments[0]).name
        work = asyncio.create_task(self._until_ended(channel, asked, name), name=f"turn of {name}")
        work.add_done_callback(lambda _: turns.release())
        try:
            report, process = await asyncio.shield(work)
        except asyncio.CancelledError:
            asked.given_up.set_result(None)
            work.add_done_callback(lambda answer: _abandon(answer, command.log))
            raise
        if report.failure:
            raise MonitorFailure(report.failure)
        return report.code, process

    async def _until_ended(self, channel: Channel, asked: _Asked, name: str) -> _Answer:
        """Its answer; it is cut once its time is over. Raises MonitorFailure."""
        try:
            async with self.clock.outside(_LONGEST_SECONDS):
                await asyncio.wait((asked.answer, asked.given_up), return_when=asyncio.FIRST_COMPLETED)
                async with self.clock.outside(_LAST_SECONDS):
                    return await asyncio.shield(asked.answer)
        except (TimeoutError, asyncio.CancelledError) as error:
            asked.answer.add_done_callback(_abandon)
            channel.send(msgspec.msgpack.encode(Cut(asked.number)))
            if isinstance(error, asyncio.CancelledError):
                raise
            raise MonitorFailure(f"{name} has not ended within {_LONGEST_SECONDS:.0f} seconds") from error

    async def ensure(self) -> Channel:
        """Start it, unless it runs, or is not to any more. Raises MonitorFailure."""
        async with self._starting:
            if self._closed:
                raise MonitorFailure(_GONE)
            if self._channel is None:
                await self._reap()
                try:
                    self._channel = await self._started()
                except OSError as error:
                    raise MonitorFailure(f"failed to start the monitor of containers: {error}") from error
            return self._channel

    async def _started(self) -> Channel:
        """Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.to_thread(_start, theirs)
        except BaseException:
            ours.close()  # whatever has been started meanwhile ends with it
            raise
        return Channel(ours, self._received, self._disconnected)

    async def cut_short(self) -> None:
        """The programs that run now have a moment to end, and are cut. Further ones may follow, which clean up."""
        asked = list(self._asked.values())
        if not asked:
            return
        with suppress(TimeoutError):
            async with self.clock.outside(_MOMENT_SECONDS):
                await asyncio.wait([one.answer for one in asked])
        for one in asked:
            if self._channel is not None and not one.answer.done():
                self._channel.send(msgspec.msgpack.encode(Cut(one.number)))

    async def close(self) -> None:
        """It ends, with all that it has run, and is not started any more."""
        self._closed = True
        async with self._starting:
            if self._channel is not None:
                self._channel.close()
            await self._reap()

    async def _reap(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(process.wait)

    def _send(self, channel: Channel, command: Command) -> _Asked:
        """Raises MonitorFailure."""
        number = next(self._numbers)
        try:
            descriptors, told = _descriptors(command)
        except OSError as error:
            raise MonitorFailure(f"failed to run {command.arguments[0]}: {error}") from error
        order = Order(
            number,
            list(command.arguments),
            str(command.directory),
            [kind for _, kind in command.join],
            command.namespaces,
            list(command.steps),
            str(command.pid_file or ""),
            command.ends_group,
        )
        loop = asyncio.get_running_loop()
        asked = self._asked[number] = _Asked(number, loop.create_future(), loop.create_future(), told)
        channel.send(msgspec.msgpack.encode(order), descriptors)
        return asked

    def _received(self, data: bytes, descriptors: list[int]) -> None:
        report = msgspec.msgpack.decode(data, type=Report)
        asked = self._asked.pop(report.number)
        process = Process(report.pid, descriptors[0], asked.told) if descriptors else None
        if process is None:
            close_all(asked.told)
        asked.answer.set_result((report, process))

    def _disconnected(self) -> None:
        self._channel = None
        everything, self._asked = self._asked, {}
        for asked in everything.values():
            close_all(asked.told)
            asked.answer.set_exception(MonitorFailure(_GONE))


def _descriptors(command: Command) -> tuple[list[int], int]:
    """Those that go along with its order, and where is told how the process ends that it leaves, -1 without one. Raises
    OSError."""
    made: list[int] = []
    told = -1
    try:
        for one in (*command.stdio, *(namespace for namespace, _ in command.join)):
            copy = os.dup(one) if one >= 0 else os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            made.append(copy)
        if command.pid_file is not None:
            told, telling = os.pipe2(os.O_CLOEXEC)
            made.append(telling)
    except OSError:
        close_all(*made)
        raise
    return made, told


def _abandon(answer: asyncio.Future[_Answer], log: Path | None = None) -> None:
    """What nobody waits for any more is not to run on, nor to be read."""
    if log is not None:
        with suppress(OSError):
            log.unlink(missing_ok=True)
    if answer.cancelled() or answer.exception() is not None:
        return
    _, process = answer.result()
    if process is not None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
        close_all(process.pidfd, process.told)


def _start(connection: socket.socket) -> subprocess.Popen[bytes]:
    """Closes our copy of `connection`."""
    with connection:
        number = connection.fileno()
        return own_process.start(_MODULE, str(number), keeps=(number,), output=None)
