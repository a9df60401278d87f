"""Containers' logs on disk: CRI format, one file per container attempt, rotated by size.

A line is `TIMESTAMP STREAM TAG CONTENT`: RFC 3339 with nanoseconds, stdout or stderr, F for the end of a line and P
for a part of a longer one. Layout (design-proposals-archive `node/kubelet-cri-logging.md`):

    <root>/var/log/pods/<namespace>_<pod>_<uid>/<container>/<attempt>.log
    <root>/var/log/containers/<pod>_<namespace>_<container>-<container id>.log   -> the file above
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path

from kubecore.clock import Clock

MAX_LINE_BYTES = 16 * 1024
"""A longer line is written in parts, as containerd does it."""


@dataclass(frozen=True, slots=True)
class LogRotation:
    """A log's file is set aside before it grows beyond `file_bytes`, and `files` of it are kept with the open one."""

    file_bytes: int = 10 * 1024 * 1024
    files: int = 5


def pod_log_directory(root: Path, namespace: str, name: str, uid: str) -> Path:
    return root / "var/log/pods" / f"{namespace}_{name}_{uid}"


def container_link(root: Path, pod: str, namespace: str, container: str, container_id: str) -> Path:
    return root / "var/log/containers" / f"{pod}_{namespace}_{container}-{container_id}.log"


def format_nanoseconds(when: datetime) -> str:
    """RFC 3339 in UTC with nine digits of fraction, which sorts as text."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond * 1000:09d}Z"


class LogBook:
    """Tells who follows a log that it grew, and who writes it when to rotate it. One for a node: writers and readers
    share a process."""

    def __init__(self, rotation: LogRotation | None = None) -> None:
        self.rotation = rotation or LogRotation()
        self._followers: dict[Path, set[Callable[[], None]]] = {}
        self._open: set[Path] = set()
        self.on_followed: list[Callable[[Path, bool], None]] = []
        """Called when a log begins to be followed, and when it is not any more: of those who write it elsewhere."""

    def follow(self, path: Path, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after every write to the log and when it is closed; returns what ends that."""
        if path not in self._followers:
            self._followers[path] = set()
            self._tell(path, True)
        self._followers[path].add(callback)

        def end() -> None:
            followers = self._followers.get(path)
            if followers is not None:
                followers.discard(callback)
                if not followers:
                    del self._followers[path]
                    self._tell(path, False)

        return end

    def _tell(self, path: Path, followed: bool) -> None:
        for heard in self.on_followed:
            heard(path, followed)

    def is_open(self, path: Path) -> bool:
        """Whether a container still writes this log."""
        return path in self._open

    def opened(self, path: Path) -> None:
        self._open.add(path)

    def wrote(self, path: Path) -> None:
        for callback in list(self._followers.get(path, ())):
            callback()

    def closed(self, path: Path) -> None:
        self._open.discard(path)
        self.wrote(path)


class LogWriter:
    """Writes one container's output. No line is lost at a rotation: it happens between two writes."""

    def __init__(self, path: Path, clock: Clock, book: LogBook) -> None:
        self.path = path
        self._clock = clock
        self._book = book
        self._rotation = book.rotation
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open(path)
        self._size = self._file.tell()
        self._unfinished = {"stdout": b"", "stderr": b""}
        book.opened(path)

    def write(self, stream: str, data: bytes) -> None:
        """Take output as it came; what is not a whole line yet waits for the rest."""
        *lines, rest = (self._unfinished[stream] + data).split(b"\n")
        prefix = f"{format_nanoseconds(self._clock.now())} {stream} ".encode()
        out = [_formatted(lines, prefix)] if lines else []
        while len(rest) >= MAX_LINE_BYTES:
            out.append(prefix + b"P " + rest[:MAX_LINE_BYTES] + b"\n")
            rest = rest[MAX_LINE_BYTES:]
        self._unfinished[stream] = rest
        if out:
            self._append(b"".join(out))

    def close(self) -> None:
        """The container has ended: write what has no newline, as a part that no line ends, and tell followers."""
        for stream, rest in self._unfinished.items():
            if rest:
                prefix = f"{format_nanoseconds(self._clock.now())} {stream} ".encode()
                self._append(prefix + b"P " + rest + b"\n")
                self._unfinished[stream] = b""
        self._file.close()
        self._book.closed(self.path)

    def _append(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._rotation.file_bytes:
            self._rotate()
        written = 0
        try:
            while written < len(data):
                written += self._file.write(memoryview(data)[written:]) or 0
        except OSError:
            # A full disk costs the log, never the container. What follows begins with a line of its own.
            written = data.rfind(b"\n", 0, written) + 1
            with suppress(OSError):
                self._file.truncate(self._size + written)
        finally:
            self._size += written
            self._book.wrote(self.path)

    def _rotate(self) -> None:
        """`0.log` becomes `0.log.<time>`; of those the oldest go, so that `max_files` remain with the new one."""
        self._file.close()
        stamp = self._clock.now().strftime("%Y%m%d-%H%M%S%f")
        with suppress(OSError):
            self.path.rename(self.path.with_name(f"{self.path.name}.{stamp}"))
        self._file = _open(self.path)
        self._size = self._file.tell()
        rotated = rotated_files(self.path)
        for old in rotated[: max(len(rotated) - self._rotation.files + 1, 0)]:
            old.unlink(missing_ok=True)


def _open(path: Path) -> FileIO:
    """To append. What a container says is nobody's business but its owner's: as container runtimes have it, 0640."""
    return FileIO(path, "a", opener=lambda name, flags: os.open(name, flags, 0o640))


def _formatted(lines: list[bytes], prefix: bytes) -> bytes:
    """Whole lines; all at once, unless one of them is longer than may be."""
    head = prefix + b"F "
    if max(map(len, lines)) <= MAX_LINE_BYTES:
        return head + (b"\n" + head).join(lines) + b"\n"
    return b"".join(_parts(line, prefix) for line in lines)


def _parts(line: bytes, prefix: bytes) -> bytes:
    starts = range(0, max(len(line), 1), MAX_LINE_BYTES)
    parts = [line[start : start + MAX_LINE_BYTES] for start in starts]
    return b"".join(prefix + b"P " + part + b"\n" for part in parts[:-1]) + prefix + b"F " + parts[-1] + b"\n"


def rotated_files(path: Path) -> list[Path]:
    """Of a log that were set aside, the oldest first."""
    return sorted(path.parent.glob(f"{path.name}.*"))


def make_link(link: Path, target: Path) -> None:
    """Point the container's link to its log, replacing an old one."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def remove_pod(root: Path, namespace: str, name: str, uid: str, containers: Mapping[str, str]) -> None:
    """All logs of a pod. `containers`: the ids of the present ones by name, "" for one that has not been."""
    shutil.rmtree(pod_log_directory(root, namespace, name, uid), ignore_errors=True)
    for container, container_id in containers.items():
        if container_id:
            container_link(root, name, namespace, container, container_id).unlink(missing_ok=True)


def remove_dead_links(root: Path) -> None:
    """Links of containers whose logs are gone."""
    folder = root / "var/log/containers"
    if not folder.is_dir():
        return
    for link in folder.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)
