"""What both versions of control groups have in common: directories that are made, entered and removed."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.cgroups.interface import CgroupError

_PROCESSES = "cgroup.procs"
NODE_PREFIX = "kubecore-"
_DEAD_FOR_SECONDS = 3600.0


class Tree:
    """The same groups in every one of `roots`, the node's own group in each hierarchy. Each lies in a folder named
    after the node, which is locked for as long as the node lives."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._to_go: set[str] = set()
        self._held = -1

    def start(self) -> None:
        """As `Cgroups.start`."""
        self.sweep()
        self.make("")
        self._hold()
        self._remove_dead_nodes()

    def join(self) -> None:
        """As `Cgroups.join`: they stay as long as any process is in it."""
        self._hold()

    def _hold(self) -> None:
        if self._held < 0:
            with suppress(OSError):
                self._held = os.open(self.roots[0].parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._held, fcntl.LOCK_SH)

    def _remove_dead_nodes(self) -> None:
        """Those of nodes that were killed and never came back, once nothing runs in them."""
        own = self.roots[0].parent
        now = self.roots[0].stat().st_mtime  # it has just been made
        for folder in own.parent.glob(f"{NODE_PREFIX}*"):
            if folder == own or not _is_free(folder) or now - folder.stat().st_mtime < _DEAD_FOR_SECONDS:
                continue
            for root in self.roots:
                for inner in _inside_out(root.parent.parent / folder.name):
                    with suppress(OSError):
                        inner.rmdir()

    def make(self, path: str) -> None:
        for root in self.roots:
            try:
                (root / path).mkdir(mode=0o755, parents=path == "", exist_ok=True)
            except OSError as error:
                raise CgroupError(f"failed to create cgroup {root / path}: {error.strerror}") from error

    def doors(self, path: str, file: str = _PROCESSES) -> list[int]:
        """As `Cgroups.doors`. `file`: the group's by which it is entered."""
        opened: list[int] = []
        try:
            for root in self.roots:
                opened.append(os.open(root / path / file, os.O_WRONLY | os.O_CLOEXEC))  # noqa: PERF401
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            raise CgroupError(f"failed to enter cgroup {path}: {error.strerror}") from error
        return opened

    def remove(self, path: str) -> None:
        self._to_go.add(path)
        self._to_go = {one for one in self._to_go if not self._gone(one)}

    def sweep(self) -> None:
        """End all that lives in the groups, and remove them."""
        for root in self.roots:
            for folder in _inside_out(root):
                with suppress(OSError):
                    for pid in (folder / _PROCESSES).read_text().split():
                        with suppress(ProcessLookupError, PermissionError):
                            os.kill(int(pid), signal.SIGKILL)
        self._gone("")

    def close(self) -> None:
        self._gone("")
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        for root in self.roots:
            with suppress(OSError):  # another node of this machine is in it
                root.parent.rmdir()

    def _gone(self, path: str) -> bool:
        """Removed; False while there are processes in it, be it dying ones."""
        left = False
        for root in self.roots:
            for folder in _inside_out(root / path):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    continue
                except OSError:
                    left = True
        return not left


def _is_free(folder: Path) -> bool:
    """Nobody holds it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
        return True
    return False


def _inside_out(folder: Path) -> Iterable[Path]:
    return [Path(one) for one, _, _ in os.walk(folder, topdown=False)]


def set_file(file: Path, value: int | str) -> None:
    """Raises CgroupError in runc's words."""
    try:
        file.write_text(str(value))
    except OSError as error:
        raise CgroupError(f'failed to write "{value}" to {file.parent.name}/{file.name}: {error.strerror}') from error


def read_counter(file: Path, name: str) -> int:
    """A line `NAME NUMBER` of a file; 0 without one."""
    with suppress(OSError):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
