"""The keeper's side of a connection: carries out what a kubelet asks of its runtimes, and tells it what happens."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kubecore.kubelet.keeper import messages
from kubecore.kubelet.keeper.channel import Channel
from kubecore.kubelet.keeper.messages import Call, Failure, Held, Holdings, KeeperSettings, Said, Streams
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.runtime.host import HostRuntime
from kubecore.kubelet.runtime.interface import ContainerState, ContainerStatus, RuntimeFailure
from kubecore.kubelet.runtime.processes import Ended
from kubecore.kubelet.runtime.streams import StreamedProcess

log = logging.getLogger(__name__)


@dataclass
class Kept:
    """What a keeper has. `settings` as they are in force, `lonely_seconds` as the last kubelet wanted it."""

    settings: KeeperSettings
    runtimes: Mapping[str, HostRuntime]
    book: LogBook
    lonely_seconds: float | None

    @property
    def nothing(self) -> bool:
        return not any(one.list_pod_sandboxes() for one in self.runtimes.values())

    def holdings(self) -> Holdings:
        held = {
            name: Held(list(one.list_pod_sandboxes()), list(one.list_containers()))
            for name, one in self.runtimes.items()
        }
        return Holdings(self.settings, held)


class Service:
    """Of one kubelet, until its connection ends. `end` is called when it wants the keeper to end."""

    def __init__(
        self, connection: socket.socket, kept: Kept, *, on_closed: Callable[[], None], end: Callable[[], None]
    ) -> None:
        self._kept = kept
        self._on_closed = on_closed
        self._end = end
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._passing: set[asyncio.Task[None]] = set()
        self._streams: dict[int, StreamedProcess] = {}
        self._followed: dict[Path, Callable[[], None]] = {}
        self._channel = Channel(connection, self._received, self._closed)

    def close(self) -> None:
        self._channel.close()

    def ended(self, runtime: str, status: ContainerStatus) -> None:
        """A container has; it was told to the runtime's subscribers."""
        self._tell("ended", status, runtime=runtime)

    def changed(self, runtime: str, status: ContainerStatus) -> None:
        """One that runs."""
        self._tell("status", status, runtime=runtime)

    # ---- telling

    def _tell(
        self, kind: str, value: Any, *, number: int = 0, runtime: str = "", descriptors: tuple[int, ...] = ()
    ) -> None:
        self._channel.send(messages.encode(Said(number, kind, runtime, messages.raw(value))), descriptors)

    def _closed(self) -> None:
        """What the kubelet began goes on, but for what only it could want."""
        for end in self._followed.values():
            end()
        self._followed.clear()
        for stream in self._streams.values():
            stream.detach()
        for task in self._passing:
            task.cancel()
        self._on_closed()

    # ---- calls

    def _received(self, data: bytes, descriptors: list[int]) -> None:
        call: Call = messages.decode(data, Call)
        task = asyncio.create_task(self._carry_out(call), name=f"keeper {call.runtime} {call.method}")
        self._tasks[call.number] = task
        if call.method == "exec_sync":
            self._passing.add(task)
        task.add_done_callback(partial(self._done, call.number))

    def _done(self, number: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(number, None)
        self._passing.discard(task)

    async def _carry_out(self, call: Call) -> None:
        try:
            arguments = messages.decode(call.arguments, messages.method(call.runtime, call.method).arguments)
            if call.runtime:
                value, descriptors = await self._runtime_call(call, arguments)
            else:
                value, descriptors = await self._own_call(call.method, arguments), ()
        except RuntimeFailure as error:
            self._tell("failure", Failure(error.reason, error.message), number=call.number)
        except TimeoutError:
            self._tell("failure", Failure("", "timed out"), number=call.number)
        except Exception as error:
            log.exception("%s failed", call.method)
            failure = Failure("RuntimeError", f"{type(error).__name__}: {error}")
            self._tell("failure", failure, number=call.number)
        else:
            self._tell("answer", value, number=call.number, descriptors=descriptors)

    async def _runtime_call(self, call: Call, arguments: tuple[Any, ...]) -> tuple[Any, tuple[int, ...]]:
        runtime = self._kept.runtimes[call.runtime]
        if call.method in ("exec", "attach"):
            return self._stream(call.number, await getattr(runtime, call.method)(*arguments))
        if call.method == "pod_network":
            descriptor, addresses = await runtime.pod_network(*arguments)
            return addresses, (() if descriptor < 0 else (descriptor,))
        if call.method == "create_container":
            return runtime.container_status(await runtime.create_container(*arguments)), ()
        if call.method == "start_container":
            try:
                await runtime.start_container(*arguments)
            except RuntimeFailure:
                self._tell_status(call.runtime, runtime, arguments[0])
                raise
            return runtime.container_status(arguments[0]), ()
        return await getattr(runtime, call.method)(*arguments), ()

    def _tell_status(self, name: str, runtime: HostRuntime, container_id: str) -> None:
        for status in runtime.list_containers():
            if status.id == container_id and status.state is ContainerState.EXITED:
                self._tell("status", status, runtime=name)

    def _stream(self, number: int, process: StreamedProcess) -> tuple[Streams, tuple[int, ...]]:
        self._streams[number] = process

        def ended(future: asyncio.Future[Ended]) -> None:
            self._streams.pop(number, None)
            if not future.cancelled():
                self._tell("stream ended", future.result(), number=number)

        process.ended.add_done_callback(ended)
        taken = process.streams.take()
        stdin, stdout, stderr, terminal = (one >= 0 for one in taken)
        return Streams(number, (stdin, stdout, stderr, terminal)), tuple(one for one in taken if one >= 0)

    async def _own_call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "take over":
            (self._kept.lonely_seconds,) = arguments
            return self._kept.holdings()
        if name == "end":
            self._end()
        elif name == "detach":
            process = self._streams.get(arguments[0])
            if process is not None:
                process.detach()
        elif name == "cancel":
            task = self._tasks.get(arguments[0])
            if task is not None:
                task.cancel()
        else:
            self._follow(arguments[0], wanted=name == "follow")
        return None

    def _follow(self, path: Path, *, wanted: bool) -> None:
        """Whoever begins to follow may have read before we heard of it: it is told once that there is more."""
        end = self._followed.pop(path, None)
        if end is not None:
            end()
        if wanted:
            tell = partial(self._tell, "wrote", path)
            self._followed[path] = self._kept.book.follow(path, tell)
            tell()
