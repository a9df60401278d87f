"""Ports that pods take on their node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

HostPort = tuple[str, str, int]
"""(address, protocol, port)."""

_ANY = "0.0.0.0"


def host_ports(spec: dict[str, Any]) -> Iterator[HostPort]:
    """Every port that a pod of this spec takes on its node."""
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                yield (port.get("hostIP") or _ANY, port.get("protocol") or "TCP", int(port["hostPort"]))


def conflicts(wanted: HostPort, taken: Iterable[HostPort]) -> bool:
    """A port taken on all addresses is taken on each of them, and the other way round."""
    address, protocol, port = wanted
    return any(
        protocol == other_protocol and port == other_port and (_ANY in (address, other) or address == other)
        for other, other_protocol, other_port in taken
    )
