"""What processes use of the machine, read from /proc: a container's with all that descend from them, and the node's.

CPU counts what ended, too, once its parent has waited for it. Memory is what is resident, of pages that several share
the share (PSS), so that a sum counts nothing twice; where the kernel does not tell us that, anonymous and shared pages.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK_NANOSECONDS = 10**9 // os.sysconf("SC_CLK_TCK")
_OWN_MEMORY = ("RssAnon:", "RssShmem:")


@dataclass(frozen=True, slots=True)
class Used:
    """CPU time since the start, in nanoseconds; memory in bytes."""

    cpu: int
    memory: int


def of_processes(pid: int) -> Used | None:
    """Of a process and its descendants; None when it is gone."""
    first = _of_process(pid)
    if first is None:
        return None
    cpu, memory = first.cpu, first.memory
    waiting = _children(pid)
    while waiting:
        child = waiting.pop()
        used = _of_process(child)
        if used is not None:
            cpu, memory = cpu + used.cpu, memory + used.memory
            waiting += _children(child)
    return Used(cpu, memory)


def count_processes(pid: int) -> int:
    """A process and its descendants."""
    count, waiting = 0, [pid]
    while waiting:
        count += 1
        waiting += _children(waiting.pop())
    return count


def of_machine() -> Used:
    """All that the machine does, idling and waiting for disks aside; memory without what is only cached."""
    user, nice, system, _, _, irq, softirq, steal = map(int, (_PROC / "stat").read_text().split()[1:9])
    ticks = user + nice + system + irq + softirq + steal
    memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in (_PROC / "meminfo").read_text().splitlines()}
    taken = memory["MemTotal"] - memory["MemFree"] - memory.get("Inactive(file)", 0)
    return Used(ticks * _TICK_NANOSECONDS, max(0, taken))


def _of_process(pid: int) -> Used | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
        memory = _memory(pid)
    except OSError:
        return None
    # The name, in brackets, may hold anything; utime, stime, cutime and cstime follow it.
    fields = stat[stat.rindex(b")") + 2 :].split()
    ticks = sum(map(int, fields[11:15]))
    return Used(ticks * _TICK_NANOSECONDS, memory)


def _memory(pid: int) -> int:
    """In bytes. Raises OSError when the process is gone."""
    with suppress(PermissionError, FileNotFoundError):
        return _sum((_PROC / str(pid) / "smaps_rollup").read_text(), ("Pss:",))
    return _sum((_PROC / str(pid) / "status").read_text(), _OWN_MEMORY)


def _sum(text: str, names: tuple[str, ...]) -> int:
    """Of lines that tell kilobytes."""
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(names))


def _children(pid: int) -> list[int]:
    """Of all its threads."""
    found: list[int] = []
    with suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return found
