"""What both versions of control groups have in common: directories that are made, entered and removed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.cgroups.interface import CgroupError

_PROCESSES = "cgroup.procs"


class Tree:
    """The same groups in every one of `roots`, the node's own group in each hierarchy."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._to_go: set[str] = set()

    def start(self) -> None:
        """As `Cgroups.start`."""
        self.sweep()
        self.make("")

    def make(self, path: str) -> None:
        for root in self.roots:
            try:
                (root / path).mkdir(mode=0o755, parents=path == "", exist_ok=True)
            except OSError as error:
                raise CgroupError(f"failed to create cgroup {root / path}: {error.strerror}") from error

    def doors(self, path: str) -> list[int]:
        opened: list[int] = []
        try:
            for root in self.roots:
                opened.append(os.open(root / path / _PROCESSES, os.O_WRONLY | os.O_CLOEXEC))  # noqa: PERF401
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
