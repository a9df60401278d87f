"""The kubelet's side of the connection to its keeper: finds it, starts it, asks it, and hears from it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kubecore.clock import Clock
from kubecore.kubelet import own_process
from kubecore.kubelet.keeper import messages, place
from kubecore.kubelet.keeper.channel import Channel
from kubecore.kubelet.keeper.differences import differences
from kubecore.kubelet.keeper.messages import Call, Failure, Holdings, KeeperSettings, Said
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.runtime.interface import ContainerStatus, RuntimeFailure
from kubecore.kubelet.runtime.processes import Ended, close_all

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 4.0
"""More than pods get at a kubelet's end, and less than a kubelet gets for its own."""
_CREDENTIALS = struct.Struct("=iII")
_MODULE = "kubecore.kubelet.keeper.process"
_GONE = "the keeper of this node's containers has ended"


class _Waiting(NamedTuple):
    """For the answer to a call; cancelled, it stays until that comes, or the keeper goes."""

    answer: asyncio.Future[Any]
    runtime: str
    method: str


class KeeperLink:
    """One for a node, shared by its runtimes. `settings` may still be changed before the keeper is started.

    `listeners`, by the runtime's name: called with a container's new status, and whether it has ended just now.
    `on_lost`: called when the keeper has ended, and with it all its containers.
    """

    def __init__(
        self, settings: KeeperSettings, book: LogBook, clock: Clock, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """`patience_seconds`: what a keeper that is to end gets for it."""
        self._clock = clock
        self._patience_seconds = patience_seconds
        self.settings = settings
        self.listeners: dict[str, Callable[[ContainerStatus, bool], None]] = {}
        self.on_lost: list[Callable[[], None]] = []
        self._book = book
        self._channel: Channel | None = None
        self.pid = -1
        """Of the keeper that it is or was connected to."""
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._streams: dict[int, asyncio.Future[Ended]] = {}
        self._closed = asyncio.Event()
        self._ending = False
        self._heard = False
        self.trouble = ""
        """Why the last one did not come up, "" if it did or none has been started."""
        self.changed = ""
        """In what the node is not what a former one was made for, which has ended for that; "" if that was not so."""

    @property
    def connected(self) -> bool:
        return self._channel is not None

    # ---- finding and starting

    async def find(self) -> Holdings | None:
        """Take over what the keeper of a former kubelet has. None where there is none; one that was made otherwise than
        `settings` say ends first, with its pods."""
        connection = place.connect(self.settings.root)
        if connection is None:
            return None
        self._connect(connection)
        try:
            holdings: Holdings = await self.call("", "take over", self.settings.lonely_seconds)
        except (RuntimeFailure, ValueError) as error:
            log.warning("the keeper does not understand this kubelet: %s", error)
            await self.end()
            return None
        if changed := differences(holdings.settings, self.settings):
            self.changed = changed
            log.warning("the node is not what it was when its pods were started: they end (%s)", changed)
            await self.end()
            return None
        made = holdings.settings
        self.settings = replace(self.settings, places=made.places, watches_memory=made.watches_memory)
        return holdings

    async def ensure(self) -> None:
        """Start it, unless it runs. Raises RuntimeFailure."""
        async with self._starting:
            if self.connected:
                return
            await self._reap()
            ours, theirs = socket.socketpair()
            try:
                self._process = await asyncio.to_thread(_start, self.settings, theirs)
            except OSError as error:
                text = f"failed to start the keeper of containers: {error.filename or sys.executable}: {error.strerror}"
                self.trouble = text
                raise RuntimeFailure("FailedCreatePodSandBox", text) from error
            finally:
                if self._process is None:
                    ours.close()
            self._connect(ours)

    async def try_again(self) -> None:
        """See whether a keeper that did not come up does now."""
        with suppress(RuntimeFailure):
            await self.ensure()
            await self.call("", "take over", self.settings.lonely_seconds)

    def _connect(self, connection: socket.socket) -> None:
        self._closed.clear()
        self._heard = False
        if self._process is None:
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            self.pid = _CREDENTIALS.unpack(peer)[0]
        else:
            self.pid = self._process.pid
        self._channel = Channel(connection, self._received, self._disconnected)
        if self._followed not in self._book.on_followed:
            self._book.on_followed.append(self._followed)

    # ---- asking

    async def call(self, runtime: str, method: str, *arguments: Any) -> Any:
        """Its answer; (answer, descriptors) of a method that is answered so. Raises RuntimeFailure, TimeoutError."""
        channel = self._channel
        if channel is None:
            raise RuntimeFailure("NotFound", _GONE)
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[number] = _Waiting(answer, runtime, method)
        self._send(channel, number, runtime, method, arguments)
        try:
            return await answer
        except asyncio.CancelledError:
            self.tell("cancel", number)
            if not answer.cancelled() and answer.exception() is None:
                self._unwanted(waiting, answer.result())
            raise

    def _unwanted(self, waiting: _Waiting, made: Any) -> None:
        """It has come to be before the keeper heard that nobody waits for it: nobody else would remove a sandbox."""
        if waiting.method == "run_pod_sandbox" and self._channel is not None:
            self._send(self._channel, next(self._numbers), waiting.runtime, "remove_pod_sandbox", (made.id,))

    def tell(self, method: str, *arguments: Any) -> None:
        """Ask the keeper itself for something and wait for no answer."""
        if self._channel is not None:
            self._send(self._channel, next(self._numbers), "", method, arguments)

    @staticmethod
    def _send(channel: Channel, number: int, runtime: str, method: str, arguments: Sequence[Any]) -> None:
        channel.send(messages.encode(Call(number, runtime, method, messages.raw(tuple(arguments)))))

    def ended(self, stream: int) -> asyncio.Future[Ended]:
        """When the process with these streams has."""
        return self._streams.setdefault(stream, asyncio.get_running_loop().create_future())

    async def end(self) -> None:
        """The keeper ends, with all that it keeps; returns when nothing is left of it."""
        if self._channel is not None:
            self._ending = True
            self.tell("end")
            try:
                async with self._clock.timeout(self._patience_seconds):
                    await self._closed.wait()
            except TimeoutError:
                log.error("the keeper of containers does not end: it is killed, and they with it")
                os.kill(self.pid, signal.SIGKILL)
                await self._closed.wait()
            self._ending = False
        await self._reap()

    async def leave(self) -> None:
        """Go, and leave it running."""
        if self._channel is not None:
            self._ending = True
            self._channel.close()

    async def _reap(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(process.wait)

    # ---- hearing

    def _received(self, data: bytes, descriptors: list[int]) -> None:
        said: Said = messages.decode(data, Said)
        self._heard, self.trouble = True, ""
        if said.kind in ("answer", "failure"):
            self._answered(said, descriptors)
            return
        close_all(*descriptors)
        if said.kind == "stream ended":
            ended = self.ended(said.number)
            self._streams.pop(said.number)
            if not ended.done():
                ended.set_result(messages.decode(said.value, Ended))
        elif said.kind == "wrote":
            self._book.wrote(messages.decode(said.value, Path))
        elif said.runtime in self.listeners:
            status = messages.decode(said.value, ContainerStatus)
            self.listeners[said.runtime](status, said.kind == "ended")

    def _answered(self, said: Said, descriptors: list[int]) -> None:
        waiting = self._waiting.pop(said.number, None)
        if waiting is None:
            close_all(*descriptors)
            return
        answer, method = waiting.answer, messages.method(waiting.runtime, waiting.method)
        if answer.done():
            close_all(*descriptors)
            if said.kind == "answer":
                self._unwanted(waiting, messages.decode(said.value, method.result))
        elif said.kind == "failure":
            failure: Failure = messages.decode(said.value, Failure)
            answer.set_exception(
                RuntimeFailure(failure.reason, failure.message) if failure.reason else TimeoutError(failure.message)
            )
        else:
            value = messages.decode(said.value, method.result)
            answer.set_result((value, descriptors) if method.descriptors else value)

    def _disconnected(self) -> None:
        self._channel = None
        self._closed.set()
        gone = _GONE if self._heard or self._ending else f"{_GONE} at its start: {_last_words(self.settings.root)}"
        for one in self._waiting.values():
            if not one.answer.done():
                one.answer.set_exception(RuntimeFailure("NotFound", gone))
        self._waiting.clear()
        for ended in self._streams.values():
            if not ended.done():
                ended.set_result(Ended(137, 9))
        self._streams.clear()
        if not self._ending:
            self.trouble = "" if self._heard else gone
            log.error("%s", f"{gone}, and they with it" if self._heard else gone)
            for lost in self.on_lost:
                lost()

    def _followed(self, path: Path, followed: bool) -> None:
        self.tell("follow" if followed else "unfollow", path)


def _last_words(root: Path) -> str:
    """What a keeper that did not come up has written last, and where."""
    path = root / place.LOG
    try:
        lines = path.read_text(errors="replace").split("\n")
    except OSError as error:
        return f"{path}: {error.strerror}"
    return f"{next((line for line in reversed(lines) if line.strip()), 'no word')} ({path})"


def _start(settings: KeeperSettings, connection: socket.socket) -> subprocess.Popen[bytes]:
    """Closes our copy of `connection`. Raises OSError."""
    number = connection.fileno()
    told = messages.encode(settings).hex()
    with connection, (settings.root / place.LOG).open("ab") as output:
        keeps = (number, *(settings.node_network or ()))
        return own_process.start(_MODULE, str(number), told, keeps=keeps, output=output)
