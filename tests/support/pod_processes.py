"""Processes of pods, as the host sees them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def first_process_beside(pid: int) -> int:
    """The first one of the pid namespace that a process is in."""
    namespace = Path(f"/proc/{pid}/ns/pid").readlink()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "ns/pid").readlink() == namespace and _number_inside(entry) == 1:
                return int(entry.name)
    raise LookupError(f"{namespace} has no first process")


def _number_inside(process: Path) -> int:
    """In its own pid namespace."""
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[-1]) for line in lines if line.startswith("NSpid:"))


def with_word(word: str) -> list[int]:
    """Processes with this word among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and word.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found
