"""What a killed run of mode ipvs has left, where the next one is of another mode: packets would be led by it before any
socket or table of ours is asked."""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kubecore.proxy.ipvs.messages import BY_MARK, Connection

# Each cluster of a host has a share of the marks with this beginning.
_MARKS, _CLUSTERS, _MARKS_EACH = 0x6C000000, 64, 1 << 18
_IN_USE = Path("/proc/net/ip_vs")


def own_marks(table: str) -> range:
    """Of the cluster whose tables have this name."""
    first = _MARKS + zlib.crc32(table.encode()) % _CLUSTERS * _MARKS_EACH
    return range(first, first + _MARKS_EACH)


def sweep(table: str, ranges: Iterable[str]) -> None:
    """Virtual services in the `ranges`, which are the cluster's alone, and those by its marks go. Those at the node's
    own addresses stay: they may be anybody's. Raises OSError."""
    if _IN_USE.exists():
        connection = Connection()
        try:
            remove(connection, table, ranges)
        finally:
            connection.close()


def remove(connection: Connection, table: str, ranges: Iterable[str]) -> None:
    networks, marks = list(map(ipaddress.ip_network, ranges)), own_marks(table)
    for key in connection.services():
        protocol, address, number = key
        if protocol == BY_MARK:
            ours = number in marks
        else:
            ours = any(ipaddress.ip_address(address) in network for network in networks)
        if ours:
            with suppress(FileNotFoundError, ProcessLookupError):
                connection.delete_service(key)
