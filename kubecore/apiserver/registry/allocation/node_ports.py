"""Ports every node opens for Services of type NodePort and LoadBalancer."""

from __future__ import annotations

from collections.abc import Callable

from kubecore.apiserver.registry.allocation.cluster_ips import AllocationError, RangeFull
from kubecore.apiserver.registry.allocation.metrics import DYNAMIC, STATIC, InUse, of_node_ports
from kubecore.apiserver.registry.allocation.pool import NumberPool, static_band

_TAKEN = "provided port is already allocated"
# What a dry run shows where a port would be picked, when nothing else is known of ports.
_PICKED_IN_DRY_RUN = 32769
# So many picked ones may be somebody else's before one is handed out after all; its proxy tells that it is taken.
_MOST_PASSED_OVER = 100


class NodePorts:
    """A range of ports. A port is one number for all protocols: a Service may use it once for each protocol.

    `is_anybodys`: whether a port is somebody else's at the nodes, who share their host with other clusters. Such ones
    are picked only when there is no other.
    """

    def __init__(self, ports: range, is_anybodys: Callable[[int], bool] | None = None) -> None:
        self.ports = ports
        self._is_anybodys = is_anybodys
        self._pool = NumberPool(len(ports), static=static_band(len(ports), least=16, most=128, step=32))
        self._asked = of_node_ports()
        self.metrics = self._asked.metrics(self._in_use)

    def __contains__(self, port: int) -> bool:
        """Whether the port is taken."""
        return port in self.ports and (port - self.ports.start) in self._pool

    def take(self, port: int) -> None:
        """Takes a certain port. Raises AllocationError when it is outside the range or taken."""
        if port not in self.ports:
            self._asked.failed(STATIC)
            valid = f"The range of valid ports is {self.ports.start}-{self.ports.stop - 1}"
            raise AllocationError(f"provided port is not in the valid range. {valid}")
        if not self._pool.take(port - self.ports.start):
            self._asked.failed(STATIC)
            raise AllocationError(_TAKEN)
        self._asked.taken(STATIC)

    def take_any(self) -> int:
        """Takes a free port. Raises RangeFull when there is none."""
        number = self._pick()
        if number is None:
            self._asked.failed(DYNAMIC)
            raise RangeFull
        self._asked.taken(DYNAMIC)
        return self.ports.start + number

    def _pick(self) -> int | None:
        number, passed_over = self._pool.take_any(), list[int]()
        if self._is_anybodys is not None:
            while number is not None and self._is_anybodys(self.ports.start + number):
                passed_over.append(number)
                number = self._pool.take_any() if len(passed_over) < _MOST_PASSED_OVER else None
        if number is None and passed_over:
            number = passed_over.pop()
        for one in passed_over:
            self._pool.give_back(one)
        return number

    def give_back(self, port: int) -> None:
        if port in self.ports:
            self._pool.give_back(port - self.ports.start)

    def restore(self, port: int) -> None:
        """Marks a port that a stored Service has."""
        if port in self.ports:
            self._pool.take(port - self.ports.start)

    def _in_use(self) -> list[InUse]:
        taken = len(self._pool)
        return [InUse((), taken, len(self.ports) - taken)]


class PortOperation:
    """The ports one request takes and gives back: taken at once, given back when it has succeeded.

    A dry run takes nothing and does not look at the range (kubernetes `portallocator/operation.go`).
    """

    def __init__(self, ports: NodePorts, *, dry_run: bool) -> None:
        self._ports = ports
        self._dry_run = dry_run
        self._taken: set[int] = set()
        self._highest = 0
        self._given_back: list[int] = []

    def take(self, port: int) -> None:
        """Raises AllocationError."""
        if not self._dry_run:
            self._ports.take(port)
        elif port in self._ports or port in self._taken:
            raise AllocationError(_TAKEN)
        self._keep(port)

    def take_any(self) -> int:
        """Raises AllocationError."""
        picked = self._highest + 1 if self._taken else _PICKED_IN_DRY_RUN
        port = picked if self._dry_run else self._ports.take_any()
        self._keep(port)
        return port

    def _keep(self, port: int) -> None:
        self._taken.add(port)
        self._highest = max(self._highest, port)

    def give_back(self, port: int) -> None:
        """Once the request has succeeded."""
        self._given_back.append(port)

    def finish(self, succeeded: bool) -> None:
        if not self._dry_run:
            for port in self._given_back if succeeded else self._taken:
                self._ports.give_back(port)
