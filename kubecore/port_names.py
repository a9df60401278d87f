"""Ports of this host, as those see each other who lead packets away from them and who listen there.

Who has one holds a name in the kernel for as long, an abstract Unix socket, which its network namespace knows and which
is gone with its process. The kernel's own books do not do: one user's sockets may share a port, and where packets are
led away before a socket is looked for (sk_lookup, nf_tables, IPVS) there is none at all.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

EVERYWHERE = {4: "0.0.0.0", 6: "::"}
"""All addresses, by version."""
_PROTOCOLS = ("TCP", "UDP", "SCTP")
# So many clusters of a host may have one port, each at addresses of its own.
_CLUSTERS = 4


def claim(protocol: str, address: str, port: int) -> socket.socket:
    """It is the caller's until this is closed. OSError, EADDRINUSE where somebody has it."""
    return _bound(_of_one(protocol, address, port))


def is_claimed(protocol: str, address: str, port: int) -> bool:
    return _is_bound(_of_one(protocol, address, port))


def claim_for_pods(protocol: str, version: int, port: int) -> socket.socket | None:
    """Pods have the port at some of the host's addresses; None: others know that already."""
    try:
        return _bound(_of_pods(protocol, version, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return None


def is_pods(protocol: str, version: int, port: int) -> bool:
    """Whether pods have the port at any of the host's addresses."""
    return _is_bound(_of_pods(protocol, version, port))


def claim_for_node(protocol: str, version: int, port: int) -> socket.socket:
    """A cluster has the port at some of the host's addresses, as a few others may. OSError, EADDRINUSE where that would
    be too many."""
    for number in range(_CLUSTERS - 1):
        with suppress(OSError):
            return _bound(_of_node(protocol, version, port, number))
    return _bound(_of_node(protocol, version, port, _CLUSTERS - 1))


def is_nodes(protocol: str, version: int, port: int) -> bool:
    """Whether a cluster has the port at some of the host's addresses."""
    return any(_is_bound(_of_node(protocol, version, port, number)) for number in range(_CLUSTERS))


def is_anybodys(port: int) -> bool:
    """Whether a cluster of this host has the port as a node port, or pods have it, by any protocol at any address."""
    return any(
        is_claimed(protocol, everywhere, port) or is_nodes(protocol, version, port) or is_pods(protocol, version, port)
        for protocol in _PROTOCOLS
        for version, everywhere in EVERYWHERE.items()
    )


def claim_tables(name: str) -> socket.socket:
    """The kernel's tables of that name are the caller's until this is closed. OSError, EADDRINUSE where another proxy
    of this host has them."""
    return _bound(_of_tables(name))


def are_tables_claimed(name: str) -> bool:
    return _is_bound(_of_tables(name))


def shown(protocol: str, address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{protocol} {host}:{port}"


def _of_one(protocol: str, address: str, port: int) -> bytes:
    return f"\0kubecore/port/{shown(protocol, address, port)}".encode()


def _of_pods(protocol: str, version: int, port: int) -> bytes:
    return f"\0kubecore/host-port/{shown(protocol, EVERYWHERE[version], port)}".encode()


def _of_node(protocol: str, version: int, port: int, number: int) -> bytes:
    return f"\0kubecore/node-port/{number}/{shown(protocol, EVERYWHERE[version], port)}".encode()


def _of_tables(name: str) -> bytes:
    return f"\0kubecore/tables/{name}".encode()


def _bound(name: bytes) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.bind(name)
    except BaseException:
        made.close()
        raise
    return made


def _is_bound(name: bytes) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        return asking.connect_ex(name) == 0
