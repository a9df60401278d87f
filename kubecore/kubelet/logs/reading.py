"""Reads containers' logs as `kubectl logs` wants them: tail, since, timestamps, a byte limit, following.

After upstream `staging/src/k8s.io/cri-client/pkg/logs`. Following waits for the writer's notice, never polls.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from kubecore.kubelet.logs.lines import instant, parse, shown
from kubecore.kubelet.logs.writing import LogBook, format_nanoseconds, rotated_files

log = logging.getLogger(__name__)

_BLOCK = 64 * 1024
_TOLD_BYTES = 200
_TRIES = 100
"""How often a log may be rotated while its next file is looked for; the next notice looks again."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`tail`: lines from the end, None for all. `since`: only what was written from then on."""

    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: datetime | None = None
    limit_bytes: int | None = None


class _Formatter:
    """Turns CRI lines into what the user sees; knows when the byte limit is spent."""

    def __init__(self, path: Path, options: LogOptions) -> None:
        self._path = path
        self._timestamps = options.timestamps
        self._since = format_nanoseconds(options.since).encode() if options.since else b""
        self._left = options.limit_bytes
        self._within_a_line = False
        self._told = False
        self.exhausted = self._left == 0

    def format(self, lines: list[bytes]) -> bytes:
        """A line that came in parts has one timestamp. What is no line of a log is left out."""
        out: list[bytes] = []
        for raw in lines:
            try:
                stamp, _, partial, content = parse(raw)
            except ValueError as error:
                self._tell(raw, error)
                continue
            if self._since and instant(stamp) < self._since:
                continue
            if self._timestamps and not self._within_a_line:
                out.append(shown(stamp) + b" ")
            out.append(content if partial else content + b"\n")
            self._within_a_line = partial
        return self._limit(b"".join(out))

    def _tell(self, raw: bytes, error: ValueError) -> None:
        """Of the first one."""
        if not self._told:
            self._told = True
            log.warning("a line of %s is left out, %s: %r", self._path, error, raw[:_TOLD_BYTES])

    def _limit(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        data = data[: self._left]
        self._left -= len(data)
        self.exhausted = self._left <= 0
        return data


async def read_log(path: Path, options: LogOptions, book: LogBook) -> AsyncIterator[bytes]:
    """Pieces of output. Raises FileNotFoundError when there is no such log.

    Following ends when the container has ended and all is read; a rotated log is read to its end, then its successor.
    """
    formatter = _Formatter(path, options)
    grown = asyncio.Event()
    stop_following = book.follow(path, grown.set)
    file: BinaryIO = path.open("rb")
    try:
        if options.tail is not None:
            file.seek(_tail_offset(file, options.tail))
        rest = b""
        while not formatter.exhausted:
            grown.clear()
            still_open = book.is_open(path)
            for lines, remainder in _whole_lines(file, rest):
                rest = remainder
                if piece := formatter.format(lines):
                    yield piece
                if formatter.exhausted:
                    return
            successor = _successor(path, file)
            if successor is not None:
                # What was written between the last look and the rotation, by another process, say.
                for lines, remainder in _whole_lines(file, rest):
                    rest = remainder
                    yield formatter.format(lines)
                file.close()
                file, rest = successor, b""
                continue
            if not options.follow or not still_open:
                return
            await grown.wait()
    finally:
        stop_following()
        file.close()


def _whole_lines(file: BinaryIO, rest: bytes) -> Iterator[tuple[list[bytes], bytes]]:
    """Lines up to the present end of the file, in blocks, each with the unfinished rest after it."""
    while data := file.read(_BLOCK):
        *lines, rest = (rest + data).split(b"\n")
        yield lines, rest


def _successor(path: Path, file: BinaryIO) -> BinaryIO | None:
    """The file that came after the one being read, when that was rotated away, be it long ago: those between it and the
    present one are read, too, as far as they are still there."""
    own = os.fstat(file.fileno()).st_ino
    for _ in range(_TRIES):
        try:
            present = path.stat().st_ino
        except OSError:  # it is being rotated, or its pod has gone
            return None
        if present == own:
            return None
        rotated = list(_regular(rotated_files(path)))
        numbers = [number for number, _ in rotated]
        later = rotated[numbers.index(own) + 1 :] if own in numbers else rotated
        for number, one in (*later, (present, path)):
            successor = _opened(one, number)
            if successor is not None:
                return successor
        # what the path named was rotated away, too
    return None


def _regular(files: list[Path]) -> Iterator[tuple[int, Path]]:
    """Those that are there and are files, with their inodes."""
    for one in files:
        with suppress(OSError):
            found = one.lstat()
            if stat.S_ISREG(found.st_mode):
                yield found.st_ino, one


def _opened(path: Path, number: int) -> BinaryIO | None:
    """None where it is not the file with this inode any more."""
    try:
        file = path.open("rb")
    except OSError:
        return None
    if os.fstat(file.fileno()).st_ino == number:
        return file
    file.close()
    return None


def _tail_offset(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` whole output lines begin: parts of a line count with its end."""
    end = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return end
    position, buffer = end, b""
    while position > 0:
        step = min(_BLOCK, position)
        position -= step
        file.seek(position)
        buffer = file.read(step) + buffer
        starts = _line_starts(buffer, complete=position == 0)
        if len(starts) >= lines:
            return position + starts[-lines]
    return 0


def _line_starts(buffer: bytes, *, complete: bool) -> list[int]:
    """Offsets at which output lines begin: after every CRI line that ends one.

    `complete`: the buffer begins where the file does. Else its first line may be cut, and tells nothing.
    """
    starts: list[int] = []
    ended = complete
    offset = 0
    lines = buffer.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for index, line in enumerate(lines):
        with suppress(ValueError):  # what is no line is not shown
            _, _, partial, _ = parse(line)
            if ended:
                starts.append(offset)
            ended = not partial and (index > 0 or complete)
        offset += len(line) + 1
    return starts
