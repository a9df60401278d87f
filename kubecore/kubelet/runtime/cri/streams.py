"""Exec and attach: a client's descriptors joined to the streams of a container runtime's streaming server."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import struct
import termios
import tty
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kubecore.clock import Clock
from kubecore.kubelet.runtime.cri.spdy import SpdyConnection, SpdyStream
from kubecore.kubelet.runtime.processes import Ended, close_all, open_terminal
from kubecore.kubelet.runtime.streams import ClientStreams, StreamedProcess, StreamsWanted, open_streams
from kubecore.kubelet.runtime.taps import Tap

_CHUNK = 32 * 1024
# A terminal's size is changed through its master by whoever serves the client; no descriptor tells the slave's side.
_SIZE_SECONDS = 0.2


@dataclass
class _Session:
    """Of one client."""

    connection: SpdyConnection
    clock: Clock
    ended: asyncio.Future[Ended]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    taps: dict[str, Tap] = field(default_factory=dict)
    outcome: bytearray = field(default_factory=bytearray)
    over: bool = False

    def tap(self, name: str, descriptor: int) -> None:
        self.taps[name] = Tap(descriptor, on_room=self._room, on_closed=self._settle)

    def output(self, name: str, data: bytes) -> None:
        self.taps[name].write(data)
        if any(one.full for one in self.taps.values()):
            self.connection.pause()

    def _room(self) -> None:
        if not any(one.full for one in self.taps.values()):
            self.connection.resume()

    async def run(self) -> None:
        try:
            await self.connection.run()
        finally:
            self.over = True
            self.connection.close()
            for task in self.tasks:
                task.cancel()
            for tap in self.taps.values():
                tap.finish()
            self._settle()

    def _settle(self) -> None:
        """The last output must be on its way before the end is told."""
        self._room()
        if self.over and not any(one.open for one in self.taps.values()) and not self.ended.done():
            self.ended.set_result(_ended(bytes(self.outcome)))

    def leave(self) -> None:
        """The client has gone."""
        for tap in self.taps.values():
            tap.close()
        self.connection.close()

    async def feed(self, stream: SpdyStream, descriptor: int) -> None:
        """What the client says, to its end. Takes over the descriptor."""
        try:
            while data := await _read(descriptor):
                await self.connection.send(stream, data)
            self.connection.finish(stream)
        except OSError:
            """The other side has closed, and the session ends with it."""
        finally:
            os.close(descriptor)

    async def tell_sizes(self, stream: SpdyStream, terminal: int) -> None:
        told = b""
        try:
            while True:
                size = fcntl.ioctl(terminal, termios.TIOCGWINSZ, b"\0" * 8)
                rows, columns, _, _ = struct.unpack("HHHH", size)
                if size != told and rows and columns:
                    told = size
                    await self.connection.send(stream, json.dumps({"Width": columns, "Height": rows}).encode())
                await self.clock.sleep(_SIZE_SECONDS)
        except OSError:
            """The terminal is hung up, or the other side has closed."""
        finally:
            os.close(terminal)


def _ended(outcome: bytes) -> Ended:
    """By the Status that the error stream carries; nothing of one is that of a connection that broke."""
    told: Any
    try:
        told = json.loads(outcome) if outcome else {"message": "the container runtime has ended the connection"}
    except ValueError:
        told = {"message": outcome.decode("utf-8", "replace")}
    if told.get("status") == "Success":
        return Ended(0, 0)
    for cause in (told.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode" and cause.get("message", "").isdigit():
            return Ended(int(cause["message"]), 0)
    return Ended(255, 0, told.get("message") or "no reason was given")


async def stream(url: str, wanted: StreamsWanted, clock: Clock) -> StreamedProcess:
    """Raises SpdyError, OSError."""
    connection = await SpdyConnection.open(url)
    ours, theirs = _ends(wanted)
    loop = asyncio.get_running_loop()
    session = _Session(connection, clock, loop.create_future())
    error = connection.open_stream({"streamtype": "error"}, on_data=session.outcome.extend)
    connection.finish(error)
    if wanted.stdin:
        source = os.dup(theirs[0])
        os.set_blocking(source, False)
        feeding = session.feed(connection.open_stream({"streamtype": "stdin"}), source)
        session.tasks.append(asyncio.create_task(feeding, name="cri stdin"))
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(wanted, name) and not (wanted.tty and name == "stderr"):
            session.tap(name, os.dup(theirs[number]))
            connection.open_stream(
                {"streamtype": name},
                on_data=partial(session.output, name),
                on_end=session.taps[name].finish,
            )
    if wanted.tty:
        sizes = session.tell_sizes(connection.open_stream({"streamtype": "resize"}), os.dup(theirs[1]))
        session.tasks.append(asyncio.create_task(sizes, name="cri terminal"))
    close_all(*theirs)
    running = asyncio.create_task(session.run(), name="cri streams")
    session.ended.add_done_callback(lambda _: running.done())  # whoever waits for the end keeps the session
    return StreamedProcess(ours, session.ended, session.leave)


def _ends(wanted: StreamsWanted) -> tuple[ClientStreams, tuple[int, int, int]]:
    """As for a process of ours, but that the terminal is but a way for bytes: the container has the real one."""
    if not wanted.tty:
        return open_streams(wanted)
    master, slave = open_terminal(None)
    tty.setraw(slave)
    ours = ClientStreams(stdout=master, terminal=os.dup(master))
    if wanted.stdin:
        ours.stdin = os.dup(master)
    return ours, (slave, slave, slave)


async def _read(descriptor: int) -> bytes:
    """A chunk; empty at the end, for a terminal when nobody has its other side any more."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(descriptor, _CHUNK)
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_reader(descriptor, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(descriptor)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""
