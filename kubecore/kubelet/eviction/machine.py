"""How much the machine has left of what nodes run short of."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.eviction.thresholds import Observation

_PROC = Path("/proc")


def observe(root: Path) -> dict[str, Observation]:
    """By signal. `root`: the folder whose file system holds the node's files, images included."""
    disk = os.statvfs(root)
    space = Observation(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
    found = {"memory.available": _memory(), "nodefs.available": space, "imagefs.available": space}
    if disk.f_files:
        inodes = Observation(disk.f_favail, disk.f_files)
        found |= {"nodefs.inodesFree": inodes, "imagefs.inodesFree": inodes}
    with suppress(OSError, ValueError):
        found["pid.available"] = processes()
    return found


def _memory() -> Observation:
    """What could be had without swapping: the kernel's own estimate, which counts what is only cached as available."""
    lines = (line.split(":") for line in (_PROC / "meminfo").read_text().splitlines())
    kilobytes = {name: int(rest.split()[0]) for name, rest in lines}
    return Observation(kilobytes["MemAvailable"] * 1024, kilobytes["MemTotal"] * 1024)


def processes() -> Observation:
    running = int((_PROC / "loadavg").read_text().split()[3].split("/")[1])
    most = min(int((_PROC / "sys/kernel" / name).read_text()) for name in ("pid_max", "threads-max"))
    return Observation(most - running, most)
