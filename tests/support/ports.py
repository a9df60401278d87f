"""Ports that a test may count on: nobody has them, and nobody gets them while the test's process lives.

One that the kernel has picked and that is closed again may be anybody's a moment later: a client's, say. These are of a
range from which the kernel picks none, below node ports and above what tests name themselves. Each is held against
other tests of this machine by an abstract Unix socket, which is gone with its process.
"""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import suppress

_RANGE = range(20_000, 30_000)
_held: list[socket.socket] = []
# Processes begin at places of their own, so that few are asked in vain.
_numbers = itertools.cycle([*_RANGE[os.getpid() * 16 % len(_RANGE) :], *_RANGE[: os.getpid() * 16 % len(_RANGE)]])


def free_port() -> int:
    """Free for TCP and UDP at every address, and given once. Who connects to it is refused until it is listened on."""
    for port in itertools.islice(_numbers, len(_RANGE)):
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0kubecore/test-port/{port}")
        except OSError:
            holder.close()
            continue
        if _nobody_has(port):
            _held.append(holder)
            return port
        holder.close()
    raise RuntimeError("no free port found")


def _nobody_has(port: int) -> bool:
    with suppress(OSError):
        families = [(socket.AF_INET, "0.0.0.0")] + [(socket.AF_INET6, "::")] * socket.has_dualstack_ipv6()
        for family, everywhere in families:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(family, kind) as probe:
                    probe.bind((everywhere, port))
        return True
    return False
