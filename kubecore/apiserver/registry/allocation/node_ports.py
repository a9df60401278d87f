"""Ports every node opens for Services of type NodePort and LoadBalancer."""

from __future__ import annotations

from kubecore.apiserver.registry.allocation.cluster_ips import AllocationError
from kubecore.apiserver.registry.allocation.pool import NumberPool, static_band


class NodePorts:
    """A range of ports. A port is one number for all protocols: a Service may use it once for each protocol."""

    def __init__(self, ports: range) -> None:
        self.ports = ports
        self._pool = NumberPool(len(ports), static=static_band(len(ports), least=16, most=128, step=32))

    def take(self, port: int) -> None:
        """Takes a certain port. Raises AllocationError when it is outside the range or taken."""
        if port not in self.ports:
            valid = f"The range of valid ports is {self.ports.start}-{self.ports.stop - 1}"
            raise AllocationError(f"provided port is not in the valid range. {valid}")
        if not self._pool.take(port - self.ports.start):
            raise AllocationError("provided port is already allocated")

    def take_any(self) -> int:
        """Takes a free port. Raises AllocationError when there is none."""
        number = self._pool.take_any()
        if number is None:
            raise AllocationError("range is full")
        return self.ports.start + number

    def give_back(self, port: int) -> None:
        if port in self.ports:
            self._pool.give_back(port - self.ports.start)

    def restore(self, port: int) -> None:
        """Marks a port that a stored Service has."""
        if port in self.ports:
            self._pool.take(port - self.ports.start)
