"""The tables of mode nftables on the node of a world (`net_world`), which have what a test asks for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kubecore.proxy.modes import ProxyConfig, make_data_plane
from kubecore.proxy.nftables.table import NftablesTable
from kubecore.proxy.virtual_servers import VirtualServer
from tests.support.net_world import World

TABLE = "kubecore-test"
ONE, TWO = ("10.244.0.11", 8080), ("10.244.0.12", 8080)
ONE_SIX, TWO_SIX = ("fd44::11", 8080), ("fd44::12", 8080)


def serve_pods(world: World) -> None:
    """Those at ONE and ONE_SIX say "one", the others "two"."""
    for address, port in (ONE, ONE_SIX):
        world.serve(world.one, address, port, "one")
    for address, port in (TWO, TWO_SIX):
        world.serve(world.two, address, port, "two")


class Plane:
    def __init__(self, world: World, **settings: Any) -> None:
        """`settings`: of the ProxyConfig, beside those that the world asks for."""
        self._world = world
        config = ProxyConfig(
            mode="nftables",
            network_mode="netns",
            address_link=world.BRIDGE,
            table=TABLE,
            pod_ranges=("10.244.0.0/16", "fd44::/64"),
            service_ranges=("10.96.0.0/16", "fd96::/112"),
            **settings,
        )
        with world.node.here():
            made = make_data_plane(config, None)
        assert isinstance(made, NftablesTable)
        self._plane = made

    def have(self, *servers: VirtualServer, service: str = "default/web") -> None:
        with self._world.node.here():
            problems, _ = self._plane.apply(service, servers)
            self._plane.commit()
        assert problems == []

    def look_after(self) -> Collection[str] | None:
        """What is lost is made again."""
        with self._world.node.here():
            lost = self._plane.restore()
            self._plane.commit()
        return lost

    def rows(self) -> list[dict[str, Any]]:
        with self._world.node.here():
            return self._plane.rows()

    def close(self) -> None:
        with self._world.node.here():
            self._plane.close()
