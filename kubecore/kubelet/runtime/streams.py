"""Processes whose streams go to a client: pipes or a terminal, and the process's end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from kubecore.kubelet.runtime.launching import Process
from kubecore.kubelet.runtime.processes import Ended, Running, above_standard, close_all, open_terminal, reap
from kubecore.kubelet.runtime.taps import Tap


@dataclass(frozen=True, slots=True)
class StreamsWanted:
    """What a client wants to be connected to. A terminal has no stderr of its own."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


@dataclass
class ClientStreams:
    """Our ends of a process's streams, and its terminal, for whoever serves the client; -1 for one there is not."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    terminal: int = -1

    def take(self) -> tuple[int, int, int, int]:
        """The descriptors, which are the caller's from now on."""
        taken = (self.stdin, self.stdout, self.stderr, self.terminal)
        self.stdin = self.stdout = self.stderr = self.terminal = -1
        return taken

    def close(self) -> None:
        close_all(*self.take())


@dataclass(frozen=True)
class StreamedProcess:
    """`ended` is set when the process has ended and all it wrote is in the streams. `detach` is to be called when the
    client has gone."""

    streams: ClientStreams
    ended: asyncio.Future[Ended]
    detach: Callable[[], None] = field(default=lambda: None)


def open_streams(
    wanted: StreamsWanted, *, owner: int | None = None, inside: int | None = None
) -> tuple[ClientStreams, tuple[int, int, int]]:
    """Our ends and the process's, which are above 2 and close-on-exec. `owner`, `inside`: see `open_terminal`."""
    if wanted.tty:
        return _open_terminal(wanted, owner, inside)
    ours = ClientStreams()
    theirs = [-1, -1, -1]
    try:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            if not getattr(wanted, name):
                theirs[number] = above_standard(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
                continue
            reader, writer = (above_standard(end) for end in os.pipe2(os.O_CLOEXEC))
            theirs[number] = reader if name == "stdin" else writer
            setattr(ours, name, writer if name == "stdin" else reader)
    except OSError:
        ours.close()
        close_all(*theirs)
        raise
    return ours, (theirs[0], theirs[1], theirs[2])


def _open_terminal(
    wanted: StreamsWanted, owner: int | None, inside: int | None
) -> tuple[ClientStreams, tuple[int, int, int]]:
    master, slave = open_terminal(owner, inside=inside)
    ours = ClientStreams(stdout=master, terminal=os.dup(master))
    if wanted.stdin:
        ours.stdin = os.dup(master)
    return ours, (slave, slave, slave)


def watch_end(process: Process, clean_up: Callable[[int], object] | None = None) -> asyncio.Future[Ended]:
    """Reaps the process when it ends. `clean_up` gets its pid while the number is still its own."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Ended] = loop.create_future()

    def exited() -> None:
        loop.remove_reader(process.end)
        if clean_up is not None:
            clean_up(process.pid)
        result = reap(process)
        if not ended.done():
            ended.set_result(result)

    loop.add_reader(process.end, exited)
    return ended


def attach(
    running: Running, ended: asyncio.Future[Ended], wanted: StreamsWanted, *, once: bool, from_start: bool
) -> StreamedProcess:
    """A client joined to a container's process. `once`: with this client's stdin the container's ends as well.
    `from_start`: the first one gets what was said before it came, if that was kept."""
    ours = ClientStreams()
    open_taps: list[Tap] = []
    done: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    def settle() -> None:
        """The last output must be on its way before the end is told."""
        if ended.done() and not any(tap.open for tap in open_taps) and not done.done():
            done.set_result(ended.result())

    if wanted.tty:
        ours.terminal = running.terminal()
    if wanted.stdin and running.stdin >= 0:
        ours.stdin = running.take_stdin() if once else os.dup(running.stdin)
    for stream in ("stdout", "stderr"):
        if getattr(wanted, stream) and not (wanted.tty and stream == "stderr"):
            tap, reader = running.tap(stream, settle, kept=from_start)
            open_taps.append(tap)
            setattr(ours, stream, reader)
    ended.add_done_callback(lambda _: settle())

    def detach() -> None:
        for tap in open_taps:
            tap.close()

    return StreamedProcess(ours, done, detach)
