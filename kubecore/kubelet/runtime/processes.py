"""Running children: their end through a pidfd, their output through pipes, both pushed by the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kubecore.kubelet import proc_files
from kubecore.kubelet.runtime.launching import END, Process
from kubecore.kubelet.runtime.taps import Tap

_CHUNK = 256 * 1024
_PIPE_BYTES = 1024 * 1024
# What is left in a pipe at the end; more can only come from a process that outlived its container's.
_LAST_CHUNKS = 64
_KEPT_BYTES = 64 * 1024
# ioctl_tty(2): TIOCSPTLCK, and TIOCGPTPEER, which needs no path that we would see.
_UNLOCK, _OPEN_PEER = 0x40045431, 0x5441
# proc(5), flags of a process: PF_EXITING.
_EXITING = 0x4


@dataclass(frozen=True, slots=True)
class Ended:
    """`exit_code` is 128 + signal when a signal ended the process. `failure`: why it could not be run, where only the
    end tells."""

    exit_code: int
    signal: int
    failure: str = ""


@dataclass
class Output:
    """Our ends of a child's streams. stdin is /dev/null when we have none of it; a terminal has no stderr."""

    stdout: int
    stderr: int
    child_ends: tuple[int, int, int]
    stdin: int = -1

    @classmethod
    def pipes(cls) -> Output:
        null = above_standard(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        out_read, out_write = _pipe()
        err_read, err_write = _pipe()
        return cls(out_read, err_read, (null, out_write, err_write))

    @classmethod
    def with_stdin(cls) -> Output:
        output = cls.pipes()
        reader, writer = (above_standard(end) for end in os.pipe2(os.O_CLOEXEC))
        null, *others = output.child_ends
        os.close(null)
        output.child_ends = (reader, others[0], others[1])
        output.stdin = writer
        return output

    @classmethod
    def terminal(cls, *, stdin: bool, owner: int | None) -> Output:
        """`owner`: the terminal's user, if not ours."""
        master, slave = open_terminal(owner)
        os.set_blocking(master, False)
        return cls(master, -1, (slave, slave, slave), os.dup(master) if stdin else -1)

    def close_child_ends(self) -> None:
        close_all(*self.child_ends)
        self.child_ends = (-1, -1, -1)

    def close(self) -> None:
        """All ends, after a launch that failed."""
        self.close_child_ends()
        close_all(self.stdin, self.stdout, self.stderr)


def close_all(*descriptors: int) -> None:
    """Each once, though it be there several times; negative ones stand for none."""
    for descriptor in set(descriptors):
        if descriptor >= 0:
            os.close(descriptor)


def open_terminal(owner: int | None, *, inside: int | None = None) -> tuple[int, int]:
    """Master and slave; `owner` is the slave's user, if not ours. `inside`: the pid of a process whose /dev/pts the
    terminal is to have its name in, where there is one: programs ask for it (tty, tmux)."""
    ends = None if inside is None else _terminal_of(f"/proc/{inside}/root/dev/pts/ptmx")
    master, slave = (above_standard(end) for end in ends or os.openpty())
    if owner is not None:
        with contextlib.suppress(OSError):
            os.fchown(slave, owner, -1)
    return master, slave


def give_pipes(descriptors: Iterable[int], owner: int) -> None:
    """Those among them are the user's who has them as standard streams: he may open them by name (/dev/stdout), too, as
    runc sees to it."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.fchown(descriptor, owner, -1)


def _terminal_of(multiplexer: str) -> tuple[int, int] | None:
    """Of the devpts that holds `multiplexer`; None where there is none, or it may not be opened."""
    try:
        master = os.open(multiplexer, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.ioctl(master, _UNLOCK, b"\0\0\0\0")
        return master, fcntl.ioctl(master, _OPEN_PEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        os.close(master)
        return None


def above_standard(descriptor: int) -> int:
    """The launcher needs its descriptors out of the way of 0, 1 and 2."""
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _pipe() -> tuple[int, int]:
    reader, writer = (above_standard(end) for end in os.pipe2(os.O_CLOEXEC))
    os.set_blocking(reader, False)
    with contextlib.suppress(OSError):  # over the user's limit for pipes: the default size will do
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return reader, writer


class Running:
    """A container's process. `on_end` is called once, after all its output has been handed over."""

    def __init__(
        self,
        process: Process,
        output: Output,
        *,
        on_output: Callable[[str, bytes], None],
        on_end: Callable[[Ended], None],
        clean_up: Callable[[int], object] | None = None,
        awaits_client: bool = False,
    ) -> None:
        """`clean_up`: called with the process's pid when it has ended and its number cannot be another's yet. Needed
        where it is no pid namespace's first, so that what it leaves behind must be ended by us. `awaits_client`: what
        it says before the first one comes is kept for that, as far as it is not too much."""
        self.pid = process.pid
        self.pidfd = process.pidfd
        self._process = process
        self._on_output = on_output
        self._on_end = on_end
        self._clean_up = clean_up
        self._loop = asyncio.get_running_loop()
        self.stdin = output.stdin
        self._pipes = {"stdout": output.stdout}
        if output.stderr >= 0:
            self._pipes["stderr"] = output.stderr
        self._taps: dict[str, list[Tap]] = {stream: [] for stream in self._pipes}
        self._kept = {stream: bytearray() for stream in self._pipes} if awaits_client else {}
        for stream in self._pipes:
            self._resume(stream)
        self._loop.add_reader(process.end, self._exited)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    # ---- clients

    def terminal(self) -> int:
        """A further descriptor of the terminal's master side, -1 when the process has left it."""
        return os.dup(self._pipes["stdout"]) if "stdout" in self._pipes else -1

    def take_stdin(self) -> int:
        """Our end of stdin, which is the caller's to close from now on."""
        taken, self.stdin = self.stdin, -1
        return taken

    def tap(self, stream: str, on_closed: Callable[[], None], *, kept: bool) -> tuple[Tap, int]:
        """A copy of what comes from now on, after what was `kept` for the first client, and the descriptor it can be
        read from. While it is not read, the container has to wait. `on_closed` is called when all has been written
        after the end, or nobody reads any more."""
        reader, writer = (above_standard(end) for end in os.pipe2(os.O_CLOEXEC))
        taps = self._taps.setdefault(stream, [])

        def closed() -> None:
            taps.remove(tap)
            self._resume(stream)
            on_closed()

        tap = Tap(writer, on_room=lambda: self._resume(stream), on_closed=closed)
        taps.append(tap)
        said = self._kept.pop(stream, None)
        if said and kept:
            tap.write(bytes(said))
            self._wait_for(stream)
        return tap, reader

    def _resume(self, stream: str) -> None:
        """Reads on, unless a client is too slow."""
        descriptor = self._pipes.get(stream, -1)
        if descriptor >= 0 and not any(tap.full for tap in self._taps[stream]):
            self._loop.add_reader(descriptor, self._readable, stream, descriptor)

    def _handed_over(self, stream: str, data: bytes) -> None:
        self._on_output(stream, data)
        if (kept := self._kept.get(stream)) is not None:
            kept += data
            del kept[:-_KEPT_BYTES]
        for tap in list(self._taps[stream]):
            tap.write(data)
        self._wait_for(stream)

    def _wait_for(self, stream: str) -> None:
        """For clients that are too slow."""
        if stream in self._pipes and any(tap.full for tap in self._taps[stream]):
            self._loop.remove_reader(self._pipes[stream])

    # ---- output

    def _readable(self, stream: str, descriptor: int) -> None:
        if not self._read(stream, descriptor):
            self._close_pipe(stream)

    def _read(self, stream: str, descriptor: int) -> bool:
        """Hand one chunk over; False at the end of the pipe."""
        try:
            data = _read(descriptor)
        except BlockingIOError:
            return True
        if data:
            self._handed_over(stream, data)
        return bool(data)

    def _close_pipe(self, stream: str) -> None:
        descriptor = self._pipes.pop(stream)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)

    def _exited(self) -> None:
        self._loop.remove_reader(self._process.end)
        if self._clean_up is not None:
            self._clean_up(self.pid)
        ended = reap(self._process)
        self.pidfd = -1
        for stream in list(self._pipes):
            self._drain(stream)
            self._close_pipe(stream)
        close_all(self.take_stdin())
        for tap in [tap for taps in self._taps.values() for tap in taps]:
            tap.finish()
        self._on_end(ended)

    def _drain(self, stream: str) -> None:
        descriptor = self._pipes[stream]
        for _ in range(_LAST_CHUNKS):
            try:
                data = _read(descriptor)
            except BlockingIOError:
                return
            if not data:
                return
            self._handed_over(stream, data)


