"""The addresses that Services can have, of one family or of both."""

from __future__ import annotations

from collections.abc import Iterable

from kubecore.apiserver.registry.allocation.cluster_ips import ClusterIPs
from kubecore.apiserver.registry.allocation.metrics import InUse, of_addresses
from kubecore.apiserver.registry.validation.service_addresses import family_of


class ServiceAddresses:
    """Of one API server. What is said of addresses of a family that the cluster does not have is let pass: Services
    made while it had them keep them."""

    def __init__(self, cidrs: str) -> None:
        """`cidrs`: one range, or one of each family, comma separated; the first one's family is the cluster's own.
        Raises ValueError."""
        self._pools: dict[str, ClusterIPs] = {}
        asked = of_addresses()
        self.metrics = asked.metrics(self._in_use)
        for cidr in cidrs.split(","):
            pool = ClusterIPs(cidr.strip(), asked)
            if pool.family in self._pools:
                raise ValueError(f"{cidrs}: two ranges of {pool.family}")
            self._pools[pool.family] = pool

    @property
    def families(self) -> tuple[str, ...]:
        """As in ipFamilies; the cluster's own first."""
        return tuple(self._pools)

    def of(self, family: str) -> ClusterIPs:
        """KeyError for a family that the cluster does not have."""
        return self._pools[family]

    def set_ranges(self, owner: str, cidrs: Iterable[str]) -> None:
        """As ClusterIPs; each family takes its own."""
        given = list(cidrs)
        for pool in self._pools.values():
            pool.set_ranges(owner, given)

    def contains(self, address: str) -> bool:
        pool = self._pool(address)
        return pool is not None and pool.contains(address)

    def stands(self, address: str) -> bool:
        pool = self._pool(address)
        return pool is not None and pool.stands(address)

    def give_back(self, address: str) -> None:
        pool = self._pool(address)
        if pool is not None:
            pool.give_back(address)

    def restore(self, address: str) -> None:
        pool = self._pool(address)
        if pool is not None:
            pool.restore(address)

    def hold(self, address: str) -> bool:
        pool = self._pool(address)
        return pool is not None and pool.hold(address)

    def let_go(self, address: str) -> None:
        pool = self._pool(address)
        if pool is not None:
            pool.let_go(address)

    def _in_use(self) -> list[InUse]:
        return [one for pool in self._pools.values() for one in pool.in_use()]

    def _pool(self, address: str) -> ClusterIPs | None:
        return self._pools.get(family_of(address))
