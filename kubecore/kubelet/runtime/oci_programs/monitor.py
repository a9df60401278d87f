"""The parent of what is run by OCI runtimes: `python -m kubecore.kubelet.runtime.oci_programs.monitor DESCRIPTOR`. The
descriptor is a socket, at the other end of which is the runtime.

Such a program sets a container up, leaves its first process behind, and ends. The kernel gives what is left behind to
the nearest parent that has asked for it: this process, which does nothing else, so that every child of unknown origin
is an orphan of some container. When the runtime has gone, however it went, all of them are killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kubecore.kubelet.keeper.channel import Channel
from kubecore.kubelet.runtime.launching import END, ExecFailure, Launch
from kubecore.kubelet.runtime.oci_programs.orders import Cut, Order, Report
from kubecore.kubelet.runtime.processes import close_all, kill_group
from kubecore.kubelet.runtime.system_calls import checked, libc

log = logging.getLogger("kubecore.kubelet.runtime.monitor")

# prctl(2).
_SET_CHILD_SUBREAPER = 36


@dataclass
class _Command:
    """A program that runs, in a session and so in a process group of its own, with whatever it runs itself."""

    order: Order
    pipe: int


@dataclass
class _Left:
    """A process that has outlived its program."""

    pipe: int
    ends_group: bool


class Monitor:
    """`gone` is set when the runtime has."""

    def __init__(self, connection: socket.socket) -> None:
        self.gone = asyncio.Event()
        self._commands: dict[int, _Command] = {}
        self._left: dict[int, _Left] = {}
        """By pid."""
        self._channel = Channel(connection, self._received, self.gone.set)

    def reap(self) -> None:
        """Whatever has ended. What a program leaves behind is ours before the last of its threads has ended, and can be
        told from an orphan only then."""
        for pid, command in list(self._commands.items()):
            if (status := _status(pid)) is not None:
                del self._commands[pid]
                self._ended(command, os.waitstatus_to_exitcode(status))
        for pid, left in list(self._left.items()):
            if _has_ended(pid):
                if left.ends_group:  # until it is waited for, no other group has its number
                    kill_group(pid)
                del self._left[pid]
                _, status = os.waitpid(pid, 0)
                with suppress(OSError):  # nobody wants to know
                    os.write(left.pipe, END.pack(status))
                os.close(left.pipe)
        while not self._commands and self._reap_orphan():
            pass

    def _reap_orphan(self) -> bool:
        """True if there was one; what else has ended meanwhile is known by its number, and next."""
        with suppress(ChildProcessError):
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None and found.si_pid not in self._left:
                return _status(found.si_pid) is not None
        return False

    async def end_all(self) -> None:
        """Of programs and what they left. Orphans end with their container, or are known by its mark."""
        for pid in self._commands:
            kill_group(pid)
        for pid in self._left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while known := [*self._commands, *self._left]:
            with suppress(ChildProcessError):  # it was reaped meanwhile
                await asyncio.to_thread(os.waitid, os.P_PID, known[0], os.WEXITED | os.WNOWAIT)
            self.reap()

    def _received(self, data: bytes, descriptors: list[int]) -> None:
        order = msgspec.msgpack.decode(data, type=Order | Cut)
        if isinstance(order, Cut):
            self._cut(order.number)
            return
        pipe = descriptors.pop() if order.pid_file else -1
        stdin, stdout, stderr, *joined = descriptors
        launch = Launch(
            arguments=order.arguments,
            environment=dict(os.environ),
            directory=order.directory,
            stdio=(stdin, stdout, stderr),
            join=list(zip(joined, order.join, strict=True)),
            namespaces=order.namespaces,
            steps=order.steps,
        )
        try:
            process = launch.start()
        except (OSError, ExecFailure) as error:
            close_all(pipe)
            text = str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)
            self._report(Report(order.number, 127, failure=text))
        else:
            os.close(process.pidfd)
            self._commands[process.pid] = _Command(order, pipe)
        finally:
            close_all(*descriptors)

    def _cut(self, number: int) -> None:
        for pid, command in self._commands.items():
            if command.order.number == number:
                kill_group(pid)

    def _ended(self, command: _Command, code: int) -> None:
        number = command.order.number
        code = code if code >= 0 else 128 - code
        if command.pipe < 0:
            self._report(Report(number, code))
            return
        file = Path(command.order.pid_file)
        if code != 0:
            with suppress(OSError, ValueError):
                _end(_child_of(file), group=command.order.ends_group)  # it may be that nobody else knows of it
            close_all(command.pipe)
            self._report(Report(number, code))
            return
        try:
            pid = _child_of(file)
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError) as error:
            close_all(command.pipe)
            self._report(Report(number, code, failure=f"it has left no process: {error}"))
            return
        self._left[pid] = _Left(command.pipe, command.order.ends_group)
        self._report(Report(number, code, pid), pidfd)

    def _report(self, report: Report, *descriptors: int) -> None:
        self._channel.send(msgspec.msgpack.encode(report), descriptors)


def _status(pid: int) -> int | None:
    """Of a child that has ended, as wait(2) has it."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return status if found else None


def _has_ended(child: int) -> bool:
    """It is to be waited for still."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _child_of(pid_file: Path) -> int:
    """What a program that has ended left behind, as its file says, which goes. Raises OSError, ValueError, also for the
    pid of what is no child of ours."""
    try:
        pid = int(pid_file.read_text())
    finally:
        pid_file.unlink(missing_ok=True)
    _has_ended(pid)
    return pid


def _end(child: int, *, group: bool) -> None:
    os.kill(child, signal.SIGKILL)
    if group:
        kill_group(child)


async def _work(descriptor: int) -> None:
    os.set_inheritable(descriptor, False)
    monitor = Monitor(socket.socket(fileno=descriptor))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, monitor.reap)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, monitor.gone.set)
    await monitor.gone.wait()
    await monitor.end_all()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    checked(libc.prctl(_SET_CHILD_SUBREAPER, *(ctypes.c_ulong(one) for one in (1, 0, 0, 0))), "prctl")
    os.chdir("/")  # whatever folder it was started in may be removed
    asyncio.run(_work(int(sys.argv[1])))


if __name__ == "__main__":
    main()
