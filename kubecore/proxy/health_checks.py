"""Health check node ports: what load balancers ask to learn which nodes have endpoints of a Service.

(kubernetes `pkg/proxy/healthcheck/service_health.go`.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from kubecore.proxy.http_answers import Answer, HttpAnswers
from kubecore.proxy.virtual_servers import HealthCheck


class HealthChecks:
    """A server for each Service that asks for one. `healthy` tells whether the proxy itself is."""

    def __init__(self, addresses: Sequence[str], healthy: Callable[[], bool]) -> None:
        self._addresses = tuple(addresses)
        self._healthy = healthy
        self._wanted: dict[str, HealthCheck] = {}
        self._servers: dict[str, tuple[int, HttpAnswers]] = {}

    async def set(self, service: str, check: HealthCheck | None) -> None:
        """What a Service (its key) asks for now. Raises OSError when its port cannot be had."""
        if check is None:
            self._wanted.pop(service, None)
        else:
            self._wanted[service] = check
        port, server = self._servers.get(service, (0, None))
        if server is not None and (check is None or check.port != port):
            server.close()
            del self._servers[service]
            server = None
        if check is not None and server is None:
            await self._open(service, check.port)

    async def _open(self, service: str, port: int) -> None:
        server = HttpAnswers(partial(self._answer, service))
        try:
            for address in self._addresses:
                await server.listen(address, port)
        except OSError:
            server.close()
            raise
        self._servers[service] = port, server

    def _answer(self, service: str, _path: str) -> Answer:
        namespace, _, name = service.partition("/")
        count, healthy = self._wanted[service].endpoints, self._healthy()
        told = {
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": count,
            "serviceProxyHealthy": healthy,
        }
        return Answer(
            json.dumps(told, indent="\t").encode(),
            "application/json",
            200 if count and healthy else 503,
            {"X-Load-Balancing-Endpoint-Weight": str(count)},
        )

    def close(self) -> None:
        for _, server in self._servers.values():
            server.close()
        self._servers.clear()
        self._wanted.clear()