def _read(descriptor: int) -> bytes:
    """One chunk, empty at the end: for a terminal, when nobody has it open any more."""
    try:
        return os.read(descriptor, _CHUNK)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def is_ending(pid: int) -> bool:
    """Of a child that was not reaped: it has ended, or waits for the ends of those that end with it."""
    try:
        fields = proc_files.stat_fields(Path(f"/proc/{pid}"))
    except OSError:
        return True
    return bool(int(fields[6]) & _EXITING)


def reap(process: Process) -> Ended:
    """How it ended, which it must have. Closes its descriptors."""
    try:
        return _ended_as_told(process) if process.told >= 0 else _ended_child(process.pidfd)
    finally:
        close_all(process.pidfd, process.told)


def _ended_child(pidfd: int) -> Ended:
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if result is None:
        return Ended(255, 0)
    if result.si_code == os.CLD_EXITED:
        return Ended(result.si_status, 0)
    return Ended(128 + result.si_status, result.si_status)


def _ended_as_told(process: Process) -> Ended:
    """A parent that has ended itself tells nothing, and its children are to end with it."""
    told = os.read(process.told, END.size)
    if len(told) < END.size:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
        return Ended(137, 9)
    code = os.waitstatus_to_exitcode(*END.unpack(told))
    return Ended(code, 0) if code >= 0 else Ended(128 - code, -code)


async def collect(process: Process, output: Output, *, limit: int) -> tuple[bytes, bytes, Ended]:
    """Wait for a command and its output, at most `limit` bytes of each stream. Whoever is cancelled has it killed."""
    gathered = {"stdout": bytearray(), "stderr": bytearray()}
    done: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    def take(stream: str, data: bytes) -> None:
        buffer = gathered[stream]
        buffer += data[: limit - len(buffer)]

    def end(ended: Ended) -> None:
        if not done.done():
            done.set_result(ended)

    # The number of one that is told of is another's already: its parent has seen to its group.
    clean_up = None if process.told >= 0 else kill_group
    running = Running(process, output, on_output=take, on_end=end, clean_up=clean_up)
    try:
        ended = await asyncio.shield(done)
    except asyncio.CancelledError:
        running.kill()
        raise
    return bytes(gathered["stdout"]), bytes(gathered["stderr"]), ended
