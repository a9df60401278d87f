"""What Prometheus' own clients tell of a process, under their names: its CPU time, memory and descriptors."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

from kubecore.metrics import Metric, Named, Reading

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_NETWORK = "Number of bytes {} by the process over the network."


def process_metrics() -> list[Metric]:
    """Of the process that asks; what cannot be read is not told."""
    return [
        _told("cpu_seconds_total", "Total user and system CPU time spent in seconds.", _cpu_seconds, "counter"),
        _told("max_fds", "Maximum number of open file descriptors.", _most_descriptors),
        _told("network_receive_bytes_total", _NETWORK.format("received"), lambda: _network("InOctets"), "counter"),
        _told("network_transmit_bytes_total", _NETWORK.format("sent"), lambda: _network("OutOctets"), "counter"),
        _told("open_fds", "Number of open file descriptors.", _descriptors),
        _told("resident_memory_bytes", "Resident memory size in bytes.", lambda: _memory(1)),
        _told("start_time_seconds", "Start time of the process since unix epoch in seconds.", _started),
        _told("virtual_memory_bytes", "Virtual memory size in bytes.", lambda: _memory(0)),
        _told("virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.", _most_memory),
    ]


def _told(name: str, told: str, read: Callable[[], float], kind: str = "gauge") -> Reading:
    def values() -> list[tuple[tuple[str, ...], float]]:
        try:
            return [((), read())]
        except OSError:
            return []

    return Reading(Named(f"process_{name}", told), values, kind)


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system


def _most_descriptors() -> float:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _descriptors() -> float:
    # but for the one that reads the folder
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1


def _memory(part: int) -> float:
    return int(Path("/proc/self/statm").read_text().split()[part]) * _PAGE


def _most_memory() -> float:
    """What stands for no limit is a number of 64 bits to Prometheus' clients."""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 2.0**64 - 1 if most == resource.RLIM_INFINITY else most


def _network(field: str) -> float:
    """Of all processes in the same network, as Prometheus' clients tell it."""
    lines = (line.split() for line in Path("/proc/self/net/netstat").read_text().splitlines())
    names, values = (words for words in lines if words and words[0] == "IpExt:")
    return int(values[names.index(field)])


def _started() -> float:
    """proc(5): the 22nd field of stat, in ticks since boot; fields after the name, which may hold anything."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return int(boot.split()[1]) + int(fields[19]) / _TICKS
