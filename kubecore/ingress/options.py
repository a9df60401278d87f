"""What the controller can be told. Light to import."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressConfig:
    """`address` is listened on once there is an Ingress, and published in its status unless `published` says another.
    Ports: None for 80 and 443, or the best there is instead; 0 for any. `batch_seconds`: how long changes are gathered
    before they are applied together; `grace_seconds`: how long requests may take when it ends.
    """

    address: str = "127.0.0.1"
    published: str = ""
    http_port: int | None = None
    https_port: int | None = None
    access_log: Path | None = None
    batch_seconds: float = 0.002
    grace_seconds: float = 1.0

    def at(self, *, bind_address: str, node_address: str) -> IngressConfig:
        """Of a cluster that binds this address: on the node's, which this cluster alone has, so that its ports are
        free; on the bind address where that is not the host's alone."""
        bind = ipaddress.ip_address(bind_address)
        if bind.is_loopback:
            return replace(self, address=node_address)
        return replace(self, address=bind_address, published=node_address if bind.is_unspecified else "")
