"""A cluster in memory and its proxy, in virtual time."""

from __future__ import annotations

from typing import Any

from kubecore.client.client import Object
from kubecore.proxy.modes import ProxyConfig
from kubecore.proxy.proxy import ServiceProxy
from tests.support.running import RunningComponent
from tests.unit.proxy.builders import service, vip

SLICES = "endpointslices.discovery.k8s.io"


class Running(RunningComponent):
    """A cluster and its proxy, in virtual time."""

    resources = {"Service": "services", "EndpointSlice": SLICES}
    proxy: ServiceProxy

    async def start(self, **config: Any) -> None:
        settings = ProxyConfig(**config)
        client = self.api.client("kube-proxy")
        self.proxy = ServiceProxy(client, self.clock, settings, native_clock=self.clock.native)
        await self.run(self.proxy.run())
        assert self.proxy.ready.is_set()

    # ------------------------------------------------------------------ seeing
    def served(self) -> dict[str, list[str]]:
        """Endpoints by address and port of what is listened for."""
        return {
            f"{row['address']}:{row['port']}": sorted(f"{one['address']}:{one['port']}" for one in row["destinations"])
            for row in self.proxy.rows()
            if row["listening"]
        }

    def events(self) -> list[str]:
        return [f"{one['type']} {one['reason']} {one['message']}" for one in self.api.all("events")]


def web(number: int = 1, name: str = "web", **fields: Any) -> Object:
    return service(name, ips=[vip(number)], **fields)


AT = f"{vip(1)}:8080"
