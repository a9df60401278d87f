"""The composition root: which parts a cluster consists of, in which order they start and end.

Everything below is handed what it needs; nothing else in the package wires components together. The parts share
one process, one event loop and, through their clients, one API server; a part run on its own (`kubecore scheduler`)
is the same code behind an HTTPS client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kubecore.clock import Clock, RealClock

if TYPE_CHECKING:
    from kubecore.apiserver.server import APIServer
    from kubecore.client.client import Client
    from kubecore.client.informer import InformerFactory

log = logging.getLogger("kubecore.cluster")

CLUSTER_DOMAIN = "cluster.local"
STOP_BUDGET_SECONDS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What `kubecore up` can be told. Ports: 0 picks a free one, except `insecure_port`, where 0 means off."""

    data_dir: Path = field(default_factory=lambda: Path.home() / ".kubecore")
    bind_address: str = "127.0.0.1"
    secure_port: int = 6443
    grpc_port: int = 6444
    insecure_port: int = 0
    nodes: int = 1
    default_runtime: str = "host"
    dns_port: int | None = None
    proxy_mode: str = "userspace"
    authorization_modes: tuple[str, ...] = ("Node", "RBAC")
    network_mode: str = "auto"
    """`netns`, `loopback`, or `auto`: pods in network namespaces where the kernel and the user's rights allow."""
